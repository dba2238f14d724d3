"""Models with weights in other files: equal to the same models in one file, or refused with the reason."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.device import Execution
from service.errors import ModelLoadError
from service.model import Model
from service.model_data import FilesChangedError, ModelData, read_model
from service.model_files import ModelFiles
from service.onnx_file import tensors_of
from tests.service import onnx_models
from tests.service.external import DATA, outsourced, split, tell

MOST = 2**31 - 1
PLACE = ("m", "1", "model.onnx")


def read(root: Path, most_bytes: int = MOST) -> ModelData:
    found = read_model(ModelFiles.at(root), *PLACE, most_bytes=most_bytes)
    assert found is not None
    return found


def refusal(root: Path, most_bytes: int = MOST) -> str:
    with pytest.raises(ModelLoadError) as info:
        read(root, most_bytes)
    return str(info.value)


def saved(root: Path, change: Callable[[TensorProto], None] = lambda weight: None) -> Path:
    """Put a classifier there whose weight is 24 bytes of another file, and change what is said of it."""
    model = onnx_models.classifier()
    content = outsourced(model, model.graph.initializer)
    change(model.graph.initializer[0])
    file = root.joinpath(*PLACE)
    file.parent.mkdir(parents=True)
    file.write_bytes(model.SerializeToString())
    file.with_name(DATA).write_bytes(content)
    return file.with_name(DATA)


def with_tensors_everywhere() -> onnx.ModelProto:
    """A model with data in initializers, attributes, branches, functions and sparse tensors, of odd types."""
    model = onnx_models.branching()
    inner = helper.make_tensor("inner", TensorProto.FLOAT, [2], [1.0, 2.0])
    model.graph.node[2].attribute[0].g.initializer.append(inner)
    constant = helper.make_tensor("c", TensorProto.INT4, [3], [1, -2, 3])
    model.graph.node.append(helper.make_node("Constant", [], ["four"], value=constant))
    values = helper.make_tensor("s", TensorProto.FLOAT16, [2], [0.5, 4.0])
    indices = helper.make_tensor("s indices", TensorProto.INT64, [2], [0, 7])
    sparse = helper.make_sparse_tensor(values, indices, [9])
    model.graph.sparse_initializer.append(sparse)
    model.graph.node.append(helper.make_node("Constant", [], ["few"], sparse_value=sparse))
    body = [
        helper.make_node("Constant", [], ["o"], value=helper.make_tensor("f", TensorProto.BOOL, [], [True]))
    ]
    model.functions.append(helper.make_function("ours", "f", [], ["o"], body, model.opset_import))
    return model


def as_raw(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the data of all its tensors as raw bytes."""
    raw = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in tensors_of(raw):
        if tensor.dims or tensor.name:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    return raw


@pytest.mark.parametrize("one_file", [True, False], ids=["one file", "a file each"])
def test_it_is_the_model_in_one_file(tmp_path: Path, one_file: bool) -> None:
    model = onnx_models.lenet()
    file = split(tmp_path / "m", model, one_file=one_file)
    assert len(list(file.parent.iterdir())) == (2 if one_file else 1 + len(model.graph.initializer))
    assert sorted_weights(read(tmp_path).data) == sorted_weights(as_raw(model).SerializeToString())


def sorted_weights(data: bytes) -> onnx.ModelProto:
    """Parse a model; the order of its weights means nothing."""
    model = onnx.load_model_from_string(data)
    model.graph.initializer.sort(key=lambda weight: weight.name)
    return model


def test_data_is_found_wherever_a_tensor_can_be(tmp_path: Path) -> None:
    model = as_raw(with_tensors_everywhere())
    moved = onnx.ModelProto.FromString(model.SerializeToString())
    tensors = [tensor for tensor in tensors_of(moved) if tensor.raw_data]
    assert {"inner", "c", "s", "s indices", "f"} <= {tensor.name for tensor in tensors}
    content = b""
    for tensor in tensors:
        data = tensor.raw_data
        tell(tensor, location=f"./{DATA}", offset=str(len(content)))
        content += data
    file = tmp_path.joinpath(*PLACE)
    file.parent.mkdir(parents=True)
    file.write_bytes(moved.SerializeToString())
    file.with_name(DATA).write_bytes(content)
    assert onnx.load_model_from_string(read(tmp_path).data) == model


