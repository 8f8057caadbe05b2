"""The HTTP below the protocol, as any client library uses it."""

import gzip
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conformance.answers import check_same
from tests.conformance.rest import JSON_HEADERS, read_answer, read_error, request_fields
from tests.conformance.subject import CODINGS, TIMEOUT_S, UNKNOWN, Subject

pytestmark = [pytest.mark.over("rest"), pytest.mark.group("REST: HTTP")]

LARGE = 8 << 20  # bytes; more than gRPC's and TorchServe's defaults


def _connect(subject: Subject) -> http.client.HTTPConnection:
    address = urlsplit(subject.options.rest or "")
    return http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)


@pytest.mark.recommended("RFC 9112, section 9.3 (persistence)")
def test_one_connection_serves_many_requests(subject: Subject) -> None:
    body = json.dumps(request_fields(subject.sample(0)))
    with closing(_connect(subject)) as connection:
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("POST", f"{subject.model_path}/infer", body, JSON_HEADERS)
            response = connection.getresponse()
            assert (response.status, response.version) == (200, 11)
            response.read()
            assert connection.sock is first  # http.client drops it where the server wants it closed


@pytest.mark.recommended("RFC 9112, sections 6.3 and 9.3 (a refusal leaves the framing in order)")
def test_a_connection_goes_on_after_an_error(subject: Subject) -> None:
    good = json.dumps(request_fields(subject.sample(0)))
    with closing(_connect(subject)) as connection:
        for body, wanted in (("{", False), (good, True), ("{", False), (good, True)):
            connection.request("POST", f"{subject.model_path}/infer", body, JSON_HEADERS)
            response = connection.getresponse()
            response.read()
            assert (response.status == 200) is wanted


