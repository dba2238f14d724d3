from __future__ import annotations

import pytest

from featurelens.cli.maps import _file_name


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["conv1", "relu1"], ["conv1", "relu1"]),
        (["/conv1/Conv_output_0"], ["conv1_Conv_output_0"]),
        (["a/b", "a:b", "A_B"], ["a_b", "a_b-2", "A_B-3"]),
        (["../../etc/passwd", "..", ""], ["etc_passwd", "unnamed", "unnamed-2"]),
        (["größe"], ["größe"]),
    ],
)
def test_any_layer_gets_a_file_name_of_its_own(names: list[str], expected: list[str]) -> None:
    taken: set[str] = set()

    assert [_file_name(name, taken) for name in names] == expected
