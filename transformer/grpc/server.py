"""The V2 protocol over gRPC: the methods, and the status of each answer."""

import asyncio
import functools
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2_grpc

from handlers.errors import VisorError
from transformer import metadata, stats
from transformer.errors import (
    NO_SHARED_MEMORY,
    DeadlineExceeded,
    ModelUnknown,
    PortTaken,
    ProtobufInvalid,
    SharedMemoryRefused,
    Unavailable,
    grpc_code,
    is_trouble,
)
from transformer.grpc.health import WATCH_S, Health
from transformer.grpc.messages import SERVICE, message, parameters_of, parse_request, render_answer, service_descriptor
from transformer.request_log import ID_HEADER, Record
from transformer.service import Service

logger = logging.getLogger(__name__)

CODE_KEY = "visor-code"  # trailing metadata: an error's stable code
RETRY_KEY = "retry-after"  # trailing metadata, in seconds, as over HTTP
PUSHBACK_KEY = "grpc-retry-pushback-ms"  # the same for gRPC's own retries (gRPC proposal A6)
# Details travel in a header, and clients refuse headers over 8 KiB.
DETAIL_CHARACTERS = 1000
INFER, STREAM = "ModelInfer", "ModelStreamInfer"
STREAM_CALLS = 8
# Triton's parameters for models that answer a request several times: that the last answer is to say that it is, and that it does.
FINAL_WANTED, FINAL = "triton_enable_empty_final_response", "triton_final_response"
SHARED_MEMORY_METHODS = tuple(
    f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")
)

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Call:
    """One call, for the methods that need more than its message. `left_s`: seconds to the client's deadline, None for none."""

    record: Record
    left_s: float | None


Method = Callable[[Any, Call], Awaitable[Any]]
Attempt = Callable[[bytes, Any], Awaitable[tuple[Record, bytes]]]


