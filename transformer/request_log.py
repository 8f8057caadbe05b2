"""The request log writes one line for each request, at its end, with nothing of the request's pictures or headers: JSON, and on
a terminal a short one for people.

While a request is under way its id is in structlog's context variables, from where other log lines take it too.
"""

import asyncio
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal

import orjson
import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars
from structlog.typing import Processor

from handlers.errors import VisorError, without_traceback
from transformer.errors import ClientGone, grpc_code, is_trouble
from transformer.line_writer import LineWriter, standard_error
from transformer.settings import Level
from transformer.upstream.image_answers import ImageAnswer, Result

ID_HEADER = "x-request-id"
PATH_CHARACTERS = 200
# What a client may call its request: it comes back in a header, where other characters could end the header or start another.
_USABLE_ID = re.compile(r"[!-~]{1,128}")
# Probes and scrapes come every few seconds for ever. Only where they fail do they say something.
_ROUTINE = re.compile(r"/metrics|/v2/health/\w+|.*/ready|.*/(ServerLive|ServerReady|ModelReady)")
_TIME = structlog.processors.TimeStamper(fmt="iso", key="time")


@dataclass
class Record:
    """A record collects what becomes of one request on its way.

    `status`: of an HTTP answer. `queue_s`: the longest that one of its images waited in line. `results`: of its images.
    `threshold`, `group`: the request's own, None where the archive's rule decides. `shadow`: whether another edge asks what it
    has answered already.
    `calls`: of those that TorchServe answered, the seconds in line and the seconds there and back. `error`: what it was
    answered with, None for a success. `seconds`: from the request's first byte to its answer; `ended`: when that was, in seconds
    since the epoch.
    """

    protocol: Literal["rest", "grpc"]
    path: str
    method: str = "POST"
    id: str = ""
    inference: bool = False
    shadow: bool = False
    status: int | None = None
    bytes_in: int = 0
    images: int = 0
    queue_s: float = 0.0
    cache_hits: int = 0
    results: Sequence[Result] = ()
    threshold: float | None = None
    group: str | None = None
    calls: list[tuple[ImageAnswer, float, float]] = field(default_factory=list)
    error: VisorError | None = None
    start: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    ended: float = 0.0

    def name(self, wanted: str) -> None:
        """Take this id if it is usable, otherwise keep the one before or make one up; from here on log lines carry it."""
        if _USABLE_ID.fullmatch(wanted):
            self.id = wanted
        elif self.id:
            return
        else:
            self.id = os.urandom(8).hex()
        bind_contextvars(request_id=self.id)

    def end(self) -> None:
        """Note how long it took, and when that was."""
        self.seconds, self.ended = self.elapsed(), time.time()

    def elapsed(self) -> float:
        """Seconds since the request came."""
        return time.perf_counter() - self.start

    def fail(self, err: BaseException) -> None:
        """Note the error that ended the request; one that is no VisorError is a bug."""
        if isinstance(err, VisorError):
            self.error = without_traceback(err)
        else:
            self.error = ClientGone() if isinstance(err, asyncio.CancelledError) else VisorError(type(err).__name__)

    @property
    def code(self) -> int:
        """The HTTP status; for gRPC, the status that its error has over REST."""
        return self.error.status if self.error else self.status or 200


class RequestLog:
    """A request log writes records as lines. `level`: which requests get one; `about`: the fields that every line has.

    `short`: lines are for people at a terminal, and not JSON.
    """

    def __init__(
        self,
        level: Level = "none",
        about: Mapping[str, str] | None = None,
        file: BinaryIO | LineWriter | None = None,
        *,
        short: bool = False,
    ) -> None:
        self._level = level
        self._short = short
        self._about = dict(about or {})
        self._file = file or sys.stderr.buffer

    def write(self, record: Record) -> None:
        """Write the line of a request that has ended, if the level wants it."""
        error = record.error
        if self._level == "none" or (error is None and (self._level == "errors" or _ROUTINE.fullmatch(record.path))):
            return
        grpc_name = (grpc_code(error).name if error else "OK") if record.protocol == "grpc" else None
        if self._short:
            self._file.write(_short_line(record, grpc_name or str(record.code)).encode() + b"\n")
            self._file.flush()
            return
        fields: dict[str, Any] = {
            **self._about,
            "time": datetime.fromtimestamp(record.ended, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "request_id": record.id,
            "level": "info" if error is None else "error" if is_trouble(error) else "warning",
            "protocol": record.protocol,
            "method": record.method,
            "path": record.path[:PATH_CHARACTERS],
            "status": grpc_name or record.code,
            "code": error.code if error else "",
            "seconds": round(record.seconds, 6),
            "bytes": record.bytes_in,
            "event": "request",
        }
        if record.inference:
            fields |= {"images": record.images, "queue_seconds": round(record.queue_s, 6), "cache_hits": record.cache_hits}
            fields |= {"decisions": _decisions(record)}
            own = {"threshold": record.threshold, "group": record.group}
            fields |= {name: value for name, value in own.items() if value is not None}
            fields |= {"shadow": True} if record.shadow else {}
        self._file.write(_dump(fields) + b"\n")
        self._file.flush()


def _decisions(record: Record) -> Counter[str]:
    return Counter(result.decision for result in record.results if isinstance(result, ImageAnswer))


def _short_line(record: Record, status: str) -> str:
    """What a person at a terminal reads of a request: when, what, its status, what was decided or went wrong, how long."""
    when = time.strftime("%H:%M:%S", time.localtime(record.ended))
    path = record.path[:PATH_CHARACTERS].encode("unicode_escape").decode()  # a client's, and a terminal obeys some characters
    decided = ", ".join(f"{count} {decision}" for decision, count in sorted(_decisions(record).items()))
    wrong = record.error.code if record.error else ""
    return "  ".join(filter(None, (when, f"{record.method} {path}", status, decided, wrong, f"{1e3 * record.seconds:.0f} ms")))


def json_handler() -> logging.Handler:
    """Make a handler that writes other log records in the same form, each with the id of the request that it belongs to.

    Like the request log's its lines go to standard error by a thread, so that a full pipe there stops nothing here.
    """
    common: list[Processor] = [merge_contextvars, structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, _TIME]
    handler: logging.StreamHandler[Any] = logging.StreamHandler(standard_error())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=lambda fields, **options: _dump(fields, **options).decode()),
            ],
        )
    )
    return handler


def _dump(fields: Mapping[str, Any], **_: Any) -> bytes:
    return orjson.dumps(fields, default=str)
