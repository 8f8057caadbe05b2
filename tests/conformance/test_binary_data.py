"""The binary tensor data extension over REST."""

import json
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest

from tests.conformance import wire
from tests.conformance.answers import check_same
from tests.conformance.rest import (
    HEADER_LENGTH,
    SIZE,
    Fields,
    binary_request,
    frame,
    outputs_named,
    read_answer,
    read_error,
    request_fields,
)
from tests.conformance.subject import UNKNOWN, Subject

pytestmark = [
    pytest.mark.over("rest"),
    pytest.mark.group("REST: binary tensors"),
    pytest.mark.extension("binary_tensor_data", "extension_binary_data.md"),
]


def _post(subject: Subject, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return subject.http.post(f"{subject.model_path}/infer", content=body, headers=headers)


def test_binary_inputs_are_answered_as_json_is(subject: Subject) -> None:
    response = _post(subject, *binary_request(subject.sample(0)))
    check_same(read_answer(response), subject.reference)
    assert HEADER_LENGTH not in response.headers  # nobody asked for binary outputs


def test_binary_inputs_in_a_batch(subject: Subject) -> None:
    tensors = subject.batch(3) if subject.claims("batch") else subject.sample(1)
    check_same(read_answer(_post(subject, *binary_request(tensors))), subject.answer_to(tensors))


def test_an_input_as_json_beside_a_binary_one(subject: Subject) -> None:
    """With one input alone, it is JSON and the outputs are binary."""
    tensors = subject.sample(0)
    outputs = outputs_named(subject.reference.outputs, {"binary_data": True})
    response = _post(subject, *binary_request(tensors, json_names=[tensors[0].name], outputs=outputs))
    check_same(read_answer(response), subject.reference)


def test_json_inputs_with_binary_outputs(subject: Subject) -> None:
    outputs = outputs_named(subject.reference.outputs, {"binary_data": True})
    response = subject.infer(request_fields(subject.sample(0), outputs=outputs))
    answer = read_answer(response)
    assert int(response.headers[HEADER_LENGTH]) < len(response.content)
    check_same(answer, subject.reference)


def test_binary_data_output_is_for_all_outputs(subject: Subject) -> None:
    response = _post(subject, *binary_request(subject.sample(0), parameters={"binary_data_output": True}))
    check_same(read_answer(response), subject.reference)
    assert _binary_names(response) == set(subject.reference.outputs)


def test_binary_data_of_an_output_overrides_binary_data_output(subject: Subject) -> None:
    first, *others = subject.reference.outputs
    outputs = [*outputs_named([first], {"binary_data": False}), *outputs_named(others)]
    response = _post(subject, *binary_request(subject.sample(0), parameters={"binary_data_output": True}, outputs=outputs))
    check_same(read_answer(response), subject.reference)
    assert _binary_names(response) == set(others)


def test_each_output_alone_as_binary(subject: Subject) -> None:
    for name in subject.reference.outputs:
        outputs = outputs_named([name], {"binary_data": True})
        response = _post(subject, *binary_request(subject.sample(0), outputs=outputs))
        check_same(read_answer(response), subject.reference, {name})
        assert _binary_names(response) == {name}


def test_the_id_comes_back(subject: Subject) -> None:
    assert read_answer(_post(subject, *binary_request(subject.sample(0), id="42"))).id == "42"


def test_content_length_is_that_of_the_whole_body(subject: Subject) -> None:
    body, headers = binary_request(subject.sample(0), parameters={"binary_data_output": True})
    # Of a coded response httpx has the content without the coding, whose length nobody told.
    response = _post(subject, body, {**headers, "Accept-Encoding": "identity"})
    read_answer(response)
    assert int(response.headers["content-length"]) == len(response.content)


def test_a_raw_binary_request_is_answered_with_binary_outputs(subject: Subject) -> None:
    """With a length of 0 the body is the one input of a model, where its shape follows from that; else it is refused."""
    first, *others = subject.sample(0)
    body = first.values[0] if first.datatype == "BYTES" else first.to_raw()
    response = _post(subject, body, {HEADER_LENGTH: "0"})
    if others or response.status_code != 200:
        read_error(response)
    else:
        check_same(read_answer(response), subject.reference)
        assert _binary_names(response) == set(subject.reference.outputs)


def test_whitespace_around_the_header_length_is_no_part_of_it(subject: Subject) -> None:
    """RFC 9112, section 5.1. httpx would take it away."""
    body, headers = binary_request(subject.sample(0))
    with closing(wire.connect(subject)) as connection:
        connection.sendall(
            wire.request("POST", f"{subject.model_path}/infer", {**headers, HEADER_LENGTH: headers[HEADER_LENGTH] + " \t"}, body)
        )
        assert wire.read(connection).status == 200


WRONG_LENGTHS = ["-1", "text", "99999999", "", "1e1"]


@pytest.mark.parametrize("length", WRONG_LENGTHS)
def test_a_header_length_that_cannot_be_is_refused(subject: Subject, length: str) -> None:
    body, headers = binary_request(subject.sample(0))
    read_error(_post(subject, body, {**headers, HEADER_LENGTH: length}))


def test_a_header_length_inside_the_json_is_refused(subject: Subject) -> None:
    body, headers = binary_request(subject.sample(0))
    read_error(_post(subject, body, {**headers, HEADER_LENGTH: "10"}))


def test_binary_inputs_without_the_header_are_refused(subject: Subject) -> None:
    body, headers = binary_request(subject.sample(0))
    read_error(_post(subject, body, {"Content-Type": headers["Content-Type"]}))


def _sizes(change: Callable[[int], object]) -> Callable[[Fields], None]:
    def spoil(fields: Fields) -> None:
        parameters = fields["inputs"][0]["parameters"]
        parameters[SIZE] = change(parameters[SIZE])

    return spoil


SPOILED: dict[str, Callable[[Fields], None]] = {
    "more than the body has": _sizes(lambda size: size + 1000),
    "one byte less than was sent": _sizes(lambda size: size - 1),
    "zero": _sizes(lambda _: 0),
    "negative": _sizes(lambda _: -1),
    "text": _sizes(str),
    "a fraction": _sizes(lambda size: size + 0.5),
    "true": _sizes(lambda _: True),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_wrong_binary_data_size_is_refused(subject: Subject, spoil: Callable[[Fields], None]) -> None:
    fields, blob = parts(subject)
    spoil(fields)
    read_error(_post(subject, *frame(fields, blob)))


@pytest.mark.parametrize(
    "change", [lambda blob: blob[:-1], lambda blob: blob + b"\0", lambda _: b""], ids=["shorter", "longer", "none"]
)
def test_a_tensor_of_another_length_than_its_shape_is_refused(subject: Subject, change: Callable[[bytes], bytes]) -> None:
    """The size is told truly, and it is not the shape's."""
    tensor = subject.sample(0)[0]
    fields, _ = parts(subject)
    blob = change(tensor.to_raw())
    fields["inputs"][0]["parameters"][SIZE] = len(blob)
    others = b"".join(other.to_raw() for other in subject.sample(0)[1:])
    read_error(_post(subject, *frame(fields, blob + others)))


def test_an_element_of_bytes_that_goes_past_the_end_is_refused(subject: Subject) -> None:
    tensor = subject.sample(0)[0]
    fields, blob = parts(subject)
    if tensor.datatype == "BYTES":
        read_error(_post(subject, *frame(fields, b"\xff\xff\xff\xff" + blob[4:])))
    else:  # a model without BYTES: the same bytes under that datatype are refused as well
        fields["inputs"][0]["datatype"] = "BYTES"
        read_error(_post(subject, *frame(fields, b"\xff\xff\xff\xff" + blob[4:])))


def test_an_unknown_output_is_refused(subject: Subject) -> None:
    outputs = outputs_named([UNKNOWN], {"binary_data": True})
    read_error(_post(subject, *binary_request(subject.sample(0), outputs=outputs)))


def parts(subject: Subject) -> tuple[Fields, bytes]:
    """A good binary request's JSON and its blob."""
    body, headers = binary_request(subject.sample(0))
    length = int(headers[HEADER_LENGTH])
    return json.loads(body[:length]), body[length:]


def _binary_names(response: httpx.Response) -> set[str]:
    text = response.content[: int(response.headers.get(HEADER_LENGTH, len(response.content)))]
    return {output["name"] for output in json.loads(text)["outputs"] if SIZE in output.get("parameters", {})}
