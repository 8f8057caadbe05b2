"""The edge answers with these errors, each of a stable code; `handlers.errors` draws the root and the images' branch.

VisorError
├── RequestError               400, request: what the client sent
│   ├── JsonInvalid            request.json, not the JSON that the protocol asks for
│   ├── ProtobufInvalid        request.protobuf, not the message that the method takes
│   ├── BinaryInvalid          request.binary, raw tensor contents that do not add up
│   ├── InputInvalid           request.input, inputs that are missing, unknown, repeated or contradict each other
│   ├── DatatypeInvalid        request.datatype
│   ├── ShapeInvalid           request.shape
│   ├── OutputInvalid          request.output
│   ├── FormInvalid            request.form, a form that is not one picture
│   ├── SharedMemoryRefused    request.shared_memory
│   ├── RequestTooLarge        request.too_large, 413
│   ├── HttpMalformed          request.http, what is not HTTP/1.1 or what it forbids
│   ├── TransferUnknown        request.transfer, 501: a Transfer-Encoding that is not read
│   ├── HeadTooLarge           request.head, 431
│   ├── Unauthenticated        request.unauthenticated, 401
│   ├── CrossSite              request.cross_site, 403: what another site's page has a browser send
│   ├── BodyTooSlow            request.slow, 408
│   ├── ContentUnsupported     request.content, 415: a Content-Type or Content-Encoding that is not read
│   │   └── CodingUnsupported  the latter, whose answer says Accept-Encoding
│   ├── EncodingBroken         request.encoding, a compressed body that cannot be decompressed
│   ├── PathUnknown            request.path, 404
│   ├── MethodWrong            request.method, 405
│   ├── ThresholdRefused       request.threshold, a threshold of the request's own where the server allows none
│   ├── RepositoryFixed        repository.fixed, what the one archive of a server does not allow
│   ├── DeadlineExceeded       request.deadline, 504: the client's own time is up
│   └── ClientGone             request.gone, 499: nobody is left to be answered
├── OptionError                request.parameter, 400 (handlers.errors)
│   └── GroupUnknown           request.group
├── ModelUnknown               model.not_found, 404
│   └── VersionUnknown         model.version
├── Unavailable                503: worth another try, and the answer says when
│   ├── ModelNotReady          model.not_ready
│   └── ServerOverloaded       server.overloaded
│       └── MemorySpent        server.memory
├── UpstreamFailed             upstream.failed, 502
│   └── UpstreamTimeout        upstream.timeout, 504
├── PortTaken                  serve.port
├── TokensUnusable             serve.tokens
├── ShadowUnusable             serve.shadow
└── SelftestFailed             selftest.failed: a served model did not answer as a client expects
"""

from collections.abc import Iterator
from functools import cache
from reprlib import Repr
from typing import ClassVar

import grpc

from handlers.errors import ImageError, OptionError, VisorError

SHOWN_CHARACTERS = 80
NO_SHARED_MEMORY = "this server uses no shared memory; send tensors in the request"


class RequestError(VisorError):
    """What the client sent cannot be answered."""

    code = "request"
    status = 400


class JsonInvalid(RequestError):
    """The body is not JSON, or not of the form that the protocol gives it."""

    code = "request.json"


class ProtobufInvalid(RequestError):
    """The bytes of a gRPC message are not a protobuf of its type."""

    code = "request.protobuf"


class BinaryInvalid(RequestError):
    """Raw tensor contents whose sizes contradict each other."""

    code = "request.binary"


class InputInvalid(RequestError):
    """Inputs that are missing, unknown or repeated."""

    code = "request.input"


class DatatypeInvalid(RequestError):
    """A tensor of another datatype than its input has, or an element outside its range."""

    code = "request.datatype"


class ShapeInvalid(RequestError):
    """A shape that the input does not have, or that its contents do not fill."""

    code = "request.shape"


class OutputInvalid(RequestError):
    """A requested output that the model does not have, or not with these parameters."""

    code = "request.output"


class FormInvalid(RequestError):
    """A form (multipart/form-data) that cannot be read or brings something else than one picture."""

    code = "request.form"


class SharedMemoryRefused(RequestError):
    """A tensor, or a call, of Triton's shared memory extensions, which are not spoken here."""

    code = "request.shared_memory"


class RequestTooLarge(RequestError):
    """More bytes or more images than one request may bring."""

    code = "request.too_large"
    status = 413


class HeadTooLarge(RequestError):
    """An address and headers of more bytes than are read."""

    code = "request.head"
    status = 431


class Unauthenticated(RequestError):
    """No bearer token, or one that the server does not know."""

    code = "request.unauthenticated"
    status = 401

    def __init__(self, sentence: str, error: str = "") -> None:
        """`error`: RFC 6750's own code, where a token was sent."""
        super().__init__(sentence)
        self.challenge = f'Bearer realm="visor", error="{error}"' if error else 'Bearer realm="visor"'
        """What the answer's header WWW-Authenticate says."""


