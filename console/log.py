"""The console's log: one JSON object a line on standard error, with no picture, key or token in it."""

import logging
import sys
from typing import Any

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
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_dump),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn.access", "aiohttp.access"):  # the console writes a line of its own for each request
        logging.getLogger(name).setLevel(logging.WARNING)


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