@pytest.mark.required("RFC 9112, section 9.6 (tear-down)")
def test_connection_close_is_honoured(subject: Subject) -> None:
    with closing(_connect(subject)) as connection:
        connection.request("GET", "/v2/health/live", headers={"Connection": "close"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        assert connection.sock is None or connection.sock.recv(1) == b""


@pytest.mark.required("RFC 9112, section 7.1 (a recipient must parse the chunked transfer coding)")
def test_a_chunked_request_is_answered(subject: Subject) -> None:
    text = json.dumps(request_fields(subject.sample(0))).encode()

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(text), 100):
            yield text[at : at + 100]

    response = subject.http.post(f"{subject.model_path}/infer", content=chunks(), headers=JSON_HEADERS)
    assert response.request.headers["transfer-encoding"] == "chunked"
    check_same(read_answer(response), subject.reference)


@pytest.mark.required("RFC 8259, section 11; RFC 9110, section 8.3.1 (parameters of a media type)")
def test_a_charset_in_the_content_type_is_no_matter(subject: Subject) -> None:
    body = json.dumps(request_fields(subject.sample(0)))
    headers = {"Content-Type": "application/json; charset=utf-8"}
    check_same(read_answer(subject.http.post(f"{subject.model_path}/infer", content=body, headers=headers)), subject.reference)


@pytest.mark.recommended("RFC 9110, section 12.5.3 (Accept-Encoding, SHOULD)")
@pytest.mark.parametrize("accepted", ["gzip", "gzip, deflate", "identity", "gzip;q=0, identity"])
def test_a_response_is_coded_as_the_client_accepts(subject: Subject, accepted: str) -> None:
    body = json.dumps(request_fields(subject.sample(0)))
    response = subject.http.post(
        f"{subject.model_path}/infer", content=body, headers={**JSON_HEADERS, "Accept-Encoding": accepted}
    )
    coding = response.headers.get("content-encoding", "identity")
    assert coding in {item.strip() for item in accepted.split(",") if "q=0" not in item} | {"identity"}
    check_same(read_answer(response), subject.reference)  # httpx undoes the coding


def post_coded(subject: Subject, body: bytes, coding: str) -> httpx.Response:
    headers = {**JSON_HEADERS, "Content-Encoding": coding}
    return subject.http.post(f"{subject.model_path}/infer", content=body, headers=headers)


def good_body(subject: Subject) -> bytes:
    return json.dumps(request_fields(subject.sample(0))).encode()


@pytest.mark.parametrize(
    "coding",
    [
        pytest.param(coding, marks=pytest.mark.extension(f"content_coding({coding})", "RFC 9110, section 8.4"))
        for coding in CODINGS
    ],
)
class TestContentCoding:
    """Compressed requests, for a server that answers a good one."""

    def test_a_compressed_request_is_answered_as_a_plain_one(self, subject: Subject, coding: str) -> None:
        response = post_coded(subject, CODINGS[coding](good_body(subject)), coding)
        check_same(read_answer(response), subject.reference)

    def test_what_is_not_compressed_as_it_says_is_refused(self, subject: Subject, coding: str) -> None:
        read_error(post_coded(subject, good_body(subject), coding))

    def test_half_of_a_compressed_request_is_refused(self, subject: Subject, coding: str) -> None:
        whole = CODINGS[coding](good_body(subject))
        read_error(post_coded(subject, whole[: len(whole) // 2], coding))


@pytest.mark.extension("content_coding(gzip)", "RFC 9110, section 8.4 (a server that reads codings, and not this one)")
def test_an_unknown_content_coding_is_refused(subject: Subject) -> None:
    read_error(post_coded(subject, good_body(subject), UNKNOWN))


@pytest.mark.recommended("RFC 9110, section 8.4.1.3 (SHOULD)", extension="content_coding(gzip)")
def test_x_gzip_is_gzip(subject: Subject) -> None:
    check_same(read_answer(post_coded(subject, gzip.compress(good_body(subject)), "x-gzip")), subject.reference)


@pytest.mark.recommended("RFC 9110, section 12.5.5 (SHOULD: what chose this representation)")
def test_a_chosen_coding_comes_with_vary(subject: Subject) -> None:
    """Asked for many times over, so that an answer is long enough to be worth a coding; who codes nothing passes."""
    tensors = subject.batch(32) if subject.claims("batch") else subject.sample(0)
    headers = {**JSON_HEADERS, "Accept-Encoding": "gzip"}
    body = json.dumps(request_fields(tensors))
    response = subject.http.post(f"{subject.model_path}/infer", content=body, headers=headers)
    read_answer(response)
    if "content-encoding" in response.headers:
        assert "accept-encoding" in response.headers.get("vary", "").lower()


@pytest.mark.required("RFC 9110, section 8.4 (a coding is undone, or the request cannot be understood)")
def test_a_compressed_request_is_answered_or_refused(subject: Subject) -> None:
    response = post_coded(subject, gzip.compress(good_body(subject)), "gzip")
    if response.status_code < 400:
        check_same(read_answer(response), subject.reference)


@pytest.mark.required("inference_rest.md, HTTP/REST (Verb); RFC 9110, section 15.5.6 (405 comes with Allow)")
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/infer"), ("PUT", "/infer"), ("DELETE", "/infer"), ("POST", ""), ("POST", "/ready")],
)
def test_another_method_is_refused(subject: Subject, method: str, path: str) -> None:
    response = subject.http.request(method, f"{subject.model_path}{path}")
    assert response.status_code in (404, 405)
    assert response.status_code == 404 or response.headers["allow"]


@pytest.mark.recommended("RFC 9110, section 15.5.5")
@pytest.mark.parametrize("path", ["/v2/no-such-thing", "/v2/health/no-such-thing", "/v3"])
def test_an_unknown_path_is_404(subject: Subject, path: str) -> None:
    assert subject.http.get(path).status_code == 404


@pytest.mark.recommended("RFC 9110, section 15.5.14 (413) where it is more than the server takes")
def test_a_large_request_is_answered_or_refused_as_too_large(subject: Subject) -> None:
    body = json.dumps(request_fields(subject.sample(0))).encode() + b" " * LARGE
    response = subject.http.post(f"{subject.model_path}/infer", content=body, headers=JSON_HEADERS)
    if response.status_code != 413:
        check_same(read_answer(response), subject.reference)
