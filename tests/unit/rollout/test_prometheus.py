"""Whatever is at the address of Prometheus, over real sockets: what it says, or one error that says why not, in time."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import pytest

from rollout import prometheus
from rollout.errors import PrometheusUnreachable
from rollout.prometheus import ask

Serve = Callable[[socket.socket, Event, str], None]
"""Answers, until the event is set, a request of this text."""


@contextmanager
def served(serve: Serve) -> Iterator[str]:
    """A server that reads one request and leaves the rest to `serve`; its address."""
    over = Event()

    def run() -> None:
        line, _ = listener.accept()
        with line, suppress(OSError):  # the client may hang up
            request = b""
            while b"query=" not in request:  # what is left unread would reset the connection
                request += line.recv(65536)
            serve(line, over, request.decode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=run)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def answering(text: str, status: str = "200 OK") -> Serve:
    return raw(f"HTTP/1.1 {status}\r\nContent-Length: {len(text.encode())}\r\n\r\n{text}")


def raw(text: str) -> Serve:
    return lambda line, _over, _request: line.sendall(text.encode())


def dripping(head: str, drop: str) -> Serve:
    def serve(line: socket.socket, over: Event, _request: str) -> None:
        line.sendall(head.encode())
        while not over.wait(0.05):
            line.sendall(drop.encode())

    return serve


def found(*series: Any) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": series}})


def test_series_are_their_labels_and_value() -> None:
    with served(answering(found({"metric": {"pod": "a"}, "value": [1.5, "7"]}))) as url:
        assert ask(url, "up") == [({"pod": "a"}, 7.0)]


def test_the_query_is_asked_below_the_path_of_the_address() -> None:
    asked = []

    def serve(line: socket.socket, over: Event, request: str) -> None:
        asked.append(request.partition("\r\n")[0])
        answering("", "404 Not Found")(line, over, request)

    with served(serve) as url, pytest.raises(PrometheusUnreachable, match="HTTP 404 Not Found"):
        ask(f"{url}/prometheus/", "up")
    assert asked == ["POST /prometheus/api/v1/query HTTP/1.1"]


ANSWERS = {
    "a refusal": (answering('{"status": "error", "error": "parse error"}', "400 Bad Request"), "refuses: parse error"),
    "no data": (answering('{"status": "success"}'), "does not answer"),
    "a page": (answering("<html>"), "does not answer"),
    "nothing": (raw(""), "does not answer"),
    "null": (answering("null"), "does not answer"),
    "labels that are none": (answering(found({"metric": 5, "value": [1, "2"]})), "does not answer"),
    "no number": (answering(found({"metric": {}, "value": [1, "NaN"]})), "NaN is no value"),
    "an endless number": (answering(found({"metric": {}, "value": [1, "+Inf"]})), "Inf is no value"),
    "deep": (answering("[" * 100_000), "does not answer"),
    "half": (raw('HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"status"'), "only a part of it came"),
    "half a chunk": (raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc"), "does not answer: IncompleteRead"),
    "no HTTP": (raw("garbage\r\n\r\n"), "does not answer: garbage"),
    "busy": (answering(found(), "503 Service Unavailable"), "HTTP 503 Service Unavailable"),
}


@pytest.mark.parametrize(("serve", "words"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_none_says_so(serve: Serve, words: str) -> None:
    with served(serve) as url, pytest.raises(PrometheusUnreachable, match=words):
        ask(url, "up")


DRIPS = {
    "lines": dripping("HTTP/1.1 200 OK\r\n", "X"),
    "body": dripping("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", "{"),
    "body without an end": dripping("HTTP/1.1 200 OK\r\n\r\n", "{"),
    "chunks": dripping("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n{\r\n"),
}


@pytest.mark.parametrize("serve", DRIPS.values(), ids=DRIPS)
def test_an_answer_that_drips_is_given_up_in_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read of it gets something long before a read's timeout."""
    monkeypatch.setattr(prometheus, "TIMEOUT_S", 0.4)
    with served(serve) as url:
        began = time.monotonic()
        with pytest.raises(PrometheusUnreachable, match=r"not all of it came within 0\.4 s"):
            ask(url, "up")
        assert time.monotonic() - began < 5


def test_an_answer_that_is_too_large_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    text = found({"metric": {"pod": "a"}, "value": [1.5, "7"]})
    monkeypatch.setattr(prometheus, "LARGEST", len(text))
    with served(answering(text)) as url:
        assert len(ask(url, "up")) == 1
    with served(answering(text + " ")) as url, pytest.raises(PrometheusUnreachable, match="more than"):
        ask(url, "up")


ADDRESSES = [
    "http://127.0.0.1:9",
    "file:///etc/passwd",
    "prometheus:9090",
    "http://[::1",
    "http://a b:90",
    "http://127.0.0.1:99999",
]


@pytest.mark.parametrize("url", [*ADDRESSES, "http://", "http://127.0.0.1:x"])
def test_nobody_at_the_address_says_so(url: str) -> None:
    with pytest.raises(PrometheusUnreachable) as caught:
        ask(url, "up")
    assert url in str(caught.value)
