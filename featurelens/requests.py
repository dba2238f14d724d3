"""Builds the contract's requests from what callers hand over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from featurelens.errors import FeaturelensError
from featurelens.images import ImageLike, file_bytes
from protos.featurelens.v1.classifier_pb2 import (
    PREPROCESSING_MODEL,
    PREPROCESSING_NONE,
    ClassifyRequest,
    DescribeModelRequest,
    EncodedImages,
    Tensor,
)
from protos.tensors import pack

ALL_LAYERS = "*"


class ClassifyOptions(TypedDict, total=False):
    """What every way to classify can be told, by keyword."""

    model: str
    """Name of the model; without it, the only one there is."""
    version: str
    """Its version, or a label of it; without it, the one labelled stable, or the newest that is ready."""
    top_k: int
    """How many labels to return for each image, most probable first; 0 or nothing: all."""
    layers: Sequence[str]
    """Layers whose feature maps to return: their names, module paths as layer3, patterns as layer3* or
    *relu*, op:Conv for all that an operator computes; "*": all of them."""
    preprocess: bool
    """False: only decode and resize images; by default the model's own preprocessing is done."""
    return_input: bool
    """Also return the input as the model saw it."""
    timeout: float
    """Seconds to wait for the answer; in a stream, for the next answer. By default the client's timeout."""


def classify_images(
    images: Iterable[ImageLike], options: ClassifyOptions, request_id: str = ""
) -> ClassifyRequest:
    """Build a request to classify images.

    Raises:
        FeaturelensError: INVALID_ARGUMENT, an image can't be read.
    """
    request = _classify(options, request_id)
    request.images.CopyFrom(EncodedImages(images=[file_bytes(image) for image in images]))
    return request


def classify_tensor(tensor: npt.NDArray[np.generic], options: ClassifyOptions) -> ClassifyRequest:
    """Build a request to classify a batch that is in the model's own input format.

    Raises:
        FeaturelensError: INVALID_ARGUMENT, the array's dtype can't be sent.
    """
    request = _classify(options)
    request.tensor.CopyFrom(_pack(tensor))
    return request


def describe(model: str, version: str, layers: Sequence[str], *, weights: bool) -> DescribeModelRequest:
    """Build a request to describe a model."""
    return DescribeModelRequest(model=model, version=version, layers=_names(layers), include_weights=weights)


def _classify(options: ClassifyOptions, request_id: str = "") -> ClassifyRequest:
    layers = options.get("layers", ())
    top_k = options.get("top_k", 0)
    if top_k < 0:
        raise FeaturelensError("INVALID_ARGUMENT", f"top_k is {top_k}, expected 0 (all labels) or more")
    return ClassifyRequest(
        model=options.get("model", ""),
        version=options.get("version", ""),
        id=request_id,
        top_k=top_k,
        layers=_names(layers),
        preprocessing=PREPROCESSING_MODEL if options.get("preprocess", True) else PREPROCESSING_NONE,
        return_input=options.get("return_input", False),
    )


def _names(layers: Sequence[str]) -> Sequence[str]:
    return [layers] if isinstance(layers, str) else layers


def _pack(tensor: npt.NDArray[np.generic]) -> Tensor:
    try:
        return pack(np.asarray(tensor))
    except ValueError as error:
        raise FeaturelensError("INVALID_ARGUMENT", str(error)) from error