def test_weights_may_share_bytes_and_be_empty(tmp_path: Path) -> None:
    weights = {
        "w": np.ones((2, 3), np.float32),
        "v": np.ones((2, 3), np.float32),
        "e": np.ones((0, 3), np.float32),
    }
    nodes = [onnx_models.node("MatMul", "x w", "a"), onnx_models.node("MatMul", "x v", "b")]
    x, a, b = (onnx_models.value(name, ["n", size]) for name, size in (("x", 2), ("a", 3), ("b", 3)))
    model = onnx_models.model(nodes, [x], [a, b], weights)
    file = tmp_path.joinpath(*PLACE)
    file.parent.mkdir(parents=True)
    for weight in model.graph.initializer:
        tell(weight, location=DATA, offset="0")
    file.write_bytes(model.SerializeToString())
    file.with_name(DATA).write_bytes(np.arange(6, dtype=np.float32).tobytes())
    outputs = Model(read(tmp_path).data, Execution()).run({"x": np.eye(2, dtype=np.float32)}, ["a", "b"])
    for name in ("a", "b"):
        np.testing.assert_array_equal(outputs[name], [[0, 1, 2], [3, 4, 5]])


def test_the_digest_is_what_sha256sum_tells(tmp_path: Path) -> None:
    file = split(tmp_path / "m", onnx_models.lenet(), one_file=False)
    others = sorted(path.name for path in file.parent.iterdir() if path != file)
    (file.parent / "README").write_text("not a weight")
    listing = subprocess.run(
        ["sha256sum", "model.onnx", *others], cwd=file.parent, capture_output=True, check=True
    ).stdout
    assert read(tmp_path).digest == hashlib.sha256(listing).hexdigest()


def test_the_digest_of_one_file_is_that_file_s(tmp_path: Path) -> None:
    file = tmp_path.joinpath(*PLACE)
    file.parent.mkdir(parents=True)
    file.write_bytes(onnx_models.lenet().SerializeToString())
    found = read(tmp_path)
    assert (found.data, found.digest) == (file.read_bytes(), hashlib.sha256(file.read_bytes()).hexdigest())


def test_every_change_of_the_data_changes_the_digest(tmp_path: Path) -> None:
    data = saved(tmp_path)
    whole = data.read_bytes()
    digests = {read(tmp_path).digest}
    for content in (whole[:-1] + b"\1", whole + b"\0"):
        data.write_bytes(content)
        digests.add(read(tmp_path).digest)
    assert len(digests) == 3


def test_data_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    saved(tmp_path).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 24\n")
    assert refusal(tmp_path) == (
        f'model.onnx can\'t be loaded: the weight "w" is in {DATA}, which is a Git LFS pointer; '
        "git lfs pull fetches the file that it stands for"
    )


def says(**told: str) -> Callable[[TensorProto], None]:
    return lambda weight: tell(weight, **told)


NO_NAME = "which is not the name of a file beside the model's; save it again (onnx.save"
NO_NUMBER = "which is not a number of bytes; save it again (onnx.save"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (says(location=""), f"said to be in '', {NO_NAME}"),
        (says(location="/etc/hostname"), f"said to be in '/etc/hostname', {NO_NAME}"),
        (says(location="../1/model.onnx.data"), f"said to be in '../1/model.onnx.data', {NO_NAME}"),
        (says(location=".."), f"said to be in '..', {NO_NAME}"),
        (says(location="."), f"said to be in '.', {NO_NAME}"),
        (says(location="weights/all"), f"said to be in 'weights/all', {NO_NAME}"),
        (says(location="weights\\all"), f"said to be in 'weights\\\\all', {NO_NAME}"),
        (says(location=".hidden"), f"said to be in '.hidden', {NO_NAME}"),
        (says(location="a\0b"), f"said to be in 'a\\x00b', {NO_NAME}"),
        (says(location="w" * 300), f"said to be in '{'w' * 100}', {NO_NAME}"),
        (says(location="*/_ORT_MEM_ADDR_/*"), f"said to be in '*/_ORT_MEM_ADDR_/*', {NO_NAME}"),
        (says(location="nothing"), "is in nothing, which is missing; put it beside the model's file"),
        (says(location=DATA, offset="-1"), f"said to have the offset '-1', {NO_NUMBER}"),
        (says(location=DATA, offset="four"), f"said to have the offset 'four', {NO_NUMBER}"),
        (says(location=DATA, offset="9" * 99), f"said to have the offset '{'9' * 99}', {NO_NUMBER}"),
        (says(location=DATA, length="-24"), f"said to have the length '-24', {NO_NUMBER}"),
        (says(location=DATA, length="20"), f"takes 24 bytes, and 20 are said to be in {DATA}; save it again"),
        (
            says(location=DATA, offset="1"),
            f"at the bytes 1 to 25 of {DATA}, which has 24; it is incomplete, or",
        ),
        (
            says(location=DATA, offset=str(2**62)),
            f"to {2**62 + 24} of {DATA}, which has 24; it is incomplete",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, change: Callable[[TensorProto], None], reason: str
) -> None:
    saved(tmp_path, change)
    assert re.match(rf'model\.onnx can\'t be loaded: the weight "w" .*{re.escape(reason)}', refusal(tmp_path))


