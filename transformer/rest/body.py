"""Bodies of the V2 protocol, JSON and its binary extension, are read and written by these pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from handlers.errors import OptionError
from transformer.errors import BinaryInvalid, DatatypeInvalid, FormInvalid, InputInvalid, JsonInvalid, OutputInvalid, show
from transformer.images import IMAGE
from transformer.messages import InferAnswer, InferRequest, RequestedOutput, check_parameters
from transformer.rest.upload import BYTES, FORM, guess_picture, is_bytes, is_stripped, is_upload, read_upload
from transformer.tensors import Buffer, InputTensor, JsonContent, OutputTensor, RawContent, TypedContent, check_shape

HEADER_LENGTH = "Inference-Header-Content-Length"
SIZE = "binary_data_size"
JSON, BINARY = "application/json", BYTES
FORM_BY_ACCIDENT = "application/x-www-form-urlencoded"
"""What curl -d says of whatever it sends: JSON is read all the same."""
UNHARMED = "curl sends a file unchanged by --data-binary @FILE, and not by -d, which takes line breaks and zero bytes out"
AS_IT_IS = f"one picture as it is needs Content-Type: image/jpeg (or image/png ...), or the header {HEADER_LENGTH}: 0"


GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Form:
    """Which outputs a client wants as binary: `named` where the request says so by name, otherwise `other`."""

    named: Mapping[str, bool]
    other: bool = False

    def is_binary(self, name: str) -> bool:
        """Whether this output goes behind the JSON."""
        return self.named.get(name, self.other)


def parse_request(
    body: bytes | bytearray, header_length: str | None, model: str, version: str, content_type: str = ""
) -> tuple[InferRequest, Form]:
    """Read a request's body.

    `header_length`: the header of that name; None for plain JSON or an upload, which `content_type` tells apart, "0" for one
    image as it is, whose answer is binary (the extension's raw binary request).

    Raises RequestError of the fitting kind, OptionError.
    """
    if header_length is None:
        if is_upload(content_type, body):
            picture = read_upload(body, content_type)
            if is_stripped(picture):
                raise FormInvalid(f"{len(picture)} bytes of a picture without a zero byte or a line break; {UNHARMED}")
            return _one_image(model, version, picture), Form({})
        text, blobs = memoryview(body), None
    else:
        size = _header_size(header_length, len(body))
        if size == 0:
            return _one_image(model, version, memoryview(body)), Form({}, other=True)
        text, blobs = memoryview(body)[:size], memoryview(body)[size:]
    fields = parse_object(text, content_type if header_length is None else "")
    parameters = check_parameters(object_of(fields.get("parameters"), "parameters"), "the request")
    outputs = _outputs(_list(fields.get("outputs"), "outputs"))
    request = InferRequest(
        model=model,
        version=version,
        id=_id(fields.get("id")),
        inputs=_inputs(_list(fields.get("inputs"), "inputs"), blobs),
        outputs=tuple([requested for requested, _ in outputs]),
        parameters=parameters,
    )
    named = {requested.name: binary for requested, binary in outputs if binary is not None}
    return request, Form(named, read_flag(parameters, "binary_data_output") or False)


def render_answer(answer: InferAnswer, form: Form) -> tuple[bytes, int | None]:
    """Write an answer's body; the second value is the length of its JSON where binary outputs follow, otherwise None."""
    blobs: list[bytes] = []
    outputs = [_output(tensor, form, blobs) for tensor in answer.outputs]
    fields = {
        "model_name": answer.model,
        "model_version": answer.version,
        **({} if answer.id is None else {"id": answer.id}),
        "parameters": answer.parameters,
        "outputs": outputs,
    }
    text = orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((text, *blobs)), len(text)) if blobs else (text, None)


def parse_object(text: bytes | bytearray | memoryview, content_type: str = "") -> dict[str, Any]:
    """Parse a JSON object. `content_type`: of its body, where that tells what it may have been meant as.

    Raises JsonInvalid, also for NaN and Infinity, which JSON does not have.
    """
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as err:
        if not len(text):
            raise JsonInvalid(f"the body is empty; send a request in JSON, or a picture: {AS_IT_IS}") from err
        by_accident = content_type.lower().startswith(FORM_BY_ACCIDENT)
        if picture := guess_picture(text):
            how = f"{AS_IT_IS}; {UNHARMED}" if by_accident else AS_IT_IS
            raise JsonInvalid(f"{len(text)} bytes begin like {picture} and are not JSON; {how}") from err
        if bytes(text[:2]) == GZIP:
            sentence = f"{len(text)} bytes begin like gzip and are not JSON; a compressed body needs Content-Encoding: gzip"
            raise JsonInvalid(sentence) from err
        if by_accident:
            sentence = f"{len(text)} bytes are not JSON: {err}; a form is read as {FORM} alone (curl -F image=@FILE); {UNHARMED}"
            raise JsonInvalid(sentence) from err
        if is_bytes(content_type):
            raise JsonInvalid(f"{len(text)} bytes begin like no picture and are not JSON ({err}); {AS_IT_IS}") from err
        raise JsonInvalid(f"{len(text)} bytes are not JSON: {err}") from err
    if not isinstance(fields, dict):
        raise JsonInvalid(f"the request must be a JSON object, got {show(fields)}")
    return fields


