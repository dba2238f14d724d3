"""Finds the output that holds the classes and what its values are, by config.toml, the graph or a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import ModelLoadError
from service.feeds import listed
from service.graph_heads import Trace
from service.head_trial import ITEMS, trial_values
from service.head_values import are_logarithms, shown, sums_to_one, within_one
from service.heads import Head, Kind
from service.model import Model
from service.model_config import ModelConfig
from service.preprocessing import Preprocessing
from service.tensors import Array, Shape, TensorSpec

_log: FilteringBoundLogger = structlog.get_logger()


class NoHeadError(Exception):
    """No output holds classes; the message says why, and which line of config.toml would mend it."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An output of the right form.

    Attributes:
        name: Its name.
        classes: Values for each item.
        trace: What the graph tells of it.
        rows: What it was in a trial run, [N, classes]; None without one.
    """

    name: str
    classes: int
    trace: Trace
    rows: Array | None


def find_head(
    model: Model,
    image: TensorSpec,
    config: ModelConfig,
    preprocessing: Preprocessing,
    constants: Mapping[str, Array],
) -> Head:
    """Find the output that holds the classes, and what its values are.

    Args:
        model: The model.
        image: Its input for pictures.
        config: What its config.toml says.
        preprocessing: As `trial_values` has it, and `constants` too.

    Raises:
        NoHeadError: No output is known to hold classes, or several may.
        ModelLoadError: config.toml names an output that isn't there, or values that aren't.
    """
    by_name = {spec.name: spec for spec in model.outputs}
    if config.output is not None and config.output not in by_name:
        raise ModelLoadError(f'config.toml: output "{config.output}" is none of {", ".join(by_name)}')
    specs = [by_name[config.output]] if config.output is not None else list(model.outputs)
    values = trial_values(model, [spec.name for spec in specs], preprocessing, constants)
    items = ITEMS if image.shape and image.shape[0] is None else (image.shape or (None,))[0]
    found, problems = [], []
    for spec in specs:
        try:
            runs = values.get(spec.name, ())
            _check_rows(spec, runs, items)
            found.append(_candidate(model, config, spec, runs))
        except NoHeadError as problem:
            problems.append(str(problem))
    problems += [
        f'its output "{name}" is no tensor; scikit-learn\'s models are converted with the option zipmap=False'
        for name in model.graph.other_outputs
    ]
    return _decided(_only(found, problems), config)


def _only(found: Sequence[_Candidate], problems: Sequence[str]) -> _Candidate:
    """Return the only output of the right form."""
    if len(found) > 1:
        names = listed(candidate.name for candidate in found)
        raise NoHeadError(
            f"its outputs {names} may all hold classes; name the one that does in config.toml, such as "
            f'output = "{found[0].name}"'
        )
    if not found:
        raise NoHeadError("; ".join(problems[:5]) or "it has no output that is a tensor")
    return found[0]


def _candidate(model: Model, config: ModelConfig, spec: TensorSpec, runs: Sequence[Array]) -> _Candidate:
    value = runs[0] if runs else None
    dtype = spec.dtype if value is None else value.dtype
    if dtype is None or dtype.kind != "f":
        held = "texts" if dtype == np.dtype(object) else dtype or "an unknown type"
        raise NoHeadError(f'its output "{spec.name}" holds {held}; expected floating-point numbers')
    classes = _classes(spec, value, config)
    trace = model.graph.trace(spec.name, classes)
    rows = [run.reshape(-1, classes).astype(np.float64) for run in runs]
    candidate = _Candidate(spec.name, classes, trace, np.concatenate(rows) if rows else None)
    if classes == 1:
        _check_single(candidate, config)
    return candidate


def _check_rows(spec: TensorSpec, runs: Sequence[Array], items: int | None) -> None:
    for value in runs:
        if items is not None and value.ndim > 1 and len(value) != items:
            raise NoHeadError(
                f'its output "{spec.name}" has {len(value)} rows for {items} items; expected one for each'
            )


def _classes(spec: TensorSpec, value: Array | None, config: ModelConfig) -> int:
    """Tell how many values an item has: the size of the only axis besides the batch that isn't 1.

    A size that the file leaves open is taken from the trial's value, or from the labels of config.toml.
    """
    shape: Shape | None = spec.shape if value is None else value.shape
    if shape is None or len(shape) < 2:
        form = "an unknown shape" if shape is None else f"the shape {_written(spec.shape or shape)}"
        raise NoHeadError(f'its output "{spec.name}" has {form}; expected [N, classes], N items')
    wide = [size for size in shape[1:] if size != 1]
    if len(wide) > 1 or 0 in shape:
        raise NoHeadError(
            f'its output "{spec.name}" has the shape {_written(spec.shape or shape)}; '
            "expected one axis for the classes, besides the batch, and no other longer than 1"
        )
    classes = wide[0] if wide else 1
    if classes is None and config.labels is None:
        raise NoHeadError(
            f'the number of classes of its output "{spec.name}" is not known: the file leaves it open and no '
            "trial run succeeded; give the labels in config.toml: labels = [...]"
        )
    return len(config.labels or ()) if classes is None else classes


def _check_single(candidate: _Candidate, config: ModelConfig) -> None:
    """Take a single value for the probability of the positive class only if that is known."""
    told = _told(config, candidate)
    if told is not None and not told.for_itself:
        raise NoHeadError(
            f'its output "{candidate.name}" has one value for each item, and {told} needs two or more; say '
            'what it is in config.toml: head = "sigmoid" or head = "sigmoid_logits"'
        )
    if told is None and candidate.trace.kind is not Kind.SIGMOID:
        raise NoHeadError(
            f'its output "{candidate.name}" has one value for each item, and no sigmoid computes it; if it '
            'is the probability of a class say head = "sigmoid" in config.toml; if a sigmoid is to make it '
            'one say head = "sigmoid_logits"'
        )


def _decided(candidate: _Candidate, config: ModelConfig) -> Head:
    told = _told(config, candidate)
    if told is None:
        kind, reason = _found(candidate)
        return Head(candidate.name, kind, candidate.classes, reason)
    line = f'head = "{config.head}"' if config.head else f"softmax = {str(config.softmax).lower()}"
    if problem := _contradiction(candidate, told):
        if config.head is not None:
            raise ModelLoadError(f"config.toml: {line}, but {problem}")
        _log.warning("config.toml contradicts a trial run", line=line, found=problem)
    return Head(candidate.name, told, candidate.classes, f"config.toml says {line}")


def _told(config: ModelConfig, candidate: _Candidate) -> Kind | None:
    """Tell what config.toml says, by `head` or, as earlier releases had it, by `softmax`."""
    if config.head is not None or config.softmax is None:
        return config.head
    if config.softmax:
        return Kind.LOGITS
    alone = candidate.classes == 1 or candidate.trace.kind is Kind.SIGMOID
    return Kind.SIGMOID if alone else Kind.SOFTMAX


def _contradiction(candidate: _Candidate, told: Kind) -> str:
    """Tell what of a trial run can't be if the values are what config.toml says."""
    rows = candidate.rows
    if rows is None:
        return ""
    if told in (Kind.SOFTMAX, Kind.SIGMOID) and not within_one(rows, candidate.trace.step):
        span = f"from {rows.min():.3g} to {rows.max():.3g}"
        return f"values of a trial run go {span}; probabilities are between 0 and 1"
    if told is Kind.LOG_SOFTMAX and not are_logarithms(rows):
        return "the exponentials of a trial run's values don't sum to 1"
    return ""


