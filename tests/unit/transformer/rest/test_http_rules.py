"""What RFC 9110 and 9112 ask of a server: raw bytes there, and the answer's bytes back."""

import asyncio
import dataclasses
import gzip
import json

import pytest

from transformer.rest.head import MAX_HEAD_BYTES
from transformer.settings import EdgeLimits

URL = "/v2/models/roofs/infer"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: edge\r\n\r\n"
LAST = b"GET /v2/health/live HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n"
CLOSE = "Connection: close\r\n"
H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
ONE = "Content-Type: image/png\r\n"


@pytest.fixture
async def ask(settings, start_edge):
    """Send parts, one packet each, and read until the connection ends, or until a silence."""
    async with start_edge(dataclasses.replace(settings, limits=EdgeLimits(), protocol="rest")) as edge:

        async def ask(*parts, wait_s=5.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.bound.http_port)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)
            got = b""
            try:
                async with asyncio.timeout(wait_s):
                    while chunk := await reader.read(1 << 16):
                        got += chunk
            except (TimeoutError, ConnectionResetError):
                pass
            writer.close()
            return got

        yield ask


def post(body, headers="", version="1.1", host="Host: edge\r\n", path=URL):
    length = "" if "ength: " in headers.replace(ONE, "") or "chunked" in headers.lower() else f"Content-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/{version}\r\n{host}{headers}{length}\r\n".encode() + body


def chunked(body):
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def read(got):
    """Status, headers and JSON of the one answer."""
    head, body = got.split(b"\r\n\r\n", 1)
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body) if body else None


@pytest.mark.parametrize("form", ["together", "apart", "chunked"])
async def test_upgrade_is_ignored_and_the_body_read(ask, images, form):
    if form == "chunked":
        parts = [post(chunked(images[0]), f"{H2C}{ONE}Transfer-Encoding: chunked\r\n")]
    else:
        whole = post(images[0], H2C + ONE)
        at = whole.index(b"\r\n\r\n") + 4
        parts = [whole] if form == "together" else [whole[:at], whole[at:]]
    got = await ask(*parts, post(images[1], H2C + ONE) + LAST)
    assert got.count(b"HTTP/1.1 200 OK") == got.count(b"HTTP/1.1 ") == 3
    assert got.count(b'"outputs"') == 2


async def test_a_body_behind_upgrade_is_not_run_as_a_request(ask):
    whole = post(LIVE, H2C)
    at = whole.index(b"\r\n\r\n") + 4
    got = await ask(whole[:at], whole[at:], wait_s=0.5)
    assert got.count(b"HTTP/1.1 ") == 1
    assert read(got)[2]["code"] == "request.json"


async def test_connect_has_no_tunnel(ask):
    status, headers, answer = read(await ask(b"CONNECT other:80 HTTP/1.1\r\nHost: other:80\r\n\r\n" + LIVE))
    assert (status, answer["code"], headers["connection"]) == (405, "request.method", "close")


@pytest.mark.parametrize("host", ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a/b\r\n"])
async def test_a_request_has_one_host(ask, images, host):
    status, headers, answer = read(await ask(post(images[0], ONE, host=host)))
    assert (status, answer["code"], headers["connection"]) == (400, "request.http", "close")
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    ("host", "version"), [("", "1.0"), ("Host:\r\n", "1.1"), ("Host: [::1]:8080\r\n", "1.1"), ("Host: a_b.c:1\r\n", "1.1")]
)
async def test_hosts_that_are_fine(ask, images, host, version):
    assert read(await ask(post(images[0], ONE + CLOSE, version=version, host=host)))[0] == 200


@pytest.mark.parametrize(
    "bad",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost : edge\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: edge\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: edge\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: edge\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked, foo\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_logged_and_counted(ask, bad, capfd):
    status, headers, answer = read(await ask(bad))
    assert (status, answer["code"], headers["connection"]) == (400, "request.http", "close")
    assert headers["content-type"] == "application/json"
    metrics = await ask(b"GET /metrics HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
    assert b'visor_errors_total{code="request.http",model="roofs",protocol="rest",version="3"} 1.0' in metrics
    await asyncio.sleep(0.3)
    [line] = [one for one in map(json.loads, capfd.readouterr().err.splitlines()) if one.get("code") == "request.http"]
    assert (line["request_id"], line["status"], line["level"]) == (headers["x-request-id"], 400, "warning")


async def test_a_broken_chunk_ends_its_request(ask):
    got = await ask(post(b"5\r\nhello\r\nnonsense\r\n", "Transfer-Encoding: chunked\r\n") + LIVE)
    status, headers, answer = read(got)
    assert (status, answer["code"], headers["connection"]) == (400, "request.http", "close")


async def test_an_unknown_transfer_coding(ask, images):
    status, _, answer = read(await ask(post(chunked(images[0]), f"{ONE}Transfer-Encoding: foo, chunked\r\n")))
    assert (status, answer["code"]) == (501, "request.transfer")


async def test_codings_are_case_insensitive(ask, images):
    assert read(await ask(post(chunked(images[0]), f"{ONE}{CLOSE}TRANSFER-ENCODING: CHUNKED\r\n")))[0] == 200


async def test_space_after_a_value_is_no_part_of_it(ask, images):
    packed = gzip.compress(images[0])
    headers = f"{CLOSE}Content-Type: image/png \r\nContent-Encoding: gzip\t\r\n"
    assert read(await ask(post(packed, headers + f"Content-Length: {len(packed)}\r\n")))[0] == 200


async def test_x_gzip_is_gzip(ask, images):
    assert read(await ask(post(gzip.compress(images[0]), f"{ONE}{CLOSE}Content-Encoding: X-GZip\r\n")))[0] == 200


async def test_an_unknown_content_coding_is_told_what_is_read(ask):
    status, headers, answer = read(await ask(post(b"x", f"{CLOSE}Content-Encoding: br\r\n")))
    assert (status, answer["code"], headers["accept-encoding"]) == (415, "request.content", "gzip, deflate")


@pytest.mark.parametrize("accept", ["gzip", "identity"])
async def test_an_answer_that_could_be_compressed_varies(ask, accept):
    fields = {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [6, 8, 8, 3], "data": [9] * 1152}]}
    body = json.dumps({**fields, "parameters": {"explain": True, "top_k": 3}}).encode()
    head = (await ask(post(body, f"{CLOSE}Accept-Encoding: {accept}\r\n"))).split(b"\r\n\r\n")[0]
    assert b"\r\nvary: accept-encoding" in head
    assert (b"content-encoding: gzip" in head) == (accept == "gzip")


