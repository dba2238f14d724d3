"""What there is to know of a model that is loaded, and what its config.toml leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.checks.finding import Finding, Verdict, good, notice
from service.classifier import Classifier
from service.draft_config import IMAGENET_CLASSES
from service.feeds import listed
from service.inspection import Inspection
from service.model import Model
from service.picture_shape import picture_shape
from service.repository import ServedModel
from service.settings import MiB
from service.tensors import TensorSpec

_SOME = 3
"""Labels that are shown."""


def findings(inspection: Inspection) -> list[Finding]:
    """Tell everything about a model file."""
    served = inspection.served
    model = served.model
    return [
        good("file", _file(inspection)),
        good("inputs", _tensors(model.inputs)),
        good("outputs", _tensors(model.outputs)),
        good("batch", _batch(model)),
        good("layers", _layers(model)),
        good("memory", _memory(model)),
        *_use_of(served),
    ]


def advice(served: ServedModel) -> list[Finding]:
    """Tell what the config.toml of a model should say besides, if anything."""
    return [finding for finding in _use_of(served) if finding.verdict is not Verdict.GOOD]


def summary(served: ServedModel) -> str:
    """Tell in a line what a model is served as."""
    model = served.model
    return f"{len(model.graph.layers)} layers, on {model.provider}; {_use(served)}"


def _use_of(served: ServedModel) -> Iterator[Finding]:
    classifier = served.classifier_or_none
    if classifier is None:
        yield notice("classes", _use(served), "served over the Open Inference Protocol alone")
        return
    yield good("classes", _use(served))
    yield _labels(classifier)
    yield _pictures(classifier)


def _labels(classifier: Classifier) -> Finding:
    count = len(classifier.labels)
    if not classifier.is_numbered:
        return good("labels", f"{count}: {listed(classifier.labels, _SOME)}")
    line = 'labels = "imagenet-1k"' if count == IMAGENET_CLASSES else 'labels_file = "labels.txt"'
    if count == 1:
        return notice("labels", 'not known: the only value is called "positive"', f"{line} in config.toml")
    return notice("labels", f"not known: the {count} classes are numbered", f"{line} in config.toml")


def _pictures(classifier: Classifier) -> Finding:
    shape = picture_shape(classifier.input)
    if classifier.preprocessing.kind != "none":
        return good("pictures", classifier.preprocessing.description)
    if shape is None:
        return good("pictures", f'none: "{classifier.input.name}" is no picture; tensors are taken')
    found = f"refused: how they become {shape} isn't known; tensors are taken"
    return notice("pictures", found, "[preprocessing] in config.toml")


def _file(inspection: Inspection) -> str:
    graph = inspection.served.model.graph
    files = " and ".join(f"{name}, {size:,} bytes" for name, size in inspection.sizes.items())
    by = f"; written by {graph.producer}" if graph.producer else ""
    return f"{files}; {graph.parameters:,} parameters, opset {graph.opset}{by}"


def _tensors(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f'"{spec.name}" {_type(spec)} {_shape(spec)}' for spec in specs) or "none"


def _type(spec: TensorSpec) -> str:
    return (
        "text" if spec.dtype is not None and spec.dtype.kind == "O" else str(spec.dtype or "of unknown type")
    )


def _shape(spec: TensorSpec) -> str:
    if spec.shape is None:
        return "of any shape"
    return f"[{', '.join('any' if size is None else str(size) for size in spec.shape)}]"


def _batch(model: Model) -> str:
    if model.fixed_batch:
        return f"always {model.fixed_batch}: requests are cut into so many, the last filled up"
    if model.batches(spec.name for spec in model.outputs):
        return "any number of items; requests share runs"
    return "requests don't share runs: no run showed that the outputs have a row for each item"


def _layers(model: Model) -> str:
    names = model.graph.layers.keys()
    return f"{len(names)}, of which {len(names & model.rows.following)} follow the batch"


def _memory(model: Model) -> str:
    return f"about {model.graph.footprint / MiB:.1f} MiB, and as much for each set of layers that is held"


def _use(served: ServedModel) -> str:
    if served.classifier_or_none is None:
        return f"no image classifier: {served.not_a_classifier}"
    head = served.classifier_or_none.head
    return f'classes in "{head.output}", {head.kind}: {head.reason}'
