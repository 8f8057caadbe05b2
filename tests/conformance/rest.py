"""V2 over HTTP: bodies of requests, and responses read strictly, from inference_rest.md and extension_binary_data.md."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx

from tests.conformance.answers import Answer
from tests.conformance.tensors import NUMPY, Tensor, Violation, from_json, from_raw

HEADER_LENGTH = "Inference-Header-Content-Length"
SIZE = "binary_data_size"
JSON_HEADERS = {"Content-Type": "application/json"}

Fields = dict[str, Any]


def request_fields(tensors: Iterable[Tensor], *, nested: bool = False, **members: Any) -> Fields:
    """An inference request object with its tensors as JSON; `members`: id, parameters, outputs."""
    inputs = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": tensor.datatype,
            "data": tensor.to_nested() if nested else tensor.to_json(),
        }
        for tensor in tensors
    ]
    return {**members, "inputs": inputs}


def outputs_named(names: Iterable[str], parameters: Fields | None = None) -> list[Fields]:
    """Requested outputs, each with the same parameters."""
    return [{"name": name, **({"parameters": parameters} if parameters else {})} for name in names]


def binary_request(tensors: Sequence[Tensor], json_names: Iterable[str] = (), **members: Any) -> tuple[bytes, dict[str, str]]:
    """Body and headers with tensors behind the JSON, but for those of `json_names`."""
    fields = request_fields(tensors, **members)
    blobs = []
    for tensor, described in zip(tensors, fields["inputs"], strict=True):
        if tensor.name not in json_names:
            blobs.append(tensor.to_raw())
            del described["data"]
            described["parameters"] = {SIZE: len(blobs[-1])}
    return frame(fields, b"".join(blobs))


def frame(fields: Fields, blob: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of JSON and what follows it."""
    text = json.dumps(fields).encode()
    return text + blob, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(text))}


def read_answer(response: httpx.Response) -> Answer:
    """A successful inference response. Raises Violation where it is none, or is not as the protocol has it."""
    if response.status_code != 200:
        raise Violation(f"expected 200, got {response.status_code}: {response.text[:300]}")
    header = response.headers.get(HEADER_LENGTH)
    length = len(response.content) if header is None else int(header)
    fields = parse_json(response.content[:length])
    outputs, rest = _read_outputs(_member(fields, "outputs", list), response.content[length:], binary=header is not None)
    if rest:
        raise Violation(f"{len(rest)} bytes behind the last output belong to none")
    return Answer(
        model=_member(fields, "model_name", str),
        version=_optional(fields, "model_version", str) or "",
        id=_optional(fields, "id", str) or "",
        parameters=_optional(fields, "parameters", dict) or {},
        outputs=outputs,
    )


def read_error(response: httpx.Response) -> str:
    """The sentence of a refusal: an HTTP error status and an error object. Raises Violation otherwise."""
    if not 400 <= response.status_code < 600:
        raise Violation(f"expected an error status, got {response.status_code}: {response.text[:300]}")
    sentence: str = _member(parse_json(response.content), "error", str)
    if not sentence:
        raise Violation("the error's sentence must not be empty")
    return sentence


def check_clients_mistake(response: httpx.Response) -> None:
    """Raises Violation where a refusal's status does not say that the client has to change its request."""
    if not 400 <= response.status_code < 500:
        raise Violation(f"expected a status of 4xx, got {response.status_code}: {response.text[:300]}")


def read_object(response: httpx.Response) -> Fields:
    """A successful response's JSON object. Raises Violation where it is none."""
    if response.status_code != 200:
        raise Violation(f"expected 200, got {response.status_code}: {response.text[:300]}")
    return parse_json(response.content)


def parse_json(text: bytes) -> Fields:
    """A JSON object; NaN and Infinity are no JSON (RFC 8259, section 6). Raises Violation."""
    try:
        fields = json.loads(text, parse_constant=_no_constant)
    except ValueError as err:
        raise Violation(f"the body must be JSON ({err}), got {text[:200]!r}") from err
    if not isinstance(fields, dict):
        raise Violation(f"the body must be a JSON object, got {text[:200]!r}")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_outputs(described: list[Any], blob: bytes, *, binary: bool) -> tuple[dict[str, Tensor], bytes]:
    outputs: dict[str, Tensor] = {}
    for fields in described:
        name, datatype, shape = (_member(fields, key, kind) for key, kind in (("name", str), ("datatype", str), ("shape", list)))
        if datatype not in NUMPY:
            raise Violation(f"{name} has datatype {datatype}, which the protocol does not have")
        if name in outputs:
            raise Violation(f"{name} is answered twice")
        if not all(type(side) is int and side >= 0 for side in shape):
            raise Violation(f"the shape of {name} must hold unsigned integers, got {shape}")
        size = (fields.get("parameters") or {}).get(SIZE)
        if size is None:
            outputs[name] = from_json(name, datatype, shape, fields.get("data"))
        elif not binary or size > len(blob) or "data" in fields:
            raise Violation(
                f"{name} has {SIZE} {size}; header given: {binary}, bytes left: {len(blob)}, data: {'data' in fields}"
            )
        else:
            outputs[name], blob = from_raw(name, datatype, shape, blob[:size]), blob[size:]
    return outputs, blob


def _member(fields: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(fields, dict) or not isinstance(fields.get(key), kind):
        raise Violation(f"{key} must be a {kind.__name__}, got {fields!r:.300}")
    return fields[key]


def _optional(fields: Mapping[str, Any], key: str, kind: type) -> Any:
    # Python servers write null for what is absent; no client minds, and the spec has no word on it.
    return None if fields.get(key) is None else _member(fields, key, kind)