async def test_continue_is_said_to_who_waits_for_it(ask, images):
    whole = post(images[0], f"{ONE}{CLOSE}Expect: 100-Continue\r\n")
    at = whole.index(b"\r\n\r\n") + 4
    got = await ask(whole[:at], whole[at:])
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_continue_is_not_said_to_http_1_0(ask, images):
    whole = post(images[0], f"{ONE}Expect: 100-continue\r\n", version="1.0")
    at = whole.index(b"\r\n\r\n") + 4
    assert (await ask(whole[:at], whole[at:])).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("headers", "path", "code"),
    [
        (f"Content-Length: {70 << 20}\r\n", URL, "request.too_large"),
        ("Content-Length: 5000\r\nContent-Type: video/mp4\r\n", URL, "request.content"),
        ("Content-Length: 5000\r\n", "/nothing", "request.path"),
    ],
)
async def test_who_waits_for_continue_and_is_refused_knows_that_the_connection_ends(ask, headers, path, code):
    _, answered, answer = read(await ask(post(b"", f"{headers}Expect: 100-continue\r\n", path=path)))
    assert (answered["connection"], answer["code"]) == ("close", code)


async def test_after_an_early_answer_the_rest_of_a_small_body_is_read_and_the_connection_kept(ask):
    head = post(b"", "Content-Length: 100000\r\nContent-Type: video/mp4\r\n")
    got = await ask(head, bytes(100_000), LAST)
    assert [answer[:3] for answer in got.split(b"HTTP/1.1 ")[1:]] == [b"415", b"200"]


async def test_a_large_body_that_is_refused_is_thrown_away_until_its_client_has_read(ask):
    got = await ask(post(bytes(70 << 20)))  # writes all of it, and only then reads
    status, headers, answer = read(got)
    assert (status, headers["connection"], answer["code"]) == (413, "close", "request.too_large")


async def test_trailers_are_ignored(ask, images):
    body = chunked(images[0])[:-2] + b"Inference-Header-Content-Length: 9\r\n\r\n"
    assert read(await ask(post(body, f"{ONE}{CLOSE}Transfer-Encoding: chunked\r\n")))[0] == 200


@pytest.mark.parametrize("trailer", [b"X: " + b"a" * (1 << 20), b"X: b\r\n" * (1 << 18)], ids=["one", "many"])
async def test_trailers_without_end_are_refused(ask, images, trailer):
    body = chunked(images[0])[:-2] + trailer
    status, _, answer = read(await ask(post(body, f"{ONE}Transfer-Encoding: chunked\r\n")))
    assert (status, answer["code"]) == (431, "request.head")
    assert str(MAX_HEAD_BYTES) in answer["error"]


async def test_chunks_of_one_byte_are_read(ask, images):
    body = b"".join(b"1;name=value\r\n%c\r\n" % byte for byte in images[0]) + b"0\r\n\r\n"
    assert len(body) > MAX_HEAD_BYTES
    assert read(await ask(post(body, f"{ONE}{CLOSE}Transfer-Encoding: chunked\r\n")))[0] == 200


async def test_head_has_get_s_headers_and_no_body(ask):
    request = b"%s /v2 HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n"
    full, head = await ask(request % b"GET"), await ask(request % b"HEAD")
    assert read(head)[1]["content-length"] == str(len(full.split(b"\r\n\r\n", 1)[1]))
    assert head.endswith(b"\r\n\r\n")


async def test_an_absolute_target_is_its_path(ask):
    assert read(await ask(b"GET http://edge/v2/health/live HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n"))[2] == {
        "live": True
    }


async def test_a_path_with_escapes(ask):
    got = await ask(b"GET /v2/models/r%6Fofs/ready HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
    assert read(got)[2] == {"name": "roofs", "ready": True}


async def test_what_follows_the_last_request_is_not_run(ask):
    got = await ask(LAST + LIVE)
    assert got.count(b"HTTP/1.1 ") == 1