def read_flag(parameters: Mapping[str, Any], key: str) -> bool | None:
    """Read a boolean parameter; None where it is missing. Raises OptionError."""
    value = parameters.get(key)
    if value is not None and not isinstance(value, bool):
        raise OptionError(f"{key} must be true or false, got {show(value)}")
    return value


def object_of(value: object, what: str) -> dict[str, Any]:
    """Read a field that is an object, empty where it is left out. Raises JsonInvalid."""
    if value is not None and not isinstance(value, dict):
        raise JsonInvalid(f"{what} must be an object, got {show(value)}")
    return value or {}


def json_length(header_length: str | None, content_type: str, body: bytes | bytearray) -> int:
    """How many bytes of a body are JSON: none of an upload, and all of them where the header is none, which is refused later."""
    if header_length is None:
        return 0 if is_upload(content_type, body) else len(body)
    if not (header_length.isascii() and header_length.isdigit()):
        return len(body)
    return min(int(header_length[:20]), len(body))


def _one_image(model: str, version: str, image: Buffer) -> InferRequest:
    return InferRequest(model, version, inputs=(InputTensor(IMAGE.name, IMAGE.datatype, (1,), TypedContent([image])),))


def _header_size(header_length: str, body_size: int) -> int:
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20 and int(header_length) <= body_size):
        raise BinaryInvalid(f"{HEADER_LENGTH} must be the bytes of JSON in a body of {body_size}, got {show(header_length)}")
    return int(header_length)


def _inputs(inputs: list[Any], blobs: memoryview | None) -> tuple[InputTensor, ...]:
    tensors = []
    left = blobs
    for item in inputs:
        fields = object_of(item, "an input")
        name = _name(fields, InputInvalid, "input")
        datatype = fields.get("datatype")
        if not isinstance(datatype, str):
            raise DatatypeInvalid(f"the datatype of input {show(name)} must be a string, got {show(datatype)}")
        shape = check_shape(name, fields.get("shape"))
        content, left = _content(name, fields, left)
        tensors.append(InputTensor(name, datatype, shape, content))
    if left:
        raise BinaryInvalid(f"{len(left)} bytes behind the JSON belong to no input; each input says its {SIZE}")
    return tuple(tensors)


def _content(
    name: str, fields: Mapping[str, Any], blobs: memoryview | None
) -> tuple[JsonContent | RawContent, memoryview | None]:
    """Read one input's contents; the second value is the rest of the blobs, for the inputs after it."""
    what = f"input {show(name)}"
    size = check_parameters(object_of(fields.get("parameters"), f"parameters of {what}"), what).get(SIZE)
    data = fields.get("data")
    if size is None:
        if data is None:
            raise InputInvalid(f"input {show(name)} has neither data nor the parameter {SIZE}")
        return JsonContent(data), blobs
    if data is not None:
        raise BinaryInvalid(f"input {show(name)} has both data and {SIZE}; send one of them")
    if blobs is None:
        raise BinaryInvalid(f"input {show(name)} has {SIZE}; send the header {HEADER_LENGTH}, the bytes of the JSON")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(blobs):
        raise BinaryInvalid(f"input {show(name)} has {SIZE} {show(size)}, and {len(blobs)} bytes are left behind the JSON")
    return RawContent(blobs[:size]), blobs[size:]


def _outputs(outputs: list[Any]) -> list[tuple[RequestedOutput, bool | None]]:
    """Read the requested outputs, each with whether it goes as binary, None where the request does not say."""
    requested = []
    for item in outputs:
        fields = object_of(item, "an output")
        name = _name(fields, OutputInvalid, "output")
        what = f"output {show(name)}"
        parameters = check_parameters(object_of(fields.get("parameters"), f"parameters of {what}"), what)
        requested.append((RequestedOutput(name, parameters.get("classification")), read_flag(parameters, "binary_data")))
    return requested


def _output(tensor: OutputTensor, form: Form, blobs: list[bytes]) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if form.is_binary(tensor.name):
        blobs.append(tensor.to_raw())
        fields["parameters"] = {SIZE: len(blobs[-1])}
    elif isinstance(tensor.data, list):
        fields["data"] = [element.decode() for element in tensor.data]
    else:
        fields["data"] = tensor.data.ravel()
    return fields


def _id(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise JsonInvalid(f"id must be a string, got {show(value)}")
    return value


def _list(value: object, what: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise JsonInvalid(f"{what} must be a list, got {show(value)}")
    return value or []


def _name(fields: Mapping[str, Any], error: type[InputInvalid] | type[OutputInvalid], what: str) -> str:
    name = fields.get("name")
    if not isinstance(name, str):
        raise error(f"the name of an {what} must be a string, got {show(name)}")
    return name
