"""Asking Prometheus: one instant query, all of which comes within a time and a size, or an error that says why not."""

import json
import math
import socket
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Timer
from urllib.parse import urlencode, urlsplit

from rollout.errors import PrometheusUnreachable

TIMEOUT_S = 10.0
"""For the whole answer, from the connection on, however slowly it drips."""
LARGEST = 64 * 2**20
"""Bytes of an answer."""

Series = list[tuple[dict[str, str], float]]


def ask(url: str, query: str) -> Series:
    """Ask Prometheus at `url` an instant query: each series' labels and value, a finite one. Raises PrometheusUnreachable."""
    if not url.startswith(("http://", "https://")):
        raise PrometheusUnreachable(f"{url} is no address of Prometheus, such as http://prometheus.monitoring:9090")
    try:
        answer = json.loads(_fetched(url, urlencode({"query": query})))
        if answer["status"] != "success":
            raise PrometheusUnreachable(f"Prometheus at {url} refuses: {answer.get('error', answer['status'])}")
        return [(_labels(series["metric"]), _number(series["value"][1])) for series in answer["data"]["result"]]
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
        raise PrometheusUnreachable(f"Prometheus at {url} does not answer: {err or type(err).__name__}") from err


def _fetched(url: str, body: str) -> bytes:
    """The answer's body. A timeout of the socket is of each read alone, so a timer hangs up."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("the address has no host")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    connection.connect()
    line: socket.socket = connection.sock
    late = []

    def hang_up() -> None:
        late.append(True)
        with suppress(OSError):  # it may have ended just now
            line.shutdown(socket.SHUT_RDWR)

    timer = Timer(TIMEOUT_S, hang_up)
    timer.daemon = True
    timer.start()
    try:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
        connection.request("POST", f"{parts.path.rstrip('/')}/api/v1/query", body, form)
        reply = connection.getresponse()
        text = reply.read(LARGEST + 1)
    except (OSError, HTTPException) as err:
        raise TimeoutError(f"not all of it came within {TIMEOUT_S:g} s") if late else err from err
    finally:
        timer.cancel()
        connection.close()
    if late:
        raise TimeoutError(f"not all of it came within {TIMEOUT_S:g} s")
    if reply.status not in (200, 400, 422):  # the last two with a sentence
        raise OSError(f"HTTP {reply.status} {reply.reason}")
    if len(text) > LARGEST:
        raise ValueError(f"its answer has more than {LARGEST / 2**20:g} MiB")
    if reply.length:
        raise ValueError("only a part of it came")
    return text


def _labels(found: dict[str, str]) -> dict[str, str]:
    return {str(name): str(text) for name, text in found.items()}


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no value to count with")
    return value
