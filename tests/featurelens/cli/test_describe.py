from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.featurelens.conftest import DEAD_ADDRESS, Command
from tests.service.conftest import add_model
from tests.service.torch_exports import export
from tests.serving import serving


def test_lists_the_layers_of_a_model(command: Command) -> None:
    ended = command("layers", "lenet")
    first, second, third, header, *rows = ended.out.splitlines()
    by_name = {row.split()[0]: row.split()[1:] for row in rows}

    assert ended.status == 0
    assert first.startswith("lenet/1: 10 labels, 63,802 parameters, opset ")
    assert second.endswith(".")
    assert third == 'Classes in "probabilities", softmax: Softmax computes it.'
    assert header.split() == ["LAYER", "OP", "SHAPE", "PARAMETERS", "KERNEL", "STRIDES", "RECEPTIVE", "FIELD"]
    assert by_name["conv1"] == ["Conv", "6x28x28", "156", "5x5", "1x1", "5x5", "every", "1x1"]
    assert by_name["pool1"] == ["MaxPool", "6x14x14", "2x2", "2x2", "6x6", "every", "2x2"]
    assert by_name["logits"] == ["Gemm", "10", "1,010", "32x32"]


def test_lists_the_layers_that_are_named(command: Command) -> None:
    ended = command("layers", "lenet", "pool*", "op:conv", "node_sub")
    header, *rows = ended.out.splitlines()[3:]

    assert header.split()[:2] == ["LAYER", "OP"]
    assert [row.split()[0] for row in rows] == ["pool1", "pool2", "conv1", "conv2", "sub"]


def test_an_unknown_layer_is_refused_with_the_closest(command: Command) -> None:
    ended = command("layers", "lenet", "pool*", "relu")

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith('featurelens: no layer "relu"; did you mean "relu1", "relu2", "relu3"')


def test_shows_modules_where_they_have_names_of_their_own(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model(tmp_path, "net", export("dynamo"))
    with serving(model_repository=tmp_path) as server:
        monkeypatch.setenv("FEATURELENS_SERVER", server.address)
        header, row = command("layers", "net", "layer1").out.splitlines()[3:]

    assert header.split()[:5] == ["LAYER", "MODULE", "OUTPUT", "OF", "OP"]
    assert row.split()[1:4] == ["layer1.1.relu", "layer1", "Relu"]


def test_describes_a_model_as_json(command: Command) -> None:
    model = json.loads(command("layers", "--output", "json").out)
    conv1 = next(layer for layer in model["layers"] if layer["name"] == "conv1")

    assert (model["name"], model["labels"]) == ("lenet", list("0123456789"))
    assert model["head"]["kind"] == "softmax"
    assert (conv1["output_shape"], conv1["receptive_field"]["size"]) == ([-1, 6, 28, 28], [5, 5])
    assert "weights" not in conv1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["models", "--server", DEAD_ADDRESS],
            f"no featurelens server answers at {DEAD_ADDRESS}; start one ",
        ),
        (
            ["layers", "--server", DEAD_ADDRESS],
            f"no featurelens server answers at {DEAD_ADDRESS}; start one ",
        ),
        (["layers", "nope"], 'there is no model "nope"; there is lenet'),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    command: Command, arguments: list[str], message: str
) -> None:
    ended = command(*arguments)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"featurelens: {message}")
    assert ended.err.count("\n") == 1
