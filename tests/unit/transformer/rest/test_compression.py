"""Compressed bodies: read within their limit, and answers compressed for clients that ask."""

import gzip
import json
import zlib

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.errors import EncodingBroken, RequestTooLarge
from transformer.grpc.messages import SERVICE, message
from transformer.rest.compression import WORTH_BYTES, choose_encoding, compress, decompress

URL = "/v2/models/roofs/infer"
COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress}
DECOMPRESS = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.mark.parametrize("encoding", COMPRESS)
@given(data=st.binary(max_size=300))
def test_there_and_back(encoding, data):
    assert decompress(COMPRESS[encoding](data), encoding, 300) == data
    assert DECOMPRESS[encoding](compress(data, encoding)) == data


@pytest.mark.parametrize("encoding", COMPRESS)
def test_the_limit_is_of_the_content(encoding):
    assert len(decompress(COMPRESS[encoding](bytes(1000)), encoding, 1000)) == 1000
    with pytest.raises(RequestTooLarge, match="limit of 999"):
        decompress(COMPRESS[encoding](bytes(1000)), encoding, 999)


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize(
    "spoil", [lambda body: body[:-1], lambda body: body + b"x", lambda body: body + body, lambda _: b"", lambda _: b"plain"]
)
def test_what_is_not_one_whole_stream(encoding, spoil):
    with pytest.raises(EncodingBroken):
        decompress(spoil(COMPRESS[encoding](b"abc" * 99)), encoding, 1000)


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("GZIP;q=0.5 , deflate;q=0.8", "deflate"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0, deflate", "deflate"),
        ("br, zstd", "identity"),
        ("gzip;q=much", "identity"),
        ("identity", "identity"),
        ("", "identity"),
    ],
)
def test_what_a_header_asks_for(accept, encoding):
    assert choose_encoding(accept) == encoding


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP"])
async def test_a_compressed_request_is_read(client, images, ask_handler, encoding):
    blob = len(images[0]).to_bytes(4, "little") + images[0]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(blob)}}
    text = json.dumps({"inputs": [tensor]}).encode()
    # The length is of the JSON before it was compressed.
    headers = {"Content-Encoding": encoding, "Inference-Header-Content-Length": str(len(text))}
    answer = await client.post(URL, content=COMPRESS[encoding.lower()](text + blob), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [ask_handler(images[0])["label"]]


@pytest.mark.parametrize("encoding", COMPRESS)
async def test_a_bomb_is_too_large(client, encoding):
    bomb = COMPRESS[encoding](bytes(50_000_000))
    assert len(bomb) < 60_000
    answer = await client.post(URL, content=bomb, headers={"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")


@pytest.mark.parametrize(
    ("encoding", "status", "code"),
    [("gzip", 400, "request.encoding"), ("br", 415, "request.content"), ("gzip, gzip", 415, "request.content")],
)
async def test_bodies_that_cannot_be_decompressed(client, encoding, status, code):
    answer = await client.post(URL, content=b"x", headers={"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("encoding", COMPRESS)
async def test_a_large_answer_is_compressed_for_who_asks(client, images, encoding):
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [6, 8, 8, 3], "data": [9] * (6 * 192)}
    fields = {"inputs": [pixels], "parameters": {"explain": True, "top_k": 3}}
    plain = await client.post(URL, json=fields, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert len(plain.content) >= WORTH_BYTES, "the test's own answer is too small to say anything"
    packed = await client.post(URL, json=fields, headers={"Accept-Encoding": encoding})
    assert packed.headers["content-encoding"] == encoding
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.json() == plain.json()
    small = await client.post(URL, content=images[0], headers={"Accept-Encoding": encoding, "Content-Type": "image/png"})
    assert "content-encoding" not in small.headers


def requested(images):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)], "contents": {"bytes_contents": images}}
    return message("ModelInferRequest")(model_name="roofs", inputs=[tensor]).SerializeToString()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_grpc_compresses_by_itself_and_keeps_the_limit(edge, images, compression):
    async with grpc.aio.insecure_channel(edge.grpc, compression=compression) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=message("ModelInferResponse").FromString)
        assert (await infer(requested(images))).model_name == "roofs"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await infer(requested([bytes(50_000_000)]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
