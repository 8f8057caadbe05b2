"""The V2 protocol over gRPC: the methods, and the status of each answer."""

import asyncio
import functools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.empty_pb2 import Empty

from handlers.errors import VisorError
from transformer.budget import Charge
from transformer.errors import (
    DeadlineExceeded,
    MemorySpent,
    ModelNotReady,
    PortTaken,
    RequestTooLarge,
    Unauthenticated,
    Unavailable,
    grpc_code,
    is_trouble,
)
from transformer.grpc.api import Api, Call, infer_request, parse
from transformer.grpc.health import WATCH_S, health_handlers
from transformer.grpc.messages import SERVICE, message, service_descriptor
from transformer.grpc.receiving import Receiver
from transformer.grpc.wire import walk
from transformer.listening import join_port
from transformer.request_log import ID_HEADER, Record
from transformer.service import Service
from transformer.tokens import AUTHORIZATION, OPEN_METHODS, Tokens

logger = logging.getLogger(__name__)

CODE_KEY = "visor-code"  # trailing metadata: an error's stable code
RETRY_KEY = "retry-after"  # trailing metadata, in seconds, as over HTTP
PUSHBACK_KEY = "grpc-retry-pushback-ms"  # the same for gRPC's own retries (gRPC proposal A6)
CHALLENGE_KEY = "www-authenticate"  # trailing metadata, as over HTTP
# Details travel in a header, and clients refuse headers over 8 KiB.
DETAIL_CHARACTERS = 1000
INFER, STREAM = "ModelInfer", "ModelStreamInfer"
MAX_CALLS = 512
"""Calls at once, of which those that wait to be received hold up to 64 KiB each."""

STREAM_CALLS = 8
"""Requests of one stream that are answered at once."""

PING_MS = 500
"""Milliseconds between a connection's pings. Where a client sends three sooner, gRPC ends its connection, and calls with it.

gRPC's own default is 5 minutes, so that a client that asks every second whether the server is still there lost calls for it.
"""

SMALL_BYTES = 64 << 10
"""The largest message of a method that is no inference."""

SHARED_MEMORY_METHODS = tuple(
    f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")
)

Metadata = tuple[tuple[str, str], ...]


Method = Callable[[Any, Call], Awaitable[Any]]
Receive = Callable[[], Awaitable[bytes]]
Attempt = Callable[[Any, Charge, Receive], Awaitable[tuple[Record, bytes]]]


def create_server(
    service: Service, host: str, port: int, age_s: float, message_bytes: int | None = None
) -> tuple[grpc.aio.Server, int]:
    """Make the gRPC side of a service, not started, and bind its port.

    `age_s`: a connection's longest age. `message_bytes`: the largest message, for one of which there is memory beside the
    service's budget; None for the largest body. Raises PortTaken.
    """
    limit = message_bytes or service.limits.max_body_bytes
    receiver = Receiver(service.budget, limit, service.limits.body_timeout_s)
    server = grpc.aio.server(
        interceptors=(_TokenCheck(service, service.tokens),) if service.tokens else (),
        maximum_concurrent_rpcs=MAX_CALLS,
        options=[
            ("grpc.http2.bdp_probe", 0),  # it widens the window of calls whose message nobody receives yet
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            ("grpc.so_reuseport", 0),  # a port that another process has is an error, not half of its connections
            ("grpc.max_connection_age_ms", round(age_s * 1000)),
            ("grpc.http2.min_ping_interval_without_data_ms", PING_MS),
        ],
    )
    server.add_generic_rpc_handlers((_handlers(Api(service), service, receiver), health_handlers(service, receiver)))
    address = join_port(host, port)
    try:
        return server, server.add_insecure_port(address)
    except RuntimeError as err:
        # What gRPC says is how to have it say more.
        raise PortTaken(
            f"gRPC cannot listen on {address}: another program does, or this user may not; choose another port by --grpc-port"
        ) from err


