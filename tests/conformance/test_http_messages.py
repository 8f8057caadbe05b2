"""HTTP/1.1 messages that no client library writes and RFC 9112 has a sentence about: framing, fields, Upgrade, Expect."""

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.conformance import wire
from tests.conformance.rest import JSON_HEADERS, request_fields
from tests.conformance.subject import UNKNOWN, Subject

pytestmark = [pytest.mark.over("rest"), pytest.mark.group("REST: HTTP messages")]

H2C = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
CHUNKED = {**JSON_HEADERS, "Transfer-Encoding": "chunked"}


def _good(subject: Subject) -> bytes:
    return json.dumps(request_fields(subject.sample(0))).encode()


def _chunked(body: bytes, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n0\r\n%s\r\n" % (len(body), extension, body, trailer)


@contextmanager
def _sent(subject: Subject, *parts: bytes, pause_s: float = 0.0) -> Iterator["wire.socket.socket"]:
    with closing(wire.connect(subject)) as connection:
        for number, part in enumerate(parts):
            if number:
                time.sleep(pause_s)
            connection.sendall(part)
        yield connection


def _status(subject: Subject, message: bytes) -> int:
    with _sent(subject, message) as connection:
        return wire.read(connection).status


@pytest.mark.required("RFC 9112, section 3.2 (MUST respond with 400)")
@pytest.mark.parametrize("hosts", [0, 2])
def test_a_request_has_one_host(subject: Subject, hosts: int) -> None:
    message = wire.request("GET", "/v2", {}, host=None).replace(b"\r\n\r\n", b"\r\nHost: server" * hosts + b"\r\n\r\n")
    assert _status(subject, message) == 400


@pytest.mark.required("RFC 9112, section 5.1 (MUST reject with 400)")
def test_no_whitespace_before_the_colon(subject: Subject) -> None:
    message = wire.request("GET", "/v2", {"Accept": "*/*"}).replace(b"Accept:", b"Accept :")
    assert _status(subject, message) == 400


@pytest.mark.required("RFC 9112, section 5.1 (whitespace around a value is no part of it)")
def test_whitespace_around_a_value_is_no_part_of_it(subject: Subject) -> None:
    body = _good(subject)
    message = wire.request("POST", f"{subject.model_path}/infer", {"Content-Length": f"\t {len(body)} \t"}, body)
    assert _status(subject, message) == 200


@pytest.mark.extension("content_coding(gzip)", "RFC 9112, section 5.1 (whitespace around a value is no part of it)")
def test_whitespace_around_a_content_coding_is_no_part_of_it(subject: Subject) -> None:
    body = gzip.compress(_good(subject))
    message = wire.request("POST", f"{subject.model_path}/infer", {**JSON_HEADERS, "Content-Encoding": " gzip "}, body)
    assert _status(subject, message) == 200


@pytest.mark.required("RFC 9112, section 3.2.2 (MUST accept the absolute form)")
def test_the_absolute_form_is_read(subject: Subject) -> None:
    assert _status(subject, wire.request("GET", f"http://{wire.host_of(subject)}/v2/health/live", {})) == 200


@pytest.mark.required("RFC 9110, section 9.3.2 (MUST NOT send content)")
def test_an_answer_to_head_has_no_content(subject: Subject) -> None:
    with _sent(subject, wire.request("HEAD", "/v2", {})) as connection:
        answer = wire.read(connection, "HEAD")
        if answer.closes:
            assert wire.is_closed(connection)
        else:
            connection.sendall(wire.request("GET", "/v2/health/live", {}))
            assert wire.read(connection).status == 200


@pytest.mark.required("RFC 9112, section 9.3.2 (responses in the requests' order)")
def test_pipelined_requests_are_answered_in_order(subject: Subject) -> None:
    paths = ["/v2/health/live", f"/v2/{UNKNOWN}", "/v2"] * 4
    with _sent(subject, b"".join(wire.request("GET", path, {}) for path in paths)) as connection:
        found = [wire.read(connection).status for _ in paths]
    assert [status == 200 for status in found] == [path != paths[1] for path in paths]


@pytest.mark.required("RFC 9112, section 7 (codings are case-insensitive) and 7.1.1 (extensions are ignored), 7.1.2 (trailers)")
@pytest.mark.parametrize(
    ("coding", "extension", "trailer"),
    [("CHUNKED", b"", b""), ("chunked", b';name="value"', b""), ("chunked", b"", b"X-After: all\r\n")],
    ids=["case", "extension", "trailer"],
)
def test_chunks_are_read_whatever_comes_with_them(subject: Subject, coding: str, extension: bytes, trailer: bytes) -> None:
    body = _chunked(_good(subject), extension, trailer)
    headers = {**JSON_HEADERS, "Transfer-Encoding": coding}
    assert _status(subject, wire.request("POST", f"{subject.model_path}/infer", headers, body)) == 200


@pytest.mark.recommended("RFC 9112, section 6.1 (SHOULD respond with 501)")
def test_an_unknown_transfer_coding_is_501(subject: Subject) -> None:
    headers = {**JSON_HEADERS, "Transfer-Encoding": f"{UNKNOWN}, chunked"}
    message = wire.request("POST", f"{subject.model_path}/infer", headers, _chunked(_good(subject)))
    assert _status(subject, message) == 501


@pytest.mark.required("RFC 9112, section 6.3 (MUST respond with 400 and close)")
def test_two_lengths_are_refused(subject: Subject) -> None:
    body = _good(subject)
    message = wire.request("POST", f"{subject.model_path}/infer", {**JSON_HEADERS, "Content-Length": str(len(body))}, body)
    with _sent(subject, message.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n", 1)) as connection:
        assert wire.read(connection).status == 400
        assert wire.is_closed(connection)


@pytest.mark.required("RFC 9112, section 6.1 (a length and chunks: MUST close after responding)")
def test_a_length_beside_chunks_ends_the_connection(subject: Subject) -> None:
    body = _chunked(_good(subject))
    headers = {**CHUNKED, "Content-Length": str(len(body))}
    with _sent(subject, wire.request("POST", f"{subject.model_path}/infer", headers, body)) as connection:
        wire.read(connection)
        assert wire.is_closed(connection)


@pytest.mark.required("RFC 9110, section 7.8 (an Upgrade that is ignored leaves the request as it is)")
@pytest.mark.parametrize("pause_s", [0.0, 0.3], ids=["at once", "body later"])
def test_a_request_with_an_upgrade_is_answered(subject: Subject, pause_s: float) -> None:
    """Java's HttpClient sends this by default, and `curl --http2`. Who upgrades answers 101, then in HTTP/2."""
    body = _good(subject)
    message = wire.request("POST", f"{subject.model_path}/infer", {**JSON_HEADERS, **H2C}, body)
    head, parts = message[: -len(body)], (message,)
    with _sent(subject, *((head, body) if pause_s else parts), pause_s=pause_s) as connection:
        answer = connection.recv(64)
    assert answer.split()[1] in (b"200", b"101")


@pytest.mark.required("RFC 9112, section 6.3 (a request's body is its body, and not the next request)")
def test_the_body_of_a_request_with_an_upgrade_is_no_request(subject: Subject) -> None:
    inner = wire.request("GET", "/v2/health/live", {})
    message = wire.request("POST", f"{subject.model_path}/infer", {**JSON_HEADERS, **H2C}, inner)
    with _sent(subject, message[: -len(inner)], inner, pause_s=0.5) as connection:
        if connection.recv(12, wire.socket.MSG_PEEK).split()[-1:] == [b"101"]:
            return  # the rest is HTTP/2
        wire.read(connection)
        assert not wire.says_more(connection)


@pytest.mark.required("RFC 9110, section 10.1.1 (MUST ignore 100-continue of an HTTP/1.0 client)")
def test_http_1_0_is_not_told_to_continue(subject: Subject) -> None:
    message = wire.request(
        "POST", f"{subject.model_path}/infer", {**JSON_HEADERS, "Expect": "100-continue"}, _good(subject), version="1.0"
    )
    with _sent(subject, message) as connection:
        assert connection.recv(12).split()[-1:] == [b"200"]


@pytest.mark.required("RFC 9110, section 10.1.1 (100-continue: MUST send 100 or a final status)")
def test_who_waits_for_100_is_not_left_waiting(subject: Subject) -> None:
    body = _good(subject)
    message = wire.request("POST", f"{subject.model_path}/infer", {**JSON_HEADERS, "Expect": "100-continue"}, body)
    with _sent(subject, message[: -len(body)]) as connection:
        assert connection.recv(12).split()[-1:] in ([b"100"], [b"200"])


@pytest.mark.recommended("RFC 9110, section 10.1.1 (a final status SHOULD say whether the connection goes on)")
def test_an_early_refusal_says_whether_the_connection_goes_on(subject: Subject) -> None:
    """It closes, or it goes on and reads the body that nobody wants."""
    body = b" " * 100
    message = wire.request("POST", f"/v2/{UNKNOWN}", {**JSON_HEADERS, "Expect": "100-continue"}, body)
    with _sent(subject, message[: -len(body)]) as connection:
        connection.settimeout(wire.QUIET_S)
        if connection.recv(12, wire.socket.MSG_PEEK).split()[-1:] == [b"100"]:
            return  # it wants to read the body first
        if not wire.read(connection).closes:
            connection.sendall(body + wire.request("GET", "/v2/health/live", {}))
            assert wire.read(connection).status == 200
