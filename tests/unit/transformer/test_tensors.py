"""The elements of tensors, against bytes written out by hand."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import ImageUndecodable
from transformer.errors import BinaryInvalid, DatatypeInvalid, ShapeInvalid
from transformer.tensors import (
    DATATYPES,
    NUMPY,
    InputTensor,
    JsonContent,
    OutputTensor,
    RawContent,
    TypedContent,
    check_shape,
    decode_bytes,
    encode_bytes,
    read_bytes,
    read_uint8,
)


def texts(shape, content):
    return InputTensor("image", "BYTES", shape, content)


def numbers(shape, content):
    return InputTensor("pixels", "UINT8", shape, content)


def test_every_datatype_has_its_inverse():
    assert {DATATYPES[NUMPY[name]] for name in NUMPY} == set(NUMPY)


def test_raw_bytes_are_lengths_and_elements():
    assert encode_bytes([b"ab", b"", b"c"]) == b"\x02\0\0\0ab" + b"\0\0\0\0" + b"\x01\0\0\0c"


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_raw_bytes_come_back(elements):
    assert [bytes(element) for element in decode_bytes("x", encode_bytes(elements), len(elements))] == elements


@given(st.binary(max_size=40), st.integers(0, 4))
def test_any_raw_bytes_are_elements_or_an_error_of_the_request(data, count):
    try:
        elements = decode_bytes("x", data, count)
    except (BinaryInvalid, ShapeInvalid):
        return
    assert encode_bytes(elements) == data
    assert len(elements) == count


@pytest.mark.parametrize(
    ("data", "count", "error", "words"),
    [
        (b"\x02\0\0", 1, BinaryInvalid, "3 bytes after element 0"),
        (b"\x05\0\0\0abcd", 1, BinaryInvalid, "element 0 says it has 5 bytes, 4 are left"),
        (b"\0\0\0\0" * 3, 2, ShapeInvalid, "4 bytes after the 2 elements"),
        (b"\0\0\0\0", 2, ShapeInvalid, "1 element where its shape promises 2"),
    ],
)
def test_raw_bytes_that_do_not_add_up(data, count, error, words):
    with pytest.raises(error, match=words):
        decode_bytes("x", data, count)


@pytest.mark.parametrize("data", [["YWI=", "Yw=="], [["YWI="], ["Yw=="]]])
def test_json_bytes_are_base64_flat_or_nested(data):
    shape = (2, 1) if isinstance(data[0], list) else (2,)
    assert read_bytes(texts(shape, JsonContent(data))) == [b"ab", b"c"]


def test_base64_with_line_breaks_is_read():
    data = bytes(range(256))
    assert read_bytes(texts((1,), JsonContent([base64.encodebytes(data).decode()]))) == [data]


@pytest.mark.parametrize("text", ["not base64!", "YWI", "Yw==Yw==", "é", "data:image/png;base64,YWI="])
def test_an_element_that_is_not_base64_is_an_error_of_its_own(text):
    good, bad = read_bytes(texts((2,), JsonContent(["YWI=", text])))
    assert good == b"ab"
    assert isinstance(bad, ImageUndecodable)
    assert "base64" in str(bad)


@pytest.mark.parametrize(
    ("shape", "data", "error"),
    [
        ((1,), "YWI=", ShapeInvalid),
        ((1,), None, ShapeInvalid),
        ((2,), ["YWI="], ShapeInvalid),
        ((1,), [], ShapeInvalid),
        ((2, 1), [["YWI="], "YWI="], DatatypeInvalid),
        ((1,), [["YWI="]], DatatypeInvalid),
        ((1,), [0], DatatypeInvalid),
        ((1,), [None], DatatypeInvalid),
        ((1,), [{}], DatatypeInvalid),
    ],
)
def test_json_bytes_that_cannot_be_read(shape, data, error):
    with pytest.raises(error):
        read_bytes(texts(shape, JsonContent(data)))


def test_typed_bytes_are_taken_as_they_are():
    assert read_bytes(texts((2,), TypedContent([b"YWI=", b""]))) == [b"YWI=", b""]
    with pytest.raises(ShapeInvalid):
        read_bytes(texts((3,), TypedContent([b"a"])))


@pytest.mark.parametrize(
    "content",
    [
        RawContent(bytes(range(12))),
        RawContent(memoryview(bytes(range(12)))),
        TypedContent(list(range(12))),
        JsonContent(list(range(12))),
        JsonContent([[[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]]),
    ],
)
def test_uint8_takes_its_shape(content):
    array = read_uint8(numbers((1, 2, 2, 3), content))
    assert array.dtype == np.uint8
    assert array.tolist() == [[[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (RawContent(bytes(5)), ShapeInvalid),
        (RawContent(bytes(7)), ShapeInvalid),
        (JsonContent("abcdef"), ShapeInvalid),
        (JsonContent(7), ShapeInvalid),
        (JsonContent([1, 2, 3]), ShapeInvalid),
        (JsonContent([[1, 2], [3, 4], [5, 6]]), ShapeInvalid),
        (JsonContent([[1, 2, 3], [4, 5]]), ShapeInvalid),
        (JsonContent([1, 2, 3, 4, 5, 256]), DatatypeInvalid),
        (JsonContent([1, 2, 3, 4, 5, -1]), DatatypeInvalid),
        (JsonContent([1, 2, 3, 4, 5, 2**70]), DatatypeInvalid),
        (JsonContent([1, 2, 3, 4, 5, 6.5]), DatatypeInvalid),
        (JsonContent([1, 2, 3, 4, 5, "6"]), DatatypeInvalid),
        (JsonContent([1, 2, 3, 4, 5, None]), DatatypeInvalid),
        (JsonContent([True] * 6), DatatypeInvalid),
        (JsonContent(["x" * (1 << 20)] * 5 + [""] * (1 << 20)), DatatypeInvalid),  # 4 TiB as an array of numpy's
        (JsonContent([[1, 2, 3], [4, 5, [6]]]), DatatypeInvalid),
    ],
)
def test_uint8_that_cannot_be_read(content, error):
    with pytest.raises(error):
        read_uint8(numbers((2, 3), content))


@pytest.mark.parametrize("shape", [None, 3, "3", {}, [1.0], [True], ["1"], [-1], [2, -1]])
def test_a_shape_is_a_list_of_sides(shape):
    with pytest.raises(ShapeInvalid):
        check_shape("image", shape)


def test_outputs_know_their_datatype_and_bytes():
    assert OutputTensor("a", (2,), np.array([1.0, -2.0], np.float32)).to_raw() == b"\0\0\x80?\0\0\0\xc0"
    assert OutputTensor("a", (2,), np.array([1.0, -2.0], np.float32)).datatype == "FP32"
    assert OutputTensor("b", (1,), [b"x"]).to_raw() == b"\x01\0\0\0x"
    assert OutputTensor("b", (1,), [b"x"]).datatype == "BYTES"