def _found(candidate: _Candidate) -> tuple[Kind, str]:
    """Decide by the graph, if a trial run doesn't contradict it, else by the trial run."""
    trace, rows = candidate.trace, candidate.rows
    if trace.kind is not None and (rows is None or _confirmed(trace, rows)):
        return _kind_by_graph(trace, rows), _words_of(candidate)
    if rows is None:
        reason = "taken for logits: the graph doesn't tell, and no trial run succeeded"
        _log.warning("head not known", output=candidate.name, reason=reason)
        return Kind.LOGITS, reason
    judged = shown(rows, trace.step)
    if judged.kind is None:
        behind = f', although its {trace.op_type} "{trace.layer}"' if trace.kind is not None else ""
        _log.warning("head not known", output=candidate.name, reason=judged.words)
        raise NoHeadError(
            f'it isn\'t known what its output "{candidate.name}" holds: {judged.words}{behind}; say it in '
            'config.toml: head = "sigmoid" if each class has a probability by itself, head = "logits" if a '
            "softmax is to be applied"
        )
    return judged.kind, judged.words


def _confirmed(trace: Trace, rows: Array) -> bool:
    """Tell whether the values of a trial run can be what the graph says."""
    match trace.kind:
        case Kind.SOFTMAX:
            return sums_to_one(rows, trace.step)
        case Kind.LOG_SOFTMAX:
            return are_logarithms(rows)
        case _:
            return within_one(rows, trace.step)


def _kind_by_graph(trace: Trace, rows: Array | None) -> Kind:
    """Return what the graph says, but of scikit-learn's sigmoids that two classes share: p and 1 - p."""
    shared = trace.op_type.startswith("ai.onnx.ml") and rows is not None and rows.shape[1] == 2
    if trace.kind is Kind.SIGMOID and shared and rows is not None and sums_to_one(rows):
        return Kind.SOFTMAX
    return trace.kind or Kind.LOGITS


def _words_of(candidate: _Candidate) -> str:
    trace = candidate.trace
    operator = trace.op_type.removeprefix("ai.onnx.ml::")
    if operator in ("Div", "Reciprocal"):
        operator = f"{'sigmoid' if trace.kind is Kind.SIGMOID else 'softmax'}, written out,"
    if trace.layer == candidate.name:
        return f"{operator} computes it"
    return f'{operator} computes "{trace.layer}", and what follows only changes its form'


def _written(shape: Shape) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"
