"""Client of the featurelens server: class probabilities and feature maps of images, in Python."""

from featurelens.aio import AsyncClient
from featurelens.client import Client
from featurelens.errors import FeaturelensError
from featurelens.images import ImageLike
from featurelens.requests import ALL_LAYERS, ClassifyOptions
from featurelens.results import (
    Head,
    ImageWarning,
    Layer,
    ModelDescription,
    ModelSummary,
    Outcome,
    Prediction,
    Preprocessing,
    ReceptiveField,
    Score,
    TensorInfo,
    Timings,
)
from featurelens.security import Tls

__version__ = "0.1.0"

__all__ = [
    "ALL_LAYERS",
    "AsyncClient",
    "ClassifyOptions",
    "Client",
    "FeaturelensError",
    "Head",
    "ImageLike",
    "ImageWarning",
    "Layer",
    "ModelDescription",
    "ModelSummary",
    "Outcome",
    "Prediction",
    "Preprocessing",
    "ReceptiveField",
    "Score",
    "TensorInfo",
    "Timings",
    "Tls",
]
