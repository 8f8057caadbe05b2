"""Refusals over REST: an error status, the error object, and a server that goes on answering. Which status: test_mistakes."""

import json
from collections.abc import Callable

import pytest

from tests.conformance.answers import check_same
from tests.conformance.rest import JSON_HEADERS, Fields, outputs_named, read_answer, read_error, request_fields
from tests.conformance.subject import UNKNOWN, Subject

pytestmark = [pytest.mark.over("rest"), pytest.mark.group("REST: errors")]

ERROR = "required_api.md, Inference Response JSON Error Object (an HTTP error status, typically 400, and the error object)"


def _change(**members: object) -> Callable[[Fields], None]:
    """Set members of the first input; None takes one away."""

    def change(fields: Fields) -> None:
        for key, value in members.items():
            if value is None:
                del fields["inputs"][0][key]
            else:
                fields["inputs"][0][key] = value

    return change


def _other_datatype(fields: Fields) -> None:
    tensor = fields["inputs"][0]
    tensor["datatype"] = "FP64" if tensor["datatype"] == "BYTES" else "BYTES"
    tensor["data"] = [0.5] * len(tensor["data"]) if tensor["datatype"] == "FP64" else ["text"] * len(tensor["data"])


def _one_more(fields: Fields) -> None:
    fields["inputs"][0]["data"].append(fields["inputs"][0]["data"][0])


def _one_less(fields: Fields) -> None:
    fields["inputs"][0]["data"].pop()


def _deeper(fields: Fields) -> None:
    fields["inputs"][0]["shape"] += [1, 1]


def _ragged(fields: Fields) -> None:
    tensor = fields["inputs"][0]
    tensor["shape"], tensor["data"] = [2, 2], [tensor["data"][:1] * 2, tensor["data"][:1]]


# What is wrong → how a good request is spoiled. The specification's section for each member is Inference Request JSON Object
# or Request Input; that the answer is an error is in ERROR.
SPOILED: dict[str, Callable[[Fields], None]] = {
    "no inputs": lambda fields: fields.pop("inputs"),
    "empty inputs": lambda fields: fields.update(inputs=[]),
    "inputs that are no array": lambda fields: fields.update(inputs="image"),
    "an input that is no object": lambda fields: fields.update(inputs=[1]),
    "input without name": _change(name=None),
    "input without datatype": _change(datatype=None),
    "input without shape": _change(shape=None),
    "input without data": _change(data=None),
    "unknown input": _change(name=UNKNOWN),
    "unknown datatype": _change(datatype="FP7"),
    "another datatype than the model's": _other_datatype,
    "negative side": _change(shape=[-1]),
    "side that is no integer": _change(shape=[1.5]),
    "shape that is no array": _change(shape=1),
    "shape of another rank than the model's": _deeper,
    "more elements than the shape": _one_more,
    "fewer elements than the shape": _one_less,
    "ragged data": _ragged,
    "data that is no array": _change(data="text"),
    "unknown output": lambda fields: fields.update(outputs=outputs_named([UNKNOWN])),
    "outputs that are no array": lambda fields: fields.update(outputs="label"),
}

NO_REQUEST = {
    "an empty body": b"",
    "half of a JSON object": b'{"inputs": [',
    "an array": b"[]",
    "a number": b"1",
    "null": b"null",
    "text that is not UTF-8": b'{"inputs": "\xff\xfe"}',
    "no JSON": b"image",
}


@pytest.mark.required(ERROR)
@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_wrong_request_is_refused(subject: Subject, spoil: Callable[[Fields], None]) -> None:
    fields = request_fields(subject.sample(0))
    read_answer(subject.infer(fields))  # it was good before
    spoil(fields)
    read_error(subject.infer(fields))


@pytest.mark.required(ERROR)
@pytest.mark.parametrize("body", NO_REQUEST.values(), ids=NO_REQUEST)
def test_what_is_no_request_is_refused(subject: Subject, body: bytes) -> None:
    read_error(subject.http.post(f"{subject.model_path}/infer", content=body, headers=JSON_HEADERS))


@pytest.mark.required(ERROR)
def test_an_unknown_model_is_refused(subject: Subject) -> None:
    body = json.dumps(request_fields(subject.sample(0)))
    read_error(subject.http.post(f"/v2/models/{UNKNOWN}/infer", content=body, headers=JSON_HEADERS))


@pytest.mark.required("required_api.md, HTTP/REST (all strings in all contexts are case-sensitive)")
def test_names_are_case_sensitive(subject: Subject) -> None:
    name = subject.sample(0)[0].name
    fields = request_fields(subject.sample(0))
    fields["inputs"][0]["name"] = name.swapcase()
    assert name != name.swapcase()
    read_error(subject.infer(fields))


@pytest.mark.extension("versions", f"inference_rest.md, HTTP/REST (the optional versions portion); {ERROR}")
def test_an_unknown_version_is_refused(subject: Subject) -> None:
    read_error(subject.infer(request_fields(subject.sample(0)), f"/versions/{UNKNOWN}/infer"))


@pytest.mark.required("inference_rest.md, Server Live (able to receive and respond to requests)")
def test_a_hundred_wrong_requests_leave_a_server_that_answers(subject: Subject) -> None:
    for n in range(100):
        subject.http.post(
            f"{subject.model_path}/infer", content=[*NO_REQUEST.values()][n % len(NO_REQUEST)], headers=JSON_HEADERS
        )
    check_same(read_answer(subject.infer(request_fields(subject.sample(0)))), subject.reference)
