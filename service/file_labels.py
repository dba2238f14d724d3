"""Names of classes that a model file carries, as different exporters write them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

import structlog
from pydantic import TypeAdapter, ValidationError
from structlog.typing import FilteringBoundLogger

from service.errors import ModelLoadError
from service.graph import Graph

_log: FilteringBoundLogger = structlog.get_logger()

_OURS = TypeAdapter(tuple[str, ...])
_BY_INDEX = TypeAdapter(dict[int, str])
_MOST_CHARACTERS = 2**20
"""Of a text that is parsed: names of 20,000 classes take less."""

Labels = tuple[str, ...]


def labels_in(graph: Graph, classes: int) -> Labels | None:
    """Find names for this many classes; None if the file has none.

    Those of other programs (`names` of Ultralytics, `id2label` of Hugging Face, `character` of RapidOCR,
    `classlabels_*` of scikit-learn's converters) may be meant for something else than this output. Where
    their number differs they are left out, and the log tells.

    Raises:
        ModelLoadError: the file's featurelens.labels are no list of texts.
    """
    if "featurelens.labels" in graph.metadata:
        return _ours(graph.metadata["featurelens.labels"])
    for source, labels in _foreign(graph):
        if len(labels) == classes:
            return labels
        _log.warning("labels in the file ignored", source=source, labels=len(labels), classes=classes)
    return None


def _ours(text: str) -> Labels:
    try:
        return _OURS.validate_json(text)
    except ValidationError as error:
        raise ModelLoadError('the metadata "featurelens.labels" is not a JSON list of strings') from error


def _foreign(graph: Graph) -> Iterator[tuple[str, Labels]]:
    metadata = graph.metadata
    for key in ("names", "id2label"):
        if labels := _by_index(metadata.get(key, "")):
            yield key, labels
    if characters := _lines(metadata):
        yield "character", characters
    for labels in graph.class_labels():
        yield "classlabels", labels


def _by_index(text: str) -> Labels | None:
    """Read a JSON object or a Python dict of names by index, or a list of names; None: it is none."""
    if len(text) > _MOST_CHARACTERS:
        return None
    try:
        value = ast.literal_eval(text.strip())
        named = _BY_INDEX.validate_python(dict(enumerate(value)) if isinstance(value, list) else value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return (
        tuple(named[index] for index in range(len(named))) if set(named) == set(range(len(named))) else None
    )


def _lines(metadata: Mapping[str, str]) -> Labels:
    text = metadata.get("character", "")
    return tuple(text.splitlines()) if len(text) <= _MOST_CHARACTERS else ()
