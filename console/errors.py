"""The console answers with these errors, each of a stable code; `handlers.errors` draws the root.

VisorError
└── ConsoleError               console
    ├── SettingsInvalid        console.settings: the console does not start with these
    │   └── KeysUnusable       console.keys, a file of keys that cannot be used
    ├── RequestRefused         400: what the client sent
    │   ├── ParameterInvalid   console.parameter, 422
    │   ├── UploadInvalid      console.upload, a form or a body that cannot be read
    │   ├── ZipRefused         console.zip, a ZIP or an entry of it that is not read
    │   ├── Unauthenticated    console.unauthenticated, 401
    │   ├── ScopeMissing       console.scope, 403
    │   ├── CrossSite          console.cross_site, 403
    │   ├── ModelUnknown       console.model, 404
    │   ├── PathUnknown        console.path, 404
    │   ├── MethodWrong        console.method, 405
    │   ├── NotAcceptable      console.accept, 406
    │   ├── UploadSlow         console.slow, 408
    │   ├── UploadTooLarge     console.too_large, 413
    │   ├── ContentUnsupported console.content, 415
    │   ├── HostUnknown        console.host, 421
    │   └── LimitReached       console.limit, 429
    ├── ServerRefused          the server's own code and status, handed on
    ├── ServerDown             console.server_down, 503
    ├── ServerFailed           console.server_failed, 502: what came is no answer of a V2 server
    ├── ServerSlow             console.server_slow, 504
    ├── LineFull               console.line_full, 503
    └── StorageFull            console.storage, 507
"""

from collections.abc import Iterator
from dataclasses import dataclass

from handlers.errors import VisorError


class ConsoleError(VisorError):
    """What the console itself raises."""

    code = "console"


class SettingsInvalid(ConsoleError):
    """The console does not start with these settings. `by_flag`: a value on the command line is wrong, which ends with 2."""

    code = "console.settings"
    by_flag = False


class KeysUnusable(SettingsInvalid):
    """A file of API keys cannot be read or written, or holds something else."""

    code = "console.keys"


class RequestRefused(ConsoleError):
    """What the client sent cannot be answered."""

    code = "console.request"
    status = 400


class ParameterInvalid(RequestRefused):
    """A field of the form, or of the address, has a value that it cannot have."""

    code = "console.parameter"
    status = 422


class UploadInvalid(RequestRefused):
    """A form that cannot be read, or that brings no picture or too many."""

    code = "console.upload"


class ZipRefused(RequestRefused):
    """A ZIP that cannot be read, or an entry of it that is not."""

    code = "console.zip"


class Unauthenticated(RequestRefused):
    """No API key, or one that the console does not know."""

    code = "console.unauthenticated"
    status = 401


class ScopeMissing(RequestRefused):
    """An API key that may not do this."""

    code = "console.scope"
    status = 403


class CrossSite(RequestRefused):
    """What a browser sends for a page of another site."""

    code = "console.cross_site"
    status = 403


class ModelUnknown(RequestRefused):
    """A model that no server of this console has, or none named where there are several."""

    code = "console.model"
    status = 404


class PathUnknown(RequestRefused):
    """Nothing is at this address."""

    code = "console.path"
    status = 404


class MethodWrong(RequestRefused):
    """The address exists, but not for this method."""

    code = "console.method"
    status = 405


class NotAcceptable(RequestRefused):
    """The header Accept names nothing that the answer could be."""

    code = "console.accept"
    status = 406


class UploadSlow(RequestRefused):
    """An upload that comes too slowly, or not at all."""

    code = "console.slow"
    status = 408


class UploadTooLarge(RequestRefused):
    """More bytes or more pictures than one upload may bring."""

    code = "console.too_large"
    status = 413


class ContentUnsupported(RequestRefused):
    """A Content-Type that is not read here."""

    code = "console.content"
    status = 415


class HostUnknown(RequestRefused):
    """A host by whose name this console is not to be asked."""

    code = "console.host"
    status = 421


class LimitReached(RequestRefused):
    """A key has used up its requests or bytes of this minute; the answer says when there are more."""

    code = "console.limit"
    status = 429

    def __init__(self, sentence: str, retry_after_s: int) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class ServerRefused(ConsoleError):
    """A server refused what it was asked: its own code, status and sentence are handed on."""

    code = "console.server_refused"

    def __init__(self, code: str, status: int, sentence: str, retry_after_s: int | None = None) -> None:
        super().__init__(sentence)
        self.told_code, self.told_status, self.retry_after_s = code, status, retry_after_s


class ServerDown(ConsoleError):
    """A server cannot be reached, or is not ready to answer."""

    code = "console.server_down"
    status = 503
    retry_after_s = 5


class ServerFailed(ConsoleError):
    """What came from a server is no answer of the V2 protocol."""

    code = "console.server_failed"
    status = 502


class ServerSlow(ConsoleError):
    """A server did not answer in time."""

    code = "console.server_slow"
    status = 504


class LineFull(ConsoleError):
    """More pictures wait for a server than may, or one has waited for too long."""

    code = "console.line_full"
    status = 503
    retry_after_s = 5


class StorageFull(ConsoleError):
    """The console's disk has no room for an upload."""

    code = "console.storage"
    status = 507


@dataclass(frozen=True)
class Told:
    """An error as a client is told it. `retry_after_s`: seconds after which the same request may be answered, if any."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None

    def body(self) -> dict[str, dict[str, str]]:
        """The JSON of an error's answer."""
        return {"error": {"code": self.code, "message": self.message}}


_TAGS = str.maketrans("<>", "\u2039\u203a")
"""A sentence may show what a client sent, a server's too: it holds no HTML, wherever it is shown."""


def told(err: Exception) -> Told:
    """Map an error to what a client is told: the one place that does. One that is no VisorError is a mistake of the console's."""
    sentence = Exception.__str__(err).translate(_TAGS)
    if isinstance(err, ServerRefused):
        return Told(err.told_status, err.told_code, sentence, err.retry_after_s)
    if isinstance(err, VisorError):
        return Told(err.status, err.code, sentence, getattr(err, "retry_after_s", None))
    return Told(500, "internal", "a mistake of the console's own; its log has more")


def kinds(root: type[ConsoleError] = ConsoleError) -> Iterator[type[ConsoleError]]:
    """Walk the kinds of error of the console, the root first."""
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)
