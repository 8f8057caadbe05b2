"""The server under test: where it is, what it says of itself, what a valid request to it looks like and what it claims."""

import gzip
import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from tritonclient.grpc import service_pb2 as messages

from tests.conformance import answers, rest, rpc
from tests.conformance.answers import Answer
from tests.conformance.tensors import NUMPY, Tensor, Violation, from_json, make_values

UNKNOWN = "no-such-thing"  # a model, version, input or output that no server has
TIMEOUT_S = 60.0
FREE_SIDE = 32  # what a variable side behind the first becomes where nobody says better


class SubjectInvalid(Exception):
    """The suite cannot start; the message says what to give it."""


@dataclass(frozen=True)
class Options:
    """The command line. `inputs`: NAME:DATATYPE:SHAPE; `images`: files whose contents are elements of BYTES."""

    rest: str | None
    grpc: str | None
    model: str
    version: str | None = None
    inputs: tuple[str, ...] = ()
    request: Path | None = None
    images: tuple[Path, ...] = ()
    assumed: tuple[str, ...] = ()


@dataclass
class Subject:
    """`metadata` and `model_metadata` are empty where the server gives none; that it does is a check of its own."""

    options: Options
    metadata: dict[str, Any] = field(default_factory=dict)
    model_metadata: dict[str, Any] = field(default_factory=dict)
    _found: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def connect(cls, options: Options) -> "Subject":
        """Ask the server for its metadata. Raises SubjectInvalid where nobody listens or no valid request is known."""
        subject = cls(options)
        if options.rest:
            try:
                subject.metadata = subject._get("/v2")
            except httpx.HTTPError as err:
                raise SubjectInvalid(f"no server answers at {options.rest}: {err}") from err
            subject.model_metadata = subject._get(subject.model_path)
        if options.grpc:
            try:
                grpc.channel_ready_future(subject.channel).result(timeout=TIMEOUT_S)
            except grpc.FutureTimeoutError as err:
                raise SubjectInvalid(f"no server answers at {options.grpc} within {TIMEOUT_S:.0f} s") from err
            subject.metadata = subject.metadata or subject._call("ServerMetadata", messages.ServerMetadataRequest())
            request = messages.ModelMetadataRequest(name=options.model)
            subject.model_metadata = subject.model_metadata or subject._call("ModelMetadata", request)
        subject.sample(0)
        return subject

    @cached_property
    def http(self) -> httpx.Client:
        """A client that opens a connection for each request: what one check does to its connection is not the next one's.

        That connections persist is checked in test_http.
        """
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=(self.options.rest or "").rstrip("/"), timeout=TIMEOUT_S, limits=limits)

    @cached_property
    def _grpc(self) -> tuple[Any, grpc.Channel]:
        return rpc.connect(self.options.grpc or "")

    @property
    def stub(self) -> Any:
        """The gRPC service's stub."""
        return self._grpc[0]

    @property
    def channel(self) -> grpc.Channel:
        """What the stub calls through."""
        return self._grpc[1]

    def close(self) -> None:
        """Close what was opened."""
        if "http" in self.__dict__:
            self.http.close()
        if "_grpc" in self.__dict__:
            self.channel.close()

    @property
    def model_path(self) -> str:
        """The model's metadata, and what its other endpoints begin with."""
        return f"/v2/models/{self.options.model}"

    @property
    def version(self) -> str:
        """A version that may be asked for by name, empty where none is known."""
        versions = self.model_metadata.get("versions") or []
        return self.options.version or (str(versions[0]) if versions else "")

    @cached_property
    def described(self) -> tuple[tuple[str, str, list[int]], ...]:
        """(name, datatype, shape) of the inputs of a valid request. Raises SubjectInvalid."""
        if self.options.inputs:
            return tuple(_parse_input(text) for text in self.options.inputs)
        inputs = self.model_metadata.get("inputs") or []
        if not inputs:
            raise SubjectInvalid(
                f"the metadata of model {self.options.model} names no inputs; say what a valid request is: "
                "--input NAME:DATATYPE:SHAPE for each input, or --request FILE with the JSON of one"
            )
        return tuple((tensor["name"], tensor["datatype"], list(tensor["shape"])) for tensor in inputs)

    def sample(self, number: int) -> list[Tensor]:
        """The inputs of a valid request; another number is other contents, as far as the options give them."""
        if self.options.request:
            return _read_request(self.options.request)
        random = np.random.default_rng(number)
        return [self._fill(name, datatype, _fixed(shape), number, random) for name, datatype, shape in self.described]

    def by_metadata(self, number: int) -> list[Tensor]:
        """All inputs that the model's metadata lists. Raises Violation where it lists none."""
        listed = self.model_metadata.get("inputs") or []
        if not listed:
            raise Violation(f"the metadata of model {self.options.model} lists no inputs")
        random = np.random.default_rng(number)
        return [self._fill(x["name"], x["datatype"], _fixed(x["shape"]), number, random) for x in listed]

    def batch(self, size: int) -> list[Tensor]:
        """Samples 0 to `size` - 1 as one request, for a model whose first sides are variable (the extension `batch`)."""
        return [
            Tensor(rows[0].name, rows[0].datatype, (size, *rows[0].shape[1:]), np.concatenate([row.values for row in rows]))
            for rows in zip(*map(self.sample, range(size)), strict=True)
        ]

    def _fill(self, name: str, datatype: str, shape: tuple[int, ...], number: int, random: np.random.Generator) -> Tensor:
        count = math.prod(shape)
        if datatype == "BYTES":
            return Tensor(name, datatype, shape, make_values([self._element(number + n) for n in range(count)]))
        if datatype.startswith("FP"):
            return Tensor(name, datatype, shape, random.random(count).astype(NUMPY[datatype]))
        limit = {"BOOL": 2, "INT8": 128}.get(datatype, 256)
        return Tensor(name, datatype, shape, random.integers(0, limit, count).astype(NUMPY[datatype]))

    def _element(self, number: int) -> bytes:
        images = self.options.images
        return images[number % len(images)].read_bytes() if images else f"conformance {number}".encode()

    def infer(self, fields: rest.Fields, path: str = "/infer") -> httpx.Response:
        """POST an inference request object."""
        return self.http.post(f"{self.model_path}{path}", content=json.dumps(fields), headers=rest.JSON_HEADERS)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's configuration as the extension model_configuration has it, empty where the server tells none."""
        if self.options.rest and (found := self._get(f"{self.model_path}/config")):
            return found
        if self.options.grpc:
            request = messages.ModelConfigRequest(name=self.options.model)
            try:
                config = self.stub.ModelConfig(request, timeout=TIMEOUT_S).config
            except grpc.RpcError:
                return {}
            return {"max_batch_size": config.max_batch_size}
        return {}

    @property
    def batches(self) -> bool:
        """Whether a first side counts inferences to the server: a configuration with `max_batch_size` 0 says that it does not."""
        return self.config.get("max_batch_size", 1) != 0

    @cached_property
    def reference(self) -> Answer:
        """The answer to sample 0: what the other forms of asking are held against."""
        return self.answer_to(self.sample(0))

    def answer_to(self, tensors: Sequence[Tensor]) -> Answer:
        """The answer to inputs in the protocol's simplest form: JSON, or raw contents where REST is left out."""
        if self.options.rest:
            return rest.read_answer(self.infer(rest.request_fields(tensors)))
        return rpc.read_answer(self.stub.ModelInfer(rpc.infer_request(self.options.model, tensors), timeout=TIMEOUT_S))

    def other_sample(self) -> int:
        """The number of a sample whose answer is not sample 0's. Raises Violation where none of eight is."""
        for number in range(1, 8):
            if answers.differ(self.answer_to(self.sample(number)), self.reference):
                return number
        raise Violation("eight requests got the same answer; give the suite inputs that differ, such as several --image")

    def claims(self, extension: str) -> bool:
        """Whether the server says that it has an extension.

        Triton's documents name an optional component in brackets: `model_repository(index)` is the index alone. Options
        of the protocol itself and of HTTP have no name there; how each is claimed is in CLAIMS.
        """
        names = {str(name).removesuffix("_extension") for name in self.metadata.get("extensions") or ()}
        names |= set(self.options.assumed)
        if extension in CLAIMS and extension not in names:
            if extension not in self._found:
                self._found[extension] = CLAIMS[extension](self)
            return self._found[extension]
        return extension in names or extension.partition("(")[0] in names

    def _get(self, path: str) -> dict[str, Any]:
        try:
            return rest.read_object(self.http.get(path))
        except Violation:
            return {}

    def _call(self, method: str, request: Any) -> dict[str, Any]:
        """A gRPC answer in the shape of REST's."""
        try:
            answered = getattr(self.stub, method)(request, timeout=TIMEOUT_S)
        except grpc.RpcError:
            return {}
        return _as_fields(answered)


