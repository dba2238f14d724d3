"""Classifiers of scikit-learn and LightGBM, through skl2onnx and onnxmltools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import skl2onnx
from lightgbm import LGBMClassifier
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as LightGBMFloats
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from tests.foreign.model import Feeds, ForeignModel

_SKLEARN = f"skl2onnx {skl2onnx.__version__}"
_PIXELS = 64
_OUTPUT = 'output = "probabilities"\n'
_MOST_ITEMS = 400  # learned from; enough for classes that differ


def models(folder: Path) -> Iterator[ForeignModel]:
    """Train the classifiers on scikit-learn's digits and convert them, those that aren't there yet."""
    linear, forest = LogisticRegression(), RandomForestClassifier(20, random_state=0)
    pipeline = make_pipeline(Normalizer(), StandardScaler(), LogisticRegression())
    made: list[tuple[str, Any, dict[str, Any]]] = [
        ("sklearn_logistic", linear, {"zipmap": False}),
        ("sklearn_forest", forest, {"zipmap": False}),
        ("sklearn_pipeline", pipeline, {"zipmap": False}),
    ]
    for name, estimator, options in made:
        file = _once(folder, name, lambda e=estimator, o=options: _sklearn(e, o))  # type: ignore[misc]
        yield ForeignModel(name, _SKLEARN, file, _digits, "softmax", config=_OUTPUT)
    file = _once(folder, "sklearn_zipmap", lambda: _sklearn(linear, {}))
    yield ForeignModel("sklearn_zipmap", f"{_SKLEARN}, probabilities as maps", file, _digits)
    file = _once(folder, "sklearn_svc", lambda: _sklearn(LinearSVC(), {}))
    yield ForeignModel("sklearn_svc", _SKLEARN, file, _digits, "logits", config=_OUTPUT)
    file = _once(folder, "lightgbm", _lightgbm)
    yield ForeignModel("lightgbm", "onnxmltools, LightGBM", file, _digits, "softmax", config=_OUTPUT)


def _digits(rng: np.random.Generator, items: int) -> Feeds:
    images = load_digits().data.astype(np.float32)
    return {"image": images[rng.integers(_MOST_ITEMS, len(images), items)]}


def _once(folder: Path, name: str, build: Callable[[], Any]) -> Path:
    file = folder / name / "model.onnx"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(build().SerializeToString())
    return file


def _training_set() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    return digits.data[:_MOST_ITEMS], digits.target[:_MOST_ITEMS]


def _sklearn(estimator: Any, options: dict[str, Any]) -> Any:  # noqa: ANN401 - untyped packages
    estimator.fit(*_training_set())
    types = [("image", FloatTensorType([None, _PIXELS]))]
    return skl2onnx.convert_sklearn(
        estimator, initial_types=types, options={id(estimator): options}, target_opset=18
    )


def _lightgbm() -> Any:  # noqa: ANN401
    classifier = LGBMClassifier(n_estimators=10, num_leaves=7, n_jobs=1, verbose=-1).fit(*_training_set())
    types = [("image", LightGBMFloats([None, _PIXELS]))]
    return convert_lightgbm(classifier, initial_types=types, zipmap=False, target_opset=15)
