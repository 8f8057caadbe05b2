"""The OpenAPI document says what the edge answers over HTTP, with one archive's names, labels and limits.

OpenAPI 3.0 and not 3.1, as the page that shows it (swagger-ui-bundle) reads no later one, and nothing here needs it.
Statuses and codes are read off the errors' classes; `transformer.rest.schemas` has the bodies.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from handlers.errors import (
    GroupUnknown,
    ImageEmpty,
    ImageTooLarge,
    ImageUnanswerable,
    ImageUndecodable,
    ImageUnsupported,
    OptionError,
    VisorError,
)
from handlers.spec import Spec
from transformer import errors
from transformer.request_log import ID_HEADER
from transformer.rest.body import BINARY, HEADER_LENGTH, JSON
from transformer.rest.compression import WORTH_BYTES
from transformer.rest.schemas import FLAG, TEXT, Schema, components, fields, reference, strings
from transformer.rest.upload import FORM
from transformer.tokens import OPEN_PATHS

PLAIN = "text/plain"
MODEL = "/v2/models/{name}"
VERSIONED = MODEL + "/versions/{version}"
REPOSITORY = "/v2/repository"
BEARER = "token"  # the document's name of the scheme

Kinds = tuple[type[VisorError], ...]
BODY: Kinds = (
    errors.JsonInvalid,
    errors.RequestTooLarge,
    errors.BodyTooSlow,
    errors.MemorySpent,
    errors.ContentUnsupported,
    errors.EncodingBroken,
)
ADDRESS: Kinds = (errors.ModelUnknown, errors.VersionUnknown, errors.PathUnknown)
CONTENTS: Kinds = (
    errors.BinaryInvalid,
    errors.InputInvalid,
    errors.DatatypeInvalid,
    errors.ShapeInvalid,
    errors.OutputInvalid,
    errors.FormInvalid,
    errors.SharedMemoryRefused,
    errors.ThresholdRefused,
    OptionError,
    GroupUnknown,
    ImageEmpty,
    ImageTooLarge,
    ImageUnsupported,
    ImageUndecodable,
    ImageUnanswerable,
)
SERVER: Kinds = (
    errors.ModelNotReady,
    errors.ServerOverloaded,
    errors.DeadlineExceeded,
    errors.UpstreamFailed,
    errors.UpstreamTimeout,
    VisorError,
)
INFER = (*ADDRESS, *BODY, *CONTENTS, *SERVER)
FIXED: Kinds = (errors.ModelUnknown, errors.PathUnknown, errors.RepositoryFixed)
# Answered at any address, and so of no operation's own.
ANYWHERE: Kinds = (
    errors.MethodWrong,
    errors.HeadTooLarge,
    errors.HttpMalformed,
    errors.TransferUnknown,
    errors.Unauthenticated,
    errors.CrossSite,
)

LENGTH: Schema = {"type": "integer", "minimum": 0}
FILE: Schema = {"type": "string", "format": "binary"}
NAMING = {ID_HEADER: {"schema": TEXT, "required": True}}
RETRY = {"Retry-After": {"schema": LENGTH, "required": True, "description": "Seconds."}}

ABOUT = """\
Model `{name}`, version {version}, behind the [Open Inference Protocol (V2)](https://github.com/kserve/open-inference-protocol).
It tells {labels}; the archive that it was made of has the SHA-256 digest `{archive_digest}`.

A request brings at most {max_images} images and {max_body_bytes} bytes; an image has at most {max_bytes} bytes and
{max_pixels} pixels. One bad image among good ones has its code in the output `error`; where all are bad, the first one's is
the answer's.

Bodies may be compressed (`Content-Encoding: gzip` or `deflate`); answers are, for who accepts it, from {worth_bytes} bytes on.
Every answer has an `{id_header}`: the request's own one, or one made up. Who is answered 503 may try again after `Retry-After`
seconds.

Every error is `{{"error": "CODE: sentence", "code": "CODE"}}`. Codes are stable, sentences are not.

<details><summary>All codes</summary>

| code | status | |
| --- | --- | --- |
{errors}

</details>
"""


def document(
    spec: Spec, archive_digest: str, max_images: int, max_body_bytes: int, *, asks_tokens: bool = False
) -> dict[str, Any]:
    """Make the document of one archive's edge. `max_images` and `max_body_bytes`: the largest request.

    `asks_tokens`: whether a request has to bring a bearer token, but for `OPEN_PATHS`.
    """
    about = ABOUT.format(
        name=spec.name,
        version=spec.version,
        labels=", ".join(f"`{label}`" for label in spec.labels),
        archive_digest=archive_digest,
        max_images=max_images,
        max_body_bytes=max_body_bytes,
        max_bytes=spec.limits.max_bytes,
        max_pixels=spec.limits.max_pixels,
        id_header=ID_HEADER,
        worth_bytes=WORTH_BYTES,
        errors="\n".join(error_rows((*INFER, *FIXED, *ANYWHERE))),
    )
    paths = {**_model_paths(MODEL, ""), **_model_paths(VERSIONED, "Version"), **_repository_paths(), **_server_paths()}
    security: dict[str, Any] = {}
    if asks_tokens:
        security = {"security": [{BEARER: []}]}
        for path in OPEN_PATHS:
            paths[path]["get"]["security"] = []
    return {
        "openapi": "3.0.3",
        "info": {"title": f"visor: {spec.name}", "version": version("visor"), "description": about},
        "paths": paths,
        **security,
        "components": {
            **({"securitySchemes": {BEARER: {"type": "http", "scheme": "bearer"}}} if asks_tokens else {}),
            "schemas": components(spec, max_images),
            "parameters": {
                "name": {"name": "name", "in": "path", "required": True, "schema": strings(spec.name)},
                "version": {"name": "version", "in": "path", "required": True, "schema": strings(spec.version)},
            },
        },
    }


def error_rows(kinds: Iterable[type[VisorError]]) -> list[str]:
    """Write the rows of a Markdown table: code, status and meaning of each kind of error, by status and code."""
    ordered = sorted(set(kinds), key=lambda kind: (kind.status, kind.code))
    return [f"| `{kind.code}` | {kind.status} | {_sentence(kind)} |" for kind in ordered]


def _model_paths(at: str, suffix: str) -> dict[str, Any]:
    ready, metadata = _json(fields({"name": TEXT, "ready": FLAG})), _json(reference("ModelMetadata"))
    operations = {
        f"{at}/infer": {"post": _infer(f"infer{suffix}")},
        at: {"get": _operation(f"modelMetadata{suffix}", "Inputs, outputs, labels, archive", metadata, ADDRESS)},
        f"{at}/ready": {
            "get": _operation(
                f"modelReady{suffix}", "Whether an inference would find a worker", ready, (*ADDRESS, errors.ModelNotReady)
            )
        },
        f"{at}/config": {
            "get": _operation(f"modelConfig{suffix}", "What Triton's tools ask first", _json(reference("ModelConfig")), ADDRESS)
        },
        f"{at}/stats": {
            "get": _operation(f"modelStatistics{suffix}", "Requests and seconds so far", _json(reference("Statistics")), ADDRESS)
        },
    }
    return {path: {"parameters": _path_parameters(path), **item} for path, item in operations.items()}


def _repository_paths() -> dict[str, Any]:
    at = REPOSITORY + "/models/{name}"
    index, nothing = _json(reference("Index")), _json({"type": "object"})
    summary = "The model and its state"
    return {
        f"{REPOSITORY}/index": {
            "get": _operation("repositoryIndex", summary, index, (*BODY, OptionError)),
            "post": _operation("repositoryIndexPost", summary, index, (*BODY, OptionError), body="IndexRequest"),
        },
        f"{at}/load": {
            "parameters": _path_parameters(at),
            "post": _operation(
                "load", "The model is there from the start", nothing, (*BODY, *FIXED, errors.ModelNotReady), body="LoadRequest"
            ),
        },
        f"{at}/unload": {
            "parameters": _path_parameters(at),
            "post": _operation("unload", "Refused: stop the server instead", nothing, FIXED),
        },
    }


def _server_paths() -> dict[str, Any]:
    live, ready = _json(fields({"live": FLAG})), _json(fields({"ready": FLAG}))
    operations = {
        "/v2": _operation("serverMetadata", "Name, version, extensions", _json(reference("ServerMetadata"))),
        "/v2/health/live": _operation("serverLive", "Whether the server lives", live),
        "/v2/health/ready": _operation("serverReady", "Whether it takes requests", ready, (errors.ModelNotReady,)),
        "/v2/models/stats": _operation("statistics", "Requests and seconds so far", _json(reference("Statistics"))),
        "/metrics": _operation("metrics", "Metrics in Prometheus' text format", {PLAIN: {"schema": TEXT}}),
    }
    return {path: {"get": operation} for path, operation in operations.items()}


def _infer(name: str) -> dict[str, Any]:
    content = {**_json(reference("InferResponse")), BINARY: {"schema": FILE}}
    headers = {HEADER_LENGTH: {"schema": LENGTH, "description": "Of a binary answer: bytes of the JSON, before the raw outputs."}}
    return {
        **_operation(name, "Classify images", content, INFER, headers=headers),
        "description": (
            "One picture as it is (`image/*`, or `application/octet-stream` that begins like a picture) or in a form "
            "(`multipart/form-data`); plain JSON; or JSON with raw contents of the "
            f"tensors behind it: then the header `{HEADER_LENGTH}` says how many bytes are JSON, and each input how many of "
            f"those behind are its own. `{HEADER_LENGTH}: 0`, and the body is one picture as it is, its answer's outputs raw. "
            "Whatever other Content-Type is said, the body is read as JSON."
        ),
        "parameters": [{"name": HEADER_LENGTH, "in": "header", "schema": LENGTH, "description": "Of a binary body only."}],
        "requestBody": {
            "required": True,
            # The first is what the page at /docs offers first: a file to choose.
            "content": {
                "image/*": {"schema": FILE},
                **_json(reference("InferRequest")),
                FORM: {"schema": fields({"image": FILE})},
                BINARY: {"schema": FILE},
            },
        },
    }


def _operation(
    name: str,
    summary: str,
    content: Mapping[str, Any],
    kinds: Kinds = (),
    headers: Mapping[str, Any] | None = None,
    body: str | None = None,
) -> dict[str, Any]:
    """Describe an operation: it answers 200 with one of these contents, or an error of these kinds. `body`: the request's."""
    request = {"requestBody": {"content": _json(reference(body))}} if body else {}
    good = {"description": "OK", "content": content, "headers": {**NAMING, **(headers or {})}}
    return {"operationId": name, "summary": summary, **request, "responses": {"200": good, **_refusals(kinds)}}


def _refusals(kinds: Kinds) -> dict[str, Any]:
    """Describe one response for each status, with the codes that it may have."""
    codes: dict[int, set[str]] = {}
    for kind in kinds:
        codes.setdefault(kind.status, set()).add(kind.code)
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": {**NAMING, **(RETRY if status == errors.Unavailable.status else {})},
            "content": _json(fields({"error": TEXT, "code": strings(*sorted(codes[status]))})),
        }
        for status in sorted(codes)
    }


def _path_parameters(path: str) -> list[dict[str, str]]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in re.findall(r"{(\w+)}", path)]


def _json(schema: Schema) -> dict[str, Any]:
    return {JSON: {"schema": schema}}


def _sentence(kind: type[VisorError]) -> str:
    # The root's docstring is about the tree; as an answer it is what no other class foresaw.
    return "A mistake of the server's own; its log has more." if kind is VisorError else (kind.__doc__ or "").partition("\n")[0]