class _TokenCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Refuses calls that lack a token, before their messages are read."""

    def __init__(self, service: Service, tokens: Tokens) -> None:
        self._service = service
        self._tokens = tokens

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        service, _, method = call.method.lstrip("/").partition("/")
        if service == SERVICE and method not in OPEN_METHODS:
            try:
                self._tokens.check(_metadata(call.invocation_metadata, AUTHORIZATION))
            except Unauthenticated as err:
                return self._refusing(call, err)
        return await continuation(call)

    def _refusing(self, call: Any, err: Unauthenticated) -> Any:
        async def refuse(_: AsyncIterator[bytes], context: Any) -> None:
            record = Record("grpc", call.method)
            record.name(_metadata(call.invocation_metadata, ID_HEADER) or "")
            record.fail(err)
            self._service.end(record)
            await _abort(context, err, record.id)

        # A stream of messages for every method: nobody reads one.
        return grpc.stream_unary_rpc_method_handler(refuse)


def _handlers(api: Api, service: Service, receiver: Receiver) -> grpc.GenericRpcHandler:
    # On the wire a call of one message looks like one of many, and as such it is received when its handler asks for it.
    # Bytes in and bytes out: a message that cannot be parsed is the client's mistake, and gRPC would call it ours.
    methods = {}
    for method in service_descriptor().methods:
        request_class = message_factory.GetMessageClass(method.input_type)
        attempt = functools.partial(_attempt, method.name, request_class, getattr(api, _snake(method.name)), service)
        if method.name == STREAM:
            methods[method.name] = grpc.stream_stream_rpc_method_handler(_streaming(attempt, service, receiver))
        else:
            methods[method.name] = grpc.stream_unary_rpc_method_handler(_answering(attempt, service, receiver))
    for name in SHARED_MEMORY_METHODS:
        refusing = functools.partial(_attempt, name, Empty, api.no_shared_memory, service)
        methods[name] = grpc.stream_unary_rpc_method_handler(_answering(refusing, service, receiver))
    return grpc.method_handlers_generic_handler(SERVICE, methods)


async def _attempt(
    name: str, request_class: Any, method: Method, service: Service, context: Any, charge: Charge, receive: Receive
) -> tuple[Record, bytes]:
    """Call a method with the message that it receives, and note in its record what becomes of it: an answer, or an error."""
    record = Record("grpc", f"/{SERVICE}/{name}", inference=name in (INFER, STREAM))
    record.name(_metadata(context.invocation_metadata(), ID_HEADER) or "")
    answered = b""
    try:
        if record.inference:
            service.check_room()
        body = await receive()
        record.bytes_in = len(body)
        call = Call(record, context.time_remaining(), charge)
        answer = await method(body if record.inference else _parse_small(request_class, body), call)
        answered = answer.SerializeToString()
        charge.force(len(answered))
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


def _answering(attempt: Attempt, service: Service, receiver: Receiver) -> Callable[[Any, Any], Awaitable[bytes]]:
    """Wrap a method of one message in its errors' statuses and the trailing metadata."""

    async def answer(_: Any, context: Any) -> bytes:
        with service.budget.open() as charge:
            record, answered = await attempt(context, charge, lambda: receiver.receive(context, charge))
        if record.error is None:
            context.set_trailing_metadata(((ID_HEADER, record.id),))
            return answered
        await _abort(context, record.error, record.id)
        raise AssertionError("abort raises")

    return answer


def _streaming(attempt: Attempt, service: Service, receiver: Receiver) -> Callable[[Any, Any], Awaitable[None]]:
    """Make a method of many requests: each has its answer, in their order, and an error is an answer like the others.

    STREAM_CALLS of them wait for their answers at once, and what a client sends beyond that waits on its side. A server that is
    about to stop answers what it has read and ends the stream with UNAVAILABLE, for the client to go on with another one; so it
    does with RESOURCE_EXHAUSTED where a stream that brings nothing has the place of a message that others wait for.
    """

    async def answer_one(body: bytes, charge: Charge, context: Any) -> bytes:
        async def received() -> bytes:
            return body

        with charge:
            record, answered = await attempt(context, charge, received)
            return answered if record.error is None else _render_error(record.error, body)

    async def answer(_: Any, context: Any) -> None:
        calls: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(STREAM_CALLS)
        ending: VisorError | None = None

        async def write() -> None:
            while call := await calls.get():
                await context.write(await call)

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            try:
                while received := await _next(context, service, receiver):
                    await calls.put(group.create_task(answer_one(*received, context)))
            except (MemorySpent, ModelNotReady) as err:
                ending = err
            await calls.put(None)
        if ending is not None:
            await _abort(context, ending, "")

    return answer


async def _next(context: Any, service: Service, receiver: Receiver) -> tuple[bytes, Charge] | None:
    """Receive a stream's next message, and what it is charged; None after the last one.

    Raises MemorySpent, and ModelNotReady where the server is about to stop.
    """
    charge = service.budget.open()
    receiving = asyncio.ensure_future(receiver.receive_next(context, charge))
    try:
        while not service.draining:
            if (await asyncio.wait({receiving}, timeout=WATCH_S))[0]:
                body = receiving.result()
                return None if body is None else (body, charge)
        raise service.not_ready()
    finally:
        receiving.cancel()


def _render_error(error: VisorError, body: bytes) -> bytes:
    """Make a stream's answer to a request that failed; its id tells which one that was."""
    try:
        failed = parse(infer_request(), walk(body).message).id
    except VisorError:
        failed = ""
    answer = message("ModelStreamInferResponse")(error_message=str(error), infer_response={"id": failed})
    return bytes(answer.SerializeToString())


async def _abort(context: Any, error: VisorError, request_id: str) -> None:
    """End a call with an error; raises what gRPC ends it with."""
    await context.abort(grpc_code(error), str(error)[:DETAIL_CHARACTERS], trailing_metadata=_trailer(error, request_id))


def _metadata(sent: Any, wanted: str) -> str | None:
    """The value of a call's metadata, the first one where it came twice."""
    return next((str(value) for key, value in sent if key == wanted), None)


def _trailer(error: VisorError, request_id: str) -> Metadata:
    more: Metadata = ()
    if isinstance(error, Unavailable):
        more = ((RETRY_KEY, str(error.retry_after_s)), (PUSHBACK_KEY, str(1000 * error.retry_after_s)))
    elif isinstance(error, Unauthenticated):
        more = ((CHALLENGE_KEY, error.challenge),)
    return ((CODE_KEY, error.code), (ID_HEADER, request_id), *more)


def _parse_small(request_class: Any, body: bytes) -> Any:
    """Parse a message that has a few words: one as large as an inference's would cost more than it was charged."""
    if len(body) > SMALL_BYTES:
        raise RequestTooLarge(f"the message has {len(body)} bytes; this method's has {SMALL_BYTES} at most")
    return parse(request_class, body)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
