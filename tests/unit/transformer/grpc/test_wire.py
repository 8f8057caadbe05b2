"""A message that is walked says what protobuf would have said, costs what it weighs, and gives its raw contents uncopied."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.errors import ProtobufInvalid, RequestError, RequestTooLarge
from transformer.grpc.messages import message, parse_request
from transformer.grpc.wire import ELEMENT_BYTES, FIELD_BYTES, MAX_FIELDS, walk

REQUEST = message("ModelInferRequest")
TEXT = st.text(max_size=8)
PARAMETERS = st.dictionaries(TEXT, st.builds(message("InferParameter"), bool_param=st.booleans()), max_size=3)
CONTENTS = st.fixed_dictionaries(
    {},
    optional={
        "bytes_contents": st.lists(st.binary(max_size=300), max_size=3),
        "uint_contents": st.lists(st.integers(0, 2**32 - 1), max_size=200),
        "fp64_contents": st.lists(st.floats(), max_size=5),
    },
)
TENSORS = st.fixed_dictionaries(
    {"name": TEXT, "shape": st.lists(st.integers(0, 2**63 - 1), max_size=5), "parameters": PARAMETERS},
    optional={"datatype": TEXT, "contents": CONTENTS},
)
REQUESTS = st.builds(
    REQUEST,
    model_name=TEXT,
    id=TEXT,
    parameters=PARAMETERS,
    inputs=st.lists(TENSORS, max_size=3),
    outputs=st.lists(st.fixed_dictionaries({"name": TEXT, "parameters": PARAMETERS}), max_size=2),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=3),
)


@given(REQUESTS)
def test_nothing_is_lost_and_the_raw_contents_are_set_apart(request_):
    walked = walk(request_.SerializeToString())
    assert [bytes(one) for one in walked.raw] == list(request_.raw_input_contents)
    request_.ClearField("raw_input_contents") if walked.raw else None
    assert REQUEST.FromString(walked.message) == request_


def test_raw_contents_are_no_copy_and_weigh_nothing():
    body = REQUEST(model_name="m", raw_input_contents=[b"x" * 1_000_000]).SerializeToString()
    walked = walk(body)
    assert walked.raw[0].obj is body
    assert walked.cost <= 2 * FIELD_BYTES + 3
    assert len(walked.message) == 3


@given(st.binary(max_size=200))
def test_whatever_comes_has_an_end(body):
    try:
        walked = walk(body)
    except RequestError:
        return
    assert sum(map(len, walked.raw)) + len(walked.message) <= len(body)


@pytest.mark.parametrize(
    "body",
    [b"\x0a", b"\x0a\x05abc", b"\x0a\xff", b"\x80", b"\xff" * 11 + b"\x01", b"\x2a\x03\x0a\x05a", b"\x0b\x0c", b"\x09\x00"],
)
def test_what_is_cut_off_or_no_message(body):
    with pytest.raises(ProtobufInvalid):
        walk(body)


@pytest.mark.parametrize(
    "field", [b"\x2a\x00", b"\x22\x00", b"\x32\x00", b"\x08\x00", b"\x3a\x00"], ids=["in", "map", "out", "?", "raw"]
)
def test_many_fields_are_refused_before_there_are_objects(field):
    with pytest.raises(RequestTooLarge, match=str(MAX_FIELDS)):
        walk(field * (MAX_FIELDS + 1))


def test_fields_within_fields_are_counted_too():
    tensor = b"\x22\x00" * MAX_FIELDS
    with pytest.raises(RequestTooLarge):
        walk(b"\x2a\xc0\xb8\x02" + tensor)


def test_packed_numbers_weigh_what_they_become():
    body = REQUEST(inputs=[{"contents": {"uint_contents": [7] * 10_000}}]).SerializeToString()
    assert ELEMENT_BYTES * 10_000 <= walk(body).cost < ELEMENT_BYTES * 10_000 + 10 * FIELD_BYTES


def test_a_request_is_read_from_both_parts():
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    walked = walk(REQUEST(model_name="m", inputs=[tensor], raw_input_contents=[b"\1\0\0\0x"]).SerializeToString())
    request = parse_request(REQUEST.FromString(walked.message), walked.raw)
    assert bytes(request.inputs[0].content.data) == b"\1\0\0\0x"
