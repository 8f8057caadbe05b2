"""Whatever a client sends gets its 4xx with a stable code; only TorchServe's trouble is a 5xx."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

URL = "/v2/models/roofs/infer"
GOOD = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["YWI="]}
PIXELS = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3]}


async def refused(client, status, code, **request):
    response = await client.post(request.pop("url", URL), **request)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.json()["error"].startswith(f"{code}: ")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-transform"
    return response.json()["error"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"inputs": [', b"\xff\xfe", b"[]", b"null", b"3", b'"x"', b'{"inputs": {}}', b'{"inputs": [3]}',
     b'{"inputs": NaN}', b'{"inputs": [], "parameters": {"threshold": NaN}}', b'{"inputs": [], "parameters": {"t": Infinity}}',
     b'{"inputs": [], "parameters": []}', b'{"inputs": [], "outputs": {}}', b'{"inputs": [], "outputs": [3]}',
     b'{"inputs": [], "id": 3}', b"[" * 100_000, b'{"a":' * 3000 + b"1" + b"}" * 3000],
)  # fmt: skip
async def test_what_is_not_the_protocols_json(client, body):
    await refused(client, 400, "request.json", content=body)


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([], "request.input"),
        (None, "request.input"),
        ([{}], "request.input"),
        ([None], "request.input"),
        ([{**GOOD, "name": "picture"}], "request.input"),
        ([{**GOOD, "name": 3}], "request.input"),
        ([{**GOOD, "name": "x" * 100_000}], "request.input"),
        ([GOOD, GOOD], "request.input"),
        ([GOOD, PIXELS], "request.input"),
        ([{**GOOD, "data": None}], "request.input"),
        ([{"name": "image", "datatype": "BYTES", "shape": [1]}], "request.input"),
        ([{**GOOD, "datatype": "FP32"}], "request.datatype"),
        ([{**GOOD, "datatype": "bytes"}], "request.datatype"),
        ([{**GOOD, "datatype": None}], "request.datatype"),
        ([{**GOOD, "data": [7]}], "request.datatype"),
        ([{**PIXELS, "datatype": "INT8"}], "request.datatype"),
        ([{**PIXELS, "data": [1, 2, 256]}], "request.datatype"),
        ([{**PIXELS, "data": [1, 2, -1]}], "request.datatype"),
        ([{**PIXELS, "data": [1, 2, 3.5]}], "request.datatype"),
        ([{**GOOD, "shape": None}], "request.shape"),
        ([{**GOOD, "shape": "1"}], "request.shape"),
        ([{**GOOD, "shape": []}], "request.shape"),
        ([{**GOOD, "shape": [0], "data": []}], "request.shape"),
        ([{**GOOD, "shape": [-1]}], "request.shape"),
        ([{**GOOD, "shape": [1.0]}], "request.shape"),
        ([{**GOOD, "shape": [True]}], "request.shape"),
        ([{**GOOD, "shape": [2]}], "request.shape"),
        ([{**GOOD, "shape": [1, 2]}], "request.shape"),
        ([{**GOOD, "shape": [1, 1, 1]}], "request.shape"),
        ([{**GOOD, "shape": [2**62] * 1000}], "request.shape"),
        ([{**GOOD, "data": "YWI="}], "request.shape"),
        ([{**PIXELS, "shape": [1, 1, 3]}], "request.shape"),
        ([{**PIXELS, "shape": [1, 1, 1, 4], "data": [1, 2, 3, 4]}], "request.shape"),
        ([{**PIXELS, "shape": [1, 2**40, 2**40, 3]}], "request.shape"),
        ([{**PIXELS, "shape": [0, 1, 1, 3], "data": []}], "request.shape"),
        ([{**PIXELS, "data": [1, 2]}], "request.shape"),
        ([{**PIXELS, "data": [[1], [2, 3]]}], "request.shape"),
        ([{**GOOD, "shape": [7], "data": ["YWI="] * 7}], "request.too_large"),
        ([{**GOOD, "shape": [2**62], "data": []}], "request.too_large"),
        ([{**GOOD, "parameters": {"binary_data_size": 2}}], "request.binary"),
        ([{**GOOD, "parameters": 3}], "request.json"),
    ],
)  # fmt: skip
async def test_inputs(client, inputs, code):
    message = await refused(client, 413 if code == "request.too_large" else 400, code, json={"inputs": inputs})
    assert len(message) < 500


@pytest.mark.parametrize(
    ("outputs", "code"),
    [
        ([{"name": "labels"}], "request.output"),
        ([{}], "request.output"),
        ([{"name": 3}], "request.output"),
        ([{"name": "label"}, {"name": "label"}], "request.output"),
        ([{"name": "label", "parameters": {"binary_data": 1}}], "request.parameter"),
    ],
)
async def test_outputs(client, outputs, code):
    await refused(client, 400, code, json={"inputs": [GOOD], "outputs": outputs})


@pytest.mark.parametrize(
    "parameters",
    [{"explain": 1}, {"explain": "true"}, {"top_k": 0}, {"top_k": 4}, {"top_k": -1}, {"top_k": True}, {"top_k": 1.0},
     {"top_k": "1.0"}, {"top_k": "4"}, {"top_k": " 1"}, {"threshold": -0.1}, {"threshold": 1.1}, {"threshold": "1.1"},
     {"threshold": "0,5"}, {"threshold": "1_0"}, {"threshold": "NaN"}, {"threshold": "true"}, {"threshold": True},
     {"threshold": [0.5]}, {"timeout": -1}, {"timeout": 0.5}, {"timeout": "soon"}, {"timeout": True}, {"priority": -1},
     {"priority": "high"}, {"binary_data_output": "yes"}, {"mine": {"a": 1}}, {"mine": [1]}],
)  # fmt: skip
async def test_parameters(client, parameters):
    await refused(client, 400, "request.parameter", json={"inputs": [GOOD], "parameters": parameters})


@pytest.mark.parametrize("where", ["inputs", "outputs"])
async def test_a_parameter_of_a_tensor_is_text_a_number_or_a_boolean(client, where):
    fields = {"inputs": [GOOD], "outputs": [{"name": "label"}]}
    fields[where] = [{**fields[where][0], "parameters": {"mine": {}}}]
    message = await refused(client, 400, "request.parameter", json=fields)
    assert fields[where][0]["name"] in message


SHARED = {"shared_memory_region": "mine", "shared_memory_byte_size": 100}


@pytest.mark.parametrize("where", ["inputs", "outputs"])
async def test_shared_memory_is_refused(client, where):
    fields = {"inputs": [GOOD], "outputs": [{"name": "label"}]}
    tensor = {key: value for key, value in fields[where][0].items() if key != "data"}
    fields[where] = [{**tensor, "parameters": SHARED}]
    message = await refused(client, 400, "request.shared_memory", json=fields)
    assert "send tensors in the request" in message


@pytest.mark.parametrize("kind", ["system", "cuda"])
@pytest.mark.parametrize(("method", "call"), [("GET", "status"), ("POST", "region/a/register"), ("POST", "unregister")])
async def test_so_is_all_that_is_asked_about_it(client, kind, method, call):
    answer = await client.request(method, f"/v2/{kind}sharedmemory/{call}")
    assert (answer.status_code, answer.json()["code"]) == (400, "request.shared_memory")


@pytest.mark.parametrize(
    ("header", "inputs", "tail"),
    [
        ("x", [GOOD], b""),
        ("-1", [GOOD], b""),
        ("1e3", [GOOD], b""),
        ("²", [GOOD], b""),
        ("9" * 30, [GOOD], b""),
        ("99999", [GOOD], b""),
        (None, [GOOD], b"left over"),
        (None, [{**GOOD, "parameters": {"binary_data_size": 2}}], b"ab"),
        (None, [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 7}}], b"\x02\0\0\0ab"),
        (None, [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}], b"\x02\0\0\0ab"),
        (None, [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": -1}}], b"\x02\0\0\0ab"),
        (None, [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": "6"}}], b"\x02\0\0\0ab"),
        (None, [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": True}}], b"a"),
        (None, [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}], b"\x03\0\0\0ab"),
        (None, [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 3}}], b"\x03\0\0"),
    ],
)
async def test_binary_contents_that_do_not_add_up(client, header, inputs, tail):
    text = json.dumps({"inputs": inputs}).encode()
    headers = [(b"Inference-Header-Content-Length", (header or str(len(text))).encode("latin-1"))]
    await refused(client, 400, "request.binary", content=text + tail, headers=headers)


@pytest.mark.parametrize("count", [1, 3])
async def test_binary_elements_and_shape(client, count):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 5 * count}}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    await refused(client, 400, "request.shape", content=text + b"\x01\0\0\0x" * count, headers=headers)


@pytest.mark.parametrize("content_type", ["video/mp4", "application/pdf", "multipart/mixed; boundary=x"])
async def test_a_file_of_another_kind_is_not_read(client, content_type):
    headers = {"Content-Type": content_type}
    message = await refused(client, 415, "request.content", content=b"\xff\xd8\xff", headers=headers)
    assert "image/*" in message


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n", b"RIFF....WEBP", b"BM..", b"II*\0", b"MM\0*"])
async def test_a_picture_that_nobody_announced_is_told_how_to_come(client, start):
    message = await refused(client, 400, "request.json", content=start + bytes(100))
    assert "Content-Type: image/jpeg" in message
    assert "Inference-Header-Content-Length: 0" in message


CURLS_D = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(range(256))


@pytest.mark.parametrize(
    ("content_type", "code"), [("application/x-www-form-urlencoded", "request.json"), ("image/jpeg", "request.form")]
)
async def test_a_picture_that_curls_d_has_stripped_is_told_how_it_stays_whole(client, content_type, code):
    stripped = bytes(byte for byte in CURLS_D if byte not in b"\0\r\n")
    message = await refused(client, 400, code, content=stripped, headers={"Content-Type": content_type})
    assert "--data-binary @FILE, and not by -d" in message
    if content_type == "image/jpeg":  # damaged in another way, it is a picture that cannot be decoded
        await refused(client, 400, "image.undecodable", content=CURLS_D, headers={"Content-Type": content_type})


async def test_a_form_of_words_is_told_how_forms_are_read(client):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    message = await refused(client, 400, "request.json", content=b"image=@roof.jpg", headers=form)
    assert "a form is read as multipart/form-data alone (curl -F image=@FILE)" in message


async def test_an_empty_body_is_told_how_a_picture_is_sent(client):
    message = await refused(client, 400, "request.json", content=b"")
    assert (
        "the body is empty; send a request in JSON, or a picture: one picture as it is needs Content-Type: image/jpeg" in message
    )


async def test_bytes_that_are_neither_picture_nor_json_are_told_what_to_send(client):
    sent = {"headers": {"Content-Type": "application/octet-stream"}}
    packed = await refused(client, 400, "request.json", content=gzip.compress(b"{}"), **sent)
    assert "begin like gzip and are not JSON; a compressed body needs Content-Encoding: gzip" in packed
    other = await refused(client, 400, "request.json", content=b"no picture", **sent)
    assert "10 bytes begin like no picture and are not JSON (" in other
    assert "needs Content-Type: image/jpeg" in other


@pytest.mark.parametrize(("text", "hint"), [("data:image/png;base64,YWI=", "comma"), ("DATA:,YWI=", "comma"), ("YW-_", "URLs")])
async def test_almost_base64_is_told_what_it_is(client, text, hint):
    assert hint in await refused(client, 400, "image.undecodable", json={"inputs": [{**GOOD, "data": [text]}]})


async def test_too_large_by_its_own_word_is_refused_unread(client):
    async def body():
        raise AssertionError("the body was read")
        yield b""

    await refused(client, 413, "request.too_large", content=body(), headers={"Content-Length": "400001"})


async def test_too_large_without_a_word_is_refused_at_the_limit(client):
    sent = 0

    async def body():
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield bytes(10_000)

    await refused(client, 413, "request.too_large", content=body())
    assert sent == 41


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("/v2/models/walls/infer", 404, "model.not_found"),
        ("/v2/models/roofs/versions/2/infer", 404, "model.version"),
        ("/v2/models/walls/versions/3/infer", 404, "model.not_found"),
        ("/v2/models/roofs/predict", 404, "request.path"),
        ("/v2/models/roofs/infer/", 404, "request.path"),
        ("/v2/health/live", 405, "request.method"),
    ],
)
async def test_addresses(client, url, status, code):
    await refused(client, status, code, url=url, json={"inputs": [GOOD]})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), header=st.none() | st.integers(-2, 250) | st.text("0123456789 -ex", max_size=5))
async def test_arbitrary_bytes_are_never_our_mistake(client, body, header):
    headers = {} if header is None else {"Inference-Header-Content-Length": str(header)}
    response = await client.post(URL, content=body, headers=headers)
    assert 400 <= response.status_code < 500
    assert response.json()["code"].split(".")[0] in ("request", "image")


NUMBER = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OUTPUT = st.fixed_dictionaries({"name": st.sampled_from(["label", "heatmap", "y"]) | JSON})
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["image", "pixels", "x"]) | JSON,
        "datatype": st.sampled_from(["BYTES", "UINT8", "FP32"]) | JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=4) | JSON,
        "data": st.lists(st.sampled_from(["YWI=", "", "!", 1, 300, None, []]), max_size=9) | JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 5) | JSON}) | JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "inputs": st.lists(TENSOR | JSON, max_size=2) | JSON,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["label", "heatmap", "y"]) | JSON}), max_size=2)
        | JSON,
        "parameters": st.dictionaries(st.sampled_from(["explain", "top_k", "threshold", "binary_data_output"]), JSON) | JSON,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=REQUEST, binary=st.none() | st.binary(max_size=12))
async def test_requests_of_almost_the_right_form_are_never_our_mistake(client, fields, binary):
    text = json.dumps(fields).encode()
    headers = {} if binary is None else {"Inference-Header-Content-Length": str(len(text))}
    response = await client.post(URL, content=text + (binary or b""), headers=headers)
    assert response.status_code < 500, response.text


async def test_a_bug_is_an_answer_too(client, service, monkeypatch):
    monkeypatch.setattr(service, "read", lambda *_: 1 / 0)
    response = await client.post(URL, json={"inputs": [GOOD]}, headers={"x-request-id": "mine"})
    assert response.headers["x-request-id"] == "mine"
    assert (response.status_code, response.json()) == (500, {"error": "internal: ZeroDivisionError", "code": "internal"})