@pytest.mark.parametrize(
    ("element", "dims"),
    [
        (TensorProto.STRING, [2, 3]),
        (TensorProto.UNDEFINED, [2, 3]),
        (999, [2, 3]),
        (TensorProto.FLOAT, [-2, -3]),
    ],
)
def test_what_has_no_known_size_is_refused(tmp_path: Path, element: int, dims: list[int]) -> None:
    def change(weight: TensorProto) -> None:
        weight.data_type = element
        weight.dims[:] = dims

    saved(tmp_path, change)
    assert refusal(tmp_path).endswith(
        'the weight "w" is said to be in another file, which is for numbers of a known size'
    )


@pytest.mark.parametrize("target", ["outside", "/etc/hostname", "../../../outside"])
def test_a_link_out_of_the_repository_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").write_bytes(bytes(24))
    root = tmp_path / "models"
    data = saved(root)
    data.unlink()
    data.symlink_to(tmp_path / "outside" if target == "outside" else target)
    expected = f"model.onnx can't be loaded: {DATA} leads out of the model repository"
    assert refusal(root) == expected


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    data = saved(tmp_path)
    data.unlink()
    os.mkfifo(data) if kind == "fifo" else data.mkdir()
    assert refusal(tmp_path) == f"model.onnx can't be loaded: {DATA} is not a regular file"


def test_links_within_the_repository_are_followed(tmp_path: Path) -> None:
    """As in a volume made of a Kubernetes ConfigMap."""
    saved(tmp_path)
    expected = read(tmp_path).data
    folder = tmp_path / "m/1"
    (folder / "..stamp").mkdir()
    for name in ("model.onnx", DATA):
        (folder / name).rename(folder / "..stamp" / name)
        (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data").symlink_to("..stamp")
    assert read(tmp_path).data == expected


def test_all_files_together_are_under_the_limit(tmp_path: Path) -> None:
    data = saved(tmp_path)
    total = data.stat().st_size + data.with_name("model.onnx").stat().st_size
    assert read(tmp_path, total).data
    assert refusal(tmp_path, total - 1) == (
        f"model.onnx can't be loaded: with its weights it has {total} bytes; the limit is {total - 1}"
    )
    data.write_bytes(data.read_bytes() + bytes(100))
    assert refusal(tmp_path, total + 99) == (
        f"model.onnx can't be loaded: model.onnx and {DATA} have {total + 100} bytes; "
        f"the limit is {total + 99}"
    )


def test_weights_that_share_bytes_count_each(tmp_path: Path) -> None:
    """Else a small file would fill the memory."""
    model = onnx_models.classifier()
    model.graph.initializer.extend(TensorProto(name=f"w{i}", data_type=1, dims=[2**20]) for i in range(1000))
    for weight in model.graph.initializer:
        tell(weight, location=DATA)
    file = tmp_path.joinpath(*PLACE)
    file.parent.mkdir(parents=True)
    file.write_bytes(model.SerializeToString())
    os.truncate(os.open(file.with_name(DATA), os.O_CREAT | os.O_WRONLY), 2**22)
    assert refusal(tmp_path, 2**30).endswith("bytes; the limit is 1073741824")


def test_over_2_gib_is_refused_clearly(tmp_path: Path) -> None:
    def enlarge(weight: TensorProto) -> None:
        weight.dims[0] = 2**28
        tell(weight, location=DATA)

    saved(tmp_path, enlarge)
    assert refusal(tmp_path, 2**40).endswith("bytes; ONNX Runtime takes less than 2 GiB")


@pytest.mark.parametrize("name", ["model.onnx", DATA])
def test_a_file_that_changes_while_they_are_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = saved(tmp_path)
    read_file = ModelFiles.read

    def then_changed(self: ModelFiles, *path: str, most_bytes: int) -> bytes | None:
        content = read_file(self, *path, most_bytes=most_bytes)
        if path[-1] == DATA:
            data.with_name(name).write_bytes(data.with_name(name).read_bytes() + b"\0")
        return content

    monkeypatch.setattr(ModelFiles, "read", then_changed)
    with pytest.raises(FilesChangedError, match=f"^{re.escape(name)} changed while it was being loaded$"):
        read(tmp_path)


def test_a_file_that_is_not_as_it_was_seen_is_not_read(tmp_path: Path) -> None:
    saved(tmp_path)
    seen = read(tmp_path).stamps
    assert set(seen) == {"model.onnx", DATA}
    files = ModelFiles.at(tmp_path)
    assert read_model(files, *PLACE, most_bytes=MOST, expected={**seen, "README": None})
    with pytest.raises(FilesChangedError, match=f"^{DATA} is being changed$"):
        read_model(files, *PLACE, most_bytes=MOST, expected={"model.onnx": seen["model.onnx"]})