def _as_fields(message: Any) -> dict[str, Any]:
    tensors = {
        kind: [{"name": x.name, "datatype": x.datatype, "shape": list(x.shape)} for x in getattr(message, kind, ())]
        for kind in ("inputs", "outputs")
    }
    plain = {kind: list(getattr(message, kind, ())) for kind in ("versions", "extensions")}
    return {"name": message.name, "platform": getattr(message, "platform", ""), **plain, **tensors}


def _fixed(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without variable sides: the first is a batch of one."""
    return tuple(side if side >= 0 else (1 if n == 0 else FREE_SIDE) for n, side in enumerate(shape))


def _parse_input(text: str) -> tuple[str, str, list[int]]:
    try:
        name, datatype, shape = text.split(":")
        sides = [int(side) for side in shape.split(",")]
    except ValueError as err:
        raise SubjectInvalid(f"--input {text}: expected NAME:DATATYPE:SHAPE, such as image:BYTES:-1 or x:FP32:1,4") from err
    if datatype not in NUMPY:
        raise SubjectInvalid(f"--input {text}: {datatype} is no datatype of the protocol; {', '.join(NUMPY)} are")
    return name, datatype, sides


def _read_request(path: Path) -> list[Tensor]:
    try:
        inputs = json.loads(path.read_text())["inputs"]
        return [from_json(x["name"], x["datatype"], x["shape"], x["data"]) for x in inputs]
    except (OSError, ValueError, KeyError, TypeError, Violation) as err:
        raise SubjectInvalid(f"--request {path} is no JSON of an inference request: {err!r}") from err


def _has_batch(subject: Subject) -> bool:
    """Every input and output says that its first side is variable."""
    outputs = subject.model_metadata.get("outputs") or []
    shapes = [shape for _, _, shape in subject.described] + [output["shape"] for output in outputs]
    return not subject.options.request and bool(outputs) and all(shape and shape[0] == -1 for shape in shapes)


def _reads(coding: str) -> Callable[[Subject], bool]:
    def reads(subject: Subject) -> bool:
        """A compressed request is answered; a server that cannot read one refuses it (RFC 9110, section 15.5.16)."""
        if not subject.options.rest:
            return False
        body = CODINGS[coding](json.dumps(rest.request_fields(subject.sample(0))).encode())
        headers = {**rest.JSON_HEADERS, "Content-Encoding": coding}
        return subject.http.post(f"{subject.model_path}/infer", content=body, headers=headers).status_code == 200

    return reads


CODINGS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


def _streams(subject: Subject) -> bool:
    """A stream without any request is answered by nothing; a server without streams does not have the method."""
    if not subject.options.grpc:
        return False
    try:
        return not list(subject.stub.ModelStreamInfer(iter(()), timeout=TIMEOUT_S))
    except grpc.RpcError as err:
        return bool(err.code() != grpc.StatusCode.UNIMPLEMENTED)


CLAIMS: dict[str, Callable[[Subject], bool]] = {
    "streams": _streams,
    "versions": lambda subject: bool(subject.version),
    "batch": _has_batch,
    **{f"content_coding({coding})": _reads(coding) for coding in CODINGS},
}
