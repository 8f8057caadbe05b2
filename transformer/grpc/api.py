"""The V2 protocol's methods over gRPC: each takes its request's message and makes its answer's."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.message import DecodeError

from transformer import metadata, stats
from transformer.budget import BODY_WEIGHT, Charge
from transformer.errors import NO_SHARED_MEMORY, ModelUnknown, ProtobufInvalid, SharedMemoryRefused
from transformer.grpc.messages import message, parameters_of, parse_request, render_answer
from transformer.grpc.wire import walk
from transformer.request_log import Record
from transformer.service import THREAD_BYTES, PreparedRequest, Service

FINAL_WANTED, FINAL = "triton_enable_empty_final_response", "triton_final_response"
"""Triton's parameters for models that answer a request several times: the last answer is to say that it is, and says so."""


@dataclass(frozen=True)
class Call:
    """One call, for the methods that need more than its message. `left_s`: seconds to the client's deadline, None for none."""

    record: Record
    left_s: float | None
    charge: Charge


class Api:
    """The methods of the gRPC service, each by its name in snake case."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def server_live(self, _: Any, __: Call) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def server_ready(self, _: Any, __: Call) -> Any:
        return message("ServerReadyResponse")(ready=await self._service.ready())

    async def model_ready(self, request: Any, _: Call) -> Any:
        """Another model is not ready, which is an answer, as Triton gives it; over REST the status says the same."""
        try:
            self._service.check_model(request.name, request.version)
        except ModelUnknown:
            return message("ModelReadyResponse")(ready=False)
        return message("ModelReadyResponse")(ready=await self._service.ready())

    async def server_metadata(self, _: Any, __: Call) -> Any:
        return message("ServerMetadataResponse")(**metadata.server_metadata())

    async def model_metadata(self, request: Any, _: Call) -> Any:
        self._service.check_model(request.name, request.version)
        return message("ModelMetadataResponse")(**metadata.model_metadata(self._service.spec))

    async def model_config(self, request: Any, _: Call) -> Any:
        self._service.check_model(request.name, request.version)
        return message("ModelConfigResponse")(config=await self._service.config())

    async def repository_index(self, request: Any, _: Call) -> Any:
        models = metadata.repository_index(self._service.spec, await self._service.ready(), request.ready)
        return message("RepositoryIndexResponse")(models=models)

    async def repository_model_load(self, request: Any, _: Call) -> Any:
        await self._service.load(request.model_name, parameters_of(request))
        return message("RepositoryModelLoadResponse")()

    async def repository_model_unload(self, request: Any, _: Call) -> Any:
        self._service.unload(request.model_name)
        return message("RepositoryModelUnloadResponse")()

    async def model_statistics(self, request: Any, _: Call) -> Any:
        if request.name:
            self._service.check_model(request.name, request.version)
        self._service.flush()
        return message("ModelStatisticsResponse")(**stats.statistics(self._service.spec, self._service.metrics))

    async def model_infer(self, body: bytes, call: Call) -> Any:
        return (await self._infer(body, call))[1]

    async def model_stream_infer(self, body: bytes, call: Call) -> Any:
        wants_final, answer = await self._infer(body, call)
        if wants_final:
            answer.parameters[FINAL].bool_param = True  # a request has one answer, so each is the last one
        return message("ModelStreamInferResponse")(infer_response=answer)

    async def no_shared_memory(self, _: Any, __: Call) -> Any:
        raise SharedMemoryRefused(NO_SHARED_MEMORY)

    async def _infer(self, body: bytes, call: Call) -> tuple[bool, Any]:
        """The answer, and whether the client of a stream wants to be told that it is the last one."""
        if len(body) > THREAD_BYTES:
            prepared, wants_final = await self._service.in_thread(lambda: self._read(body, call))
        else:
            prepared, wants_final = self._read(body, call)
        call.record.name(prepared.id or "")
        return wants_final, render_answer(await self._service.answer(prepared, call.record, call.left_s))

    def _read(self, body: bytes, call: Call) -> tuple[PreparedRequest, bool]:
        """Weigh the message, charge what it costs, and parse it; it awaits nothing."""
        walked = walk(body)
        call.charge.raise_to(BODY_WEIGHT * len(body) + walked.cost)
        request = parse_request(parse(infer_request(), walked.message), walked.raw)
        return self._service.read(request, call.record), request.parameters.get(FINAL_WANTED) is True


def parse(request_class: Any, body: bytes) -> Any:
    """Parse a message. Raises ProtobufInvalid."""
    try:
        return request_class.FromString(body)
    except DecodeError as err:
        raise ProtobufInvalid(f"{len(body)} bytes are not a {request_class.DESCRIPTOR.full_name}: {err}") from err


@cache
def infer_request() -> Any:
    """The class of an inference's request."""
    return message("ModelInferRequest")
