"""The console's log: one JSON object a line on standard error, with no picture, key or token in it."""

import logging
import sys
from typing import Any, TextIO

import orjson
import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, WrappedLogger

SECRET = frozenset({"authorization", "cookie", "key", "secret", "token", "csrf", "password", "content", "picture", "body"})
"""Names of fields whose values never reach the log."""


def configure(level: int = logging.INFO) -> None:
    """Send the console's events, and those of libraries that log to the standard library, to standard error as JSON."""
    common: list[Any] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", key="time"),
        without_secrets,
    ]
    rendered: list[Any] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_dump),
    ]
    # The console's own lines, one for each request, do not pass through the standard library, which would take longer.
    structlog.configure(
        processors=[*common, *rendered],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    _Lines.stream = sys.stderr
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn.access", "aiohttp.access"):  # the console writes a line of its own for each request
        logging.getLogger(name).setLevel(logging.WARNING)


class _Lines:
    """Writes lines, each at once and whole, to what was standard error when the log was configured last."""

    stream: TextIO = sys.stderr

    def __init__(self, *_: Any) -> None:
        pass

    def msg(self, line: str) -> None:
        self.stream.write(f"{line}\n")

    debug = info = warning = error = critical = msg


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose events have fields: `log.info("request", path=path)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Take the values of secret fields, and all bytes, out of an event."""
    for name, value in event.items():
        if name.lower() in SECRET or isinstance(value, bytes | bytearray | memoryview):
            event[name] = "left out"
    return event


def _dump(fields: Any, **_: Any) -> str:
    return orjson.dumps(fields, default=str).decode()
