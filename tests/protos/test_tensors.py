from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protos.featurelens.v1.classifier_pb2 import DataType, Tensor
from protos.tensors import DTYPES, data_type_of, dtype_of, pack, unpack

FLOAT32 = DataType.DATA_TYPE_FLOAT32


@given(
    st.sampled_from(list(DTYPES.values())).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    )
)
def test_what_is_packed_comes_back_bit_for_bit(array: npt.NDArray[np.generic]) -> None:
    back = unpack(Tensor.FromString(pack(array, "conv1").SerializeToString()))

    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_every_data_type_has_one_dtype() -> None:
    assert set(DTYPES) == set(DataType.values()) - {DataType.DATA_TYPE_UNSPECIFIED}
    assert [data_type_of(dtype_of(data_type)) for data_type in DTYPES] == list(DTYPES)


def test_bytes_are_little_endian_in_c_order() -> None:
    tensor = pack(np.array([[1, 2], [3, 4]], dtype=">i2").T, "x")

    assert tensor == Tensor(
        name="x", shape=[2, 2], data_type=DataType.DATA_TYPE_INT16, data=b"\x01\x00\x03\x00\x02\x00\x04\x00"
    )


def test_an_unset_type_is_float32() -> None:
    np.testing.assert_array_equal(unpack(Tensor(shape=[1], data=b"\x00\x00\x80\x3f")), np.ones(1, np.float32))


def test_unpacking_copies_nothing_and_the_array_is_read_only() -> None:
    tensor = pack(np.zeros(3, np.float32))
    array = unpack(tensor)

    assert not array.flags.owndata
    assert not array.flags.writeable


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            Tensor(shape=[2, 3], data_type=FLOAT32, data=b"123"),
            "data has 3 bytes, expected 24 for shape [2, 3] of float32",
        ),
        (Tensor(shape=[], data=b""), "data has 0 bytes, expected 4 for shape [] of float32"),
        (Tensor(shape=[-1, 3], data=b""), "shape is [-1, 3], expected no negative size"),
        (Tensor(shape=[0, 2**62], data=b""), f"shape is [0, {2**62}], expected at most {2**56} elements"),
        (
            Tensor(shape=[2**31, 2**25], data=b"1234"),
            f"data has 4 bytes, expected {2**58} for shape [{2**31}, {2**25}] of float32",
        ),
        (Tensor(shape=[1] * 65, data=b"1234"), "shape has 65 axes, expected at most 64"),
        (
            Tensor(shape=[2], data_type=DataType.DATA_TYPE_BOOL, data=b"\x01\x02"),
            "data of a bool tensor has bytes other than 0 and 1",
        ),
    ],
)
def test_refuses_a_tensor_that_contradicts_itself(tensor: Tensor, message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared below
        unpack(tensor)
    assert str(raised.value) == message


def test_refuses_a_type_from_a_newer_contract() -> None:
    newer = Tensor.FromString(b"\x18\x63")  # field 3, data_type = 99

    with pytest.raises(ValueError, match=r"^data_type 99 is unknown, expected one of DATA_TYPE_FLOAT32, "):
        unpack(newer)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "O", "M8[s]"])
def test_refuses_to_pack_what_the_contract_lacks(dtype: str) -> None:
    with pytest.raises(ValueError, match=r"can't be sent, expected one of float32, float64, "):
        pack(np.empty(1, dtype))