class CrossSite(RequestError):
    """A POST that a browser sends for a page of another site."""

    code = "request.cross_site"
    status = 403


class HttpMalformed(RequestError):
    """What is not HTTP/1.1, or what HTTP/1.1 forbids."""

    code = "request.http"


class TransferUnknown(RequestError):
    """A Transfer-Encoding that is not read."""

    code = "request.transfer"
    status = 501


class BodyTooSlow(RequestError):
    """A body that comes too slowly, or not at all."""

    code = "request.slow"
    status = 408


class ContentUnsupported(RequestError):
    """A Content-Type or Content-Encoding that is not read."""

    code = "request.content"
    status = 415


class CodingUnsupported(ContentUnsupported):
    """A Content-Encoding that is not read; the answer says which ones are."""


class PathUnknown(RequestError):
    """Nothing is served at this path."""

    code = "request.path"
    status = 404


class MethodWrong(RequestError):
    """The path exists, but not for this method."""

    code = "request.method"
    status = 405


class EncodingBroken(RequestError):
    """A compressed body that is not of the coding that it is said to have, or that is cut off."""

    code = "request.encoding"


class RepositoryFixed(RequestError):
    """A model repository's request that a server of one archive does not grant."""

    code = "repository.fixed"


class ThresholdRefused(RequestError):
    """A threshold of the request's own, at a server that decides by the archive's alone."""

    code = "request.threshold"


class DeadlineExceeded(RequestError):
    """The time that the client gave its request, by its parameter `timeout` or gRPC's deadline, is up."""

    code = "request.deadline"
    status = 504


class ClientGone(RequestError):
    """The client closed the connection before its answer; the status is only ever seen in metrics."""

    code = "request.gone"
    status = 499


class ModelUnknown(VisorError):
    """Another model's name."""

    code = "model.not_found"
    status = 404


class VersionUnknown(ModelUnknown):
    """Another version of this model."""

    code = "model.version"


class Unavailable(VisorError):
    """The same request may be answered after `retry_after_s`, or by another server now."""

    status = 503
    retry_after_s: ClassVar[int] = 1


class ModelNotReady(Unavailable):
    """No worker can take a request now: it starts or restarts."""

    code = "model.not_ready"


class ServerOverloaded(Unavailable):
    """More images wait already than may."""

    code = "server.overloaded"


class MemorySpent(ServerOverloaded):
    """Requests under way take all the memory that this server has for them."""

    code = "server.memory"


class UpstreamFailed(VisorError):
    """TorchServe answered, but not with an answer."""

    code = "upstream.failed"
    status = 502


class UpstreamTimeout(UpstreamFailed):
    """TorchServe did not answer in time."""

    code = "upstream.timeout"
    status = 504


class PortTaken(VisorError):
    """The edge cannot listen at the address that it was given."""

    code = "serve.port"


class TokensUnusable(VisorError):
    """A file of bearer tokens cannot be read, holds none, or holds something else."""

    code = "serve.tokens"


class ShadowUnusable(VisorError):
    """A shadow is told whom to ask and not how much, or how much and not whom."""

    code = "serve.shadow"


class SelftestFailed(VisorError):
    """A served model did not answer as a client expects."""

    code = "selftest.failed"


_GRPC_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    # Not RESOURCE_EXHAUSTED, which clients retry: the same request stays too large.
    413: grpc.StatusCode.INVALID_ARGUMENT,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def grpc_code(error: VisorError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    if isinstance(error, ServerOverloaded):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return _GRPC_CODES[error.status]


def is_trouble(error: VisorError) -> bool:
    """Whether this error is a reason to look at the server; load and impatient clients are none."""
    return error.status >= 500 and not isinstance(error, ServerOverloaded | RequestError)


def item_error(code: str, message: str) -> VisorError:
    """Make the error that the handler answered one image with, by its code. Raises UpstreamFailed for an unknown code."""
    known = {kind.code: kind for kind in kinds(ImageError, OptionError)}
    if code not in known:
        raise UpstreamFailed(f"the handler refused an image with the unknown code {show(code)}: {show(message)}")
    return known[code](message.removeprefix(f"{code}: "))


def show(value: object) -> str:
    """Show a client's value in an error's sentence, shortened, without writing out the whole value first.

    The sentence goes into headers and logs, which both have limits.
    """
    return _short().repr(value)


@cache
def _short() -> Repr:
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = SHOWN_CHARACTERS
    return short


def kinds(*roots: type[VisorError]) -> Iterator[type[VisorError]]:
    """Walk the kinds of error below some of them, these first; of every package that was imported so far."""
    for root in roots:
        yield root
        yield from kinds(*root.__subclasses__())