def create_server(service: Service, host: str, port: int, age_s: float) -> tuple[grpc.aio.Server, int]:
    """Make the gRPC side of a service, not started, and bind its port. `age_s`: a connection's longest age. Raises PortTaken."""
    limit = service.limits.max_body_bytes
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            ("grpc.so_reuseport", 0),  # a port that another process has is an error, not half of its connections
            ("grpc.max_connection_age_ms", round(age_s * 1000)),
        ]
    )
    server.add_generic_rpc_handlers((_handlers(_Api(service), service),))
    health_pb2_grpc.add_HealthServicer_to_server(Health(service, SERVICE), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server, server.add_insecure_port(address)
    except RuntimeError as err:
        raise PortTaken(f"gRPC cannot listen on {address}: {err}; choose another port") from err


class _Api:
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

    async def model_infer(self, request: Any, call: Call) -> Any:
        prepared = self._service.read(parse_request(request), call.record)
        call.record.name(prepared.request.id or "")
        return render_answer(await self._service.answer(prepared, call.record, call.left_s))

    async def model_stream_infer(self, request: Any, call: Call) -> Any:
        answer = await self.model_infer(request, call)
        if request.parameters[FINAL_WANTED].bool_param:
            answer.parameters[FINAL].bool_param = True  # a request has one answer, so each is the last one
        return message("ModelStreamInferResponse")(infer_response=answer)

    async def no_shared_memory(self, _: Any, __: Call) -> Any:
        raise SharedMemoryRefused(NO_SHARED_MEMORY)


def _handlers(api: _Api, service: Service) -> grpc.GenericRpcHandler:
    # Bytes in and bytes out: a message that cannot be parsed is the client's mistake, and gRPC would call it ours.
    methods = {}
    for method in service_descriptor().methods:
        request_class = message_factory.GetMessageClass(method.input_type)
        attempt = functools.partial(_attempt, method.name, request_class, getattr(api, _snake(method.name)), service)
        if method.name == STREAM:
            methods[method.name] = grpc.stream_stream_rpc_method_handler(_streaming(attempt, service))
        else:
            methods[method.name] = grpc.unary_unary_rpc_method_handler(_answering(attempt))
    for name in SHARED_MEMORY_METHODS:
        refusing = functools.partial(_attempt, name, Empty, api.no_shared_memory, service)
        methods[name] = grpc.unary_unary_rpc_method_handler(_answering(refusing))
    return grpc.method_handlers_generic_handler(SERVICE, methods)


async def _attempt(
    name: str, request_class: Any, method: Method, service: Service, body: bytes, context: Any
) -> tuple[Record, bytes]:
    """Call a method with a message, and note in its record what becomes of it: an answer, or the record's error and none."""
    record = Record("grpc", f"/{SERVICE}/{name}", bytes_in=len(body), inference=name in (INFER, STREAM))
    record.name(next((str(value) for key, value in context.invocation_metadata() if key == ID_HEADER), ""))
    answered = b""
    try:
        if record.inference:
            service.check_room()
        answered = (await method(_parse(request_class, body), Call(record, context.time_remaining()))).SerializeToString()
    except Exception as err:
        record.fail(err)
        if not isinstance(err, VisorError):
            logger.exception("an error that is not the client's")
    except asyncio.CancelledError as err:
        late = context.time_remaining() == 0
        record.fail(DeadlineExceeded("gRPC's deadline has passed") if late else err)
        raise
    finally:
        service.end(record)
    if record.error is not None and is_trouble(record.error):
        logger.warning("%s", record.error)
    return record, answered


def _answering(attempt: Attempt) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """Wrap a method in its errors' statuses and the trailing metadata."""

    async def answer(body: bytes, context: Any) -> bytes:
        record, answered = await attempt(body, context)
        if record.error is None:
            context.set_trailing_metadata(((ID_HEADER, record.id),))
            return answered
        await context.abort(
            grpc_code(record.error), str(record.error)[:DETAIL_CHARACTERS], trailing_metadata=_trailer(record.error, record.id)
        )
        raise AssertionError("abort raises")

    return answer


def _streaming(attempt: Attempt, service: Service) -> Callable[[Any, Any], Awaitable[None]]:
    """Make a method of many requests: each has its answer, in their order, and an error is an answer like the others.

    STREAM_CALLS of them wait for their answers at once, and what a client sends beyond that waits on its side. A server that is
    about to stop answers what it has read and ends the stream with UNAVAILABLE, for the client to go on with another one.
    """

    async def answer_one(body: bytes, context: Any) -> bytes:
        record, answered = await attempt(body, context)
        return answered if record.error is None else _render_error(record.error, body)

    async def answer(_: Any, context: Any) -> None:
        calls: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(STREAM_CALLS)

        async def write() -> None:
            while call := await calls.get():
                await context.write(await call)

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            while isinstance(body := await _read(context, service), bytes):
                await calls.put(group.create_task(answer_one(body, context)))
            await calls.put(None)
        if body is None:
            leaving = service.not_ready()
            await context.abort(grpc_code(leaving), str(leaving), trailing_metadata=_trailer(leaving, ""))

    return answer


async def _read(context: Any, service: Service) -> Any:
    """Read a stream's next message: bytes, grpc.aio.EOF after the last one, None once the server is about to stop."""
    reading = asyncio.ensure_future(context.read())
    try:
        while not service.draining:
            if (await asyncio.wait({reading}, timeout=WATCH_S))[0]:
                return reading.result()
        return None
    finally:
        reading.cancel()


def _render_error(error: VisorError, body: bytes) -> bytes:
    """Make a stream's answer to a request that failed; its id tells which one that was."""
    try:
        failed = message("ModelInferRequest").FromString(body).id
    except DecodeError:
        failed = ""
    answer = message("ModelStreamInferResponse")(error_message=str(error), infer_response={"id": failed})
    return bytes(answer.SerializeToString())


def _trailer(error: VisorError, request_id: str) -> Metadata:
    again: Metadata = ()
    if isinstance(error, Unavailable):
        again = ((RETRY_KEY, str(error.retry_after_s)), (PUSHBACK_KEY, str(1000 * error.retry_after_s)))
    return ((CODE_KEY, error.code), (ID_HEADER, request_id), *again)


def _parse(request_class: Any, body: bytes) -> Any:
    try:
        return request_class.FromString(body)
    except DecodeError as err:
        raise ProtobufInvalid(f"{len(body)} bytes are not a {request_class.DESCRIPTOR.full_name}: {err}") from err


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
