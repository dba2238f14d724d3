from __future__ import annotations

import json

import pytest

from tests.featurelens.conftest import DEAD_ADDRESS, Command


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
