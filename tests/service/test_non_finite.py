"""Whether NaN and infinities are taken: a matter of the model, which its config.toml can decide."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx import TensorProto

from tests.service.conftest import add_model
from tests.service.oip.stub import InferenceStub, failure, request
from tests.service.onnx_models import model, node, value
from tests.serving import Serving

X = [value("x", ["n", 4])]
MODELS = {
    "classifier": model([node("Relu", "x", "scores")], X, [value("scores", ["n", 4])]),
    "other": model([node("IsNaN", "x", "gaps")], X, [value("gaps", ["n", 4], TensorProto.BOOL)]),
}


@pytest.mark.parametrize(
    ("kind", "config", "setting", "refused"),
    [
        ("classifier", "", True, True),
        ("classifier", "", False, False),
        ("classifier", "refuse_non_finite = false", True, False),
        ("classifier", "refuse_non_finite = true", False, True),
        ("other", "", True, False),
        ("other", "refuse_non_finite = true", False, True),
    ],
)
def test_nan_and_infinity_are_refused_for_classifiers_unless_told_otherwise(
    tmp_path: Path, serving: Serving, kind: str, config: str, setting: bool, refused: bool
) -> None:
    add_model(tmp_path, "model", MODELS[kind])
    (tmp_path / "model" / "config.toml").write_text(config)
    x = np.array([[1, np.nan, np.inf, 2]], np.float32)
    with (
        serving(model_repository=tmp_path, refuse_non_finite=setting) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        infer = InferenceStub(channel).ModelInfer
        if refused:
            code, details = failure(infer, request("model", [("x", "FP32", x)]))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details == 'the input "x" has NaN or infinite values; expected finite numbers'
        else:
            assert infer(request("model", [("x", "FP32", x)])).outputs
