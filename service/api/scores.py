"""Encodes the classes of images, most probable first, without an object for each."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import numpy as np

from protos.featurelens.v1 import classifier_pb2 as pb
from service.api.pictures import NO_INK
from service.api.wire import prefix, text

_RESULTS = pb.ClassifyResponse.RESULTS_FIELD_NUMBER
_SCORES = pb.Classification.SCORES_FIELD_NUMBER
_WARNINGS = pb.Classification.WARNINGS_FIELD_NUMBER
_NO_INK = pb.Warning(code="no_ink", message=NO_INK).SerializeToString()
_FLOAT_BYTES = 4


def encode_scores(
    probabilities: np.ndarray, labels: tuple[str, ...], top_k: int, no_ink: Collection[int] = ()
) -> bytes:
    """Rank the classes of each image and encode them as the `results` of a ClassifyResponse.

    Args:
        probabilities: float32 [N, K]; equal ones stay in the order of the labels.
        labels: K texts.
        top_k: how many of each image; 0 for all.
        no_ink: images that get the warning of this code.
    """
    before = _before_probability(labels)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, : top_k or None]
    rows = np.arange(len(order))[:, np.newaxis]
    values = probabilities[rows, order].astype("<f4", copy=False).tobytes()
    results: list[bytes] = []
    at = 0
    for image, row in enumerate(order.tolist()):
        scores: list[bytes] = []
        for index in row:
            scores += (before[index], values[at : at + _FLOAT_BYTES])
            at += _FLOAT_BYTES
        if image in no_ink:
            scores += text(_WARNINGS, _NO_INK)
        results += text(_RESULTS, b"".join(scores))
    return b"".join(results)


@lru_cache(maxsize=64)
def _before_probability(labels: tuple[str, ...]) -> list[bytes]:
    """Encode what comes before the probability of each class; that is the last field, of a fixed length."""

    def before(index: int, label: str) -> bytes:
        score = pb.Score(index=index, label=label, probability=1).SerializeToString()
        return prefix(_SCORES, len(score)) + score[:-_FLOAT_BYTES]

    return [before(index, label) for index, label in enumerate(labels)]
