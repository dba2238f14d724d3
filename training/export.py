"""Hand the network over as one ONNX file that explains itself, and prove that it computes the same."""

from __future__ import annotations

import json
import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper

from training.data import SIDE
from training.evaluate import as_input
from training.model import LAYERS, LeNet

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from training.data import Digits

PREFIX = "featurelens."
OPSET = 20
PARITY_IMAGES = 1000
# Of a layer's largest value. float32 keeps 6e-8 of a number; a sum of 400 products taken in another order
# moves by a few dozen times that.
PARITY_TOLERANCE = 1e-5


class ExportError(Exception):
    """The exported graph doesn't compute what the network computes."""


class _EveryLayer(LeNet):
    """LeNet with each module's output as an output, so that the export names tensors after modules."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.outputs(image).values())


def export(model: LeNet, metadata: dict[str, Any], path: Path) -> None:
    """Write `model` with `metadata` (values that JSON can hold, keys without the prefix) to `path`."""
    proto = _to_onnx(model)
    _keep_output(proto.graph, "probabilities")
    _forget_source_code(proto)
    proto.graph.name = "lenet"
    content = {**metadata, "layers": layer_table(proto.graph)}
    helper.set_model_props(proto, {PREFIX + key: json.dumps(value) for key, value in content.items()})
    onnx.checker.check_model(proto, full_check=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    onnx.save(proto, part)
    part.replace(path)


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a file that `export` wrote, keys without the prefix."""
    props = onnx.load(path).metadata_props
    return {
        prop.key.removeprefix(PREFIX): json.loads(prop.value) for prop in props if prop.key.startswith(PREFIX)
    }


def layer_table(graph: onnx.GraphProto) -> list[dict[str, str]]:
    """List LAYERS with the operator that makes each and its module in the PyTorch network."""
    makers = {output: node.op_type for node in graph.node for output in node.output}
    return [{"name": name, "op": makers[name], "module": name} for name in LAYERS]


def check_parity(model: LeNet, path: Path, digits: Digits) -> dict[str, float]:
    """Compare every layer in ONNX Runtime and in PyTorch; return the largest difference in each.

    Layers are compared without graph optimization, which would fuse some away; `probabilities (optimized)` is
    what a server would answer.

    Raises:
        ExportError: a difference is over PARITY_TOLERANCE of the layer's largest value.
    """
    images = as_input(digits.images[:PARITY_IMAGES])
    with torch.inference_mode():
        expected = {name: value.numpy() for name, value in model.outputs(images).items() if name in LAYERS}
    found = dict(zip(LAYERS, _run_plainly(path, images), strict=True))
    optimized = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    found["probabilities (optimized)"] = optimized.run(["probabilities"], {"image": images.numpy()})[0]
    differences = {}
    for name, value in found.items():
        reference = expected[name.removesuffix(" (optimized)")]
        differences[name] = float(np.abs(value - reference).max())
        allowed = PARITY_TOLERANCE * float(np.abs(reference).max())
        if not differences[name] <= allowed:
            raise ExportError(f"{name} differs by {differences[name]:.2g}, more than {allowed:.2g}")
    return differences


def _run_plainly(path: Path, images: Tensor) -> list[Any]:
    """Run the graph as it's written, with every layer as an output."""
    proto = onnx.load(path)
    known = {value.name: value for value in proto.graph.value_info}
    proto.graph.output.extend(known[name] for name in LAYERS if name in known)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Any] = session.run(list(LAYERS), {"image": images.numpy()})
    return outputs


def _to_onnx(model: LeNet) -> onnx.ModelProto:
    every_layer = _EveryLayer()
    every_layer.load_state_dict(model.state_dict())
    example = torch.zeros(2, 1, SIDE, SIDE)  # 2, because the exporter takes a dimension of 1 for a constant
    # The exporter warns about operators of torchvision, which isn't installed and isn't needed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch's exporter copies its own deprecated LeafSpec.
        warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
        program = torch.onnx.export(
            every_layer.eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=[name for name, _ in model.named_children()],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
        )
    assert program is not None  # noqa: S101 - with dynamo=True there always is one
    return program.model_proto


def _keep_output(graph: onnx.GraphProto, name: str) -> None:
    """Demote all outputs but one to inner tensors, whose shapes stay on record."""
    graph.value_info.extend(value for value in graph.output if value.name != name)
    kept = [value for value in graph.output if value.name == name]
    del graph.output[:]
    graph.output.extend(kept)


def _forget_source_code(proto: onnx.ModelProto) -> None:
    """Drop the stack traces and file paths that the exporter notes on each node and tensor."""
    graph = proto.graph
    for group in (graph.node, graph.value_info, graph.input, graph.output, graph.initializer, [graph]):
        for item in group:
            del item.metadata_props[:]
