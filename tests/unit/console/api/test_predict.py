"""`POST /predict` against a real edge: what is sent in which way, what is answered, what is refused."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from PIL import Image

from console.access.keys import add_key
from console.settings import MIB, Settings
from tests.unit.console.conftest import DIGEST, Edge, encoded, running

CUT = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nx'
"""A form without its last boundary."""
SAFE = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    assert {name: answer.headers[name] for name in SAFE} == SAFE
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return answer.status_code, answer.json()["error"]["code"]


async def bare(edge: Edge, content: bytes, **parameters: Any) -> dict[str, Any]:
    """What the server itself answers, in JSON, by output."""
    body = {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(content).decode()]}],
        "parameters": parameters,
    }
    async with httpx.AsyncClient() as client:
        answer = (await client.post(f"http://{edge.http}/v2/models/roofs/infer", json=body)).json()
    return {output["name"]: output["data"] for output in answer["outputs"]} | {"parameters": answer["parameters"]}


@pytest.mark.parametrize("explain", [False, True])
async def test_the_answer_is_the_servers_own(console: httpx.AsyncClient, edge: Edge, images: list[bytes], explain: bool) -> None:
    own = await bare(edge, images[0], explain=explain)
    answer = await console.post("/predict", content=images[0], headers={"Content-Type": "image/png"}, params={"explain": explain})
    told = answer.json()
    assert answer.status_code == 200
    assert [told["label"]] == own["label"]
    assert [told["decision"]] == own["decision"]
    assert told["confidence"] == pytest.approx(own["confidence"][0], rel=1e-6)
    assert told["score"] == pytest.approx(own["score"][0], rel=1e-6)
    assert told["probabilities"] == pytest.approx(dict(zip(("intact", "damaged", "unsure"), own["probabilities"], strict=True)))
    rule = ("threshold", "review_from", "review_to", "threshold_overridden")
    assert {name: told[name] for name in rule} == {name: own["parameters"][name] for name in rule}
    assert (told["model"], told["version"], told["digest"], told["positive"]) == ("roofs", "3", DIGEST, ["damaged"])
    if explain:
        flat = [value for row in told["heatmap"] for value in row]
        assert flat == pytest.approx(own["heatmap"], abs=5.1e-4)
        assert told["heatmap_label"] == own["heatmap_label"][0]
        assert told["heatmap_box"] == own["heatmap_box"]
        assert told["heatmap_peak"] == pytest.approx(own["heatmap_peak"][0], rel=1e-6)
    else:
        assert told["heatmap"] is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
async def test_every_way_of_sending_a_picture_is_answered_alike(console: httpx.AsyncClient, form: str) -> None:
    content = encoded(form)
    answers = [
        await console.post("/predict", content=content, headers={"Content-Type": f"image/{form.lower()}"}),
        await console.post("/predict", content=content, headers={"Content-Type": "application/octet-stream"}),
        await console.post("/predict", files={"image": ("a.bin", content, "text/html")}),
        await console.post("/predict", files={"anything": content}, data={"model": "roofs", "explain": "", "threshold": ""}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize(
    ("query", "named"), [("threshold=2", "query.threshold"), ("explain=maybe", "query.explain"), ("unknown=1", "query.unknown")]
)
async def test_an_address_that_asks_wrongly_is_told_where(console: httpx.AsyncClient, query: str, named: str) -> None:
    answer = await console.post(f"/predict?{query}", content=encoded("PNG"), headers={"Content-Type": "image/png"})
    assert code_of(answer) == (422, "console.parameter")
    assert answer.json()["error"]["message"].startswith(named)


async def test_a_forms_fields_go_before_those_of_the_address(console: httpx.AsyncClient, images: list[bytes]) -> None:
    answer = await console.post(
        "/predict?threshold=0.9&model=roofs", files={"image": images[0]}, data={"threshold": "0", "explain": "true"}
    )
    told = answer.json()
    assert (told["threshold"], told["decision"], told["threshold_overridden"]) == (0.0, "flag", True)
    assert told["heatmap"] is not None


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_an_image_type_in_accept_is_drawn(console: httpx.AsyncClient, images: list[bytes], kind: str) -> None:
    asked = {"Content-Type": "image/png", "Accept": f"image/{kind}"}
    answer = await console.post("/predict", content=images[0], headers=asked)
    assert answer.headers["content-type"] == f"image/{kind}"
    assert answer.headers["x-content-type-options"] == "nosniff"
    with Image.open(io.BytesIO(answer.content)) as drawn:
        assert drawn.format == kind.upper()
        assert drawn.width >= 256
        assert len(drawn.convert("RGB").getcolors(1 << 24) or ()) > 256  # a map's colours, and not a blank
    told = (await console.post("/predict", content=images[0], headers={"Content-Type": "image/png"})).json()
    assert unquote(answer.headers["Visor-Label"]) == told["label"]
    assert answer.headers["Visor-Decision"] == told["decision"]
    assert float(answer.headers["Visor-Score"]) == told["score"]
    assert float(answer.headers["Visor-Threshold"]) == told["threshold"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "image.undecodable"),
        (b"<!doctype html><script>alert(1)</script>", "image.undecodable"),
        (b"", "image.empty"),
        (b"GIF89a<script>alert(1)</script>", "image.undecodable"),
    ],
)
async def test_what_is_no_picture_is_refused_by_the_server_whatever_its_name(
    console: httpx.AsyncClient, content: bytes, code: str
) -> None:
    form = await console.post("/predict", files={"image": ("photo.jpg", content, "image/jpeg")})
    raw = await console.post("/predict", content=content, headers={"Content-Type": "image/jpeg", "Accept": "image/png"})
    for answer in (form, raw):
        status, told = code_of(answer)
        assert (status, told) == (400, code) or told.startswith("image.")
        assert "<script" not in answer.text
        assert "<svg" not in answer.text


async def test_script_in_a_file_name_comes_back_nowhere(console: httpx.AsyncClient, images: list[bytes]) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    good = await console.post("/predict", files={"image": (name, images[0])})
    bad = await console.post("/predict", files={"image": (name, b"no picture")})
    assert good.status_code == 200
    assert bad.status_code == 400
    assert "onerror" not in good.text + bad.text


@pytest.mark.parametrize(
    ("send", "status", "code"),
    [
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "console.content"),
        ({"content": b"x"}, 415, "console.content"),
        ({"data": {"image": "text"}}, 415, "console.content"),
        ({"files": {"a": b"1", "b": b"2"}}, 413, "console.too_large"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "console.upload"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "console.upload"),
        ({"content": CUT, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "console.upload"),
        ({"files": {"a": b"1"}, "data": {"unknown": "1"}}, 422, "console.parameter"),
        ({"files": {"a": b"1"}, "data": {"threshold": "<b>2</b>"}}, 422, "console.parameter"),
        ({"files": {"a": b"1"}, "data": {"threshold": "x" * 5000}}, 400, "console.upload"),
        ({"files": {"a": b"1"}, "params": {"threshold": "1.5"}}, 422, "console.parameter"),
        ({"files": {"a": b"1"}, "params": {"explian": "1"}}, 422, "console.parameter"),
        ({"files": {"a": b"1"}, "params": {"model": "<i>other</i>"}}, 404, "console.model"),
        ({"files": {"a": b"1"}, "params": {"group": "a=b"}}, 400, "request.group"),
        ({"files": {"a": b"1"}, "headers": {"Accept": "text/html"}}, 406, "console.accept"),
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_is_refused_by_a_code(
    console: httpx.AsyncClient, send: dict[str, Any], status: int, code: str
) -> None:
    answer = await console.post("/predict", **send)
    assert code_of(answer) == (status, code)
    assert "<" not in answer.text


async def test_a_picture_above_the_limit_is_refused_by_its_head_and_by_its_bytes(choose: Callable[..., Settings]) -> None:
    async with running(choose(max_image_mib=1)) as (address, _), httpx.AsyncClient(base_url=address) as client:
        kind = {"Content-Type": "image/png"}

        async def chunks() -> Any:
            for _ in range(40):
                yield bytes(1 << 16)

        declared = await client.post("/predict", content=bytes(MIB + (1 << 16) + 1), headers=kind)
        counted = await client.post("/predict", content=chunks(), headers=kind)
        in_form = await client.post("/predict", files={"image": bytes(2 * MIB)})
        assert {code_of(answer) for answer in (declared, counted, in_form)} == {(413, "console.too_large")}


async def test_other_addresses_and_methods_are_told_in_the_same_form(console: httpx.AsyncClient) -> None:
    assert code_of(await console.get("/nothing/<b>")) == (404, "console.path")
    wrong = await console.get("/predict")
    assert code_of(wrong) == (405, "console.method")
    assert wrong.headers["allow"] == "POST"


async def test_keys_scopes_and_limits_decide_who_is_answered(
    choose: Callable[..., Settings], images: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    predict, review = add_key(path, "shop", ["predict"], requests_per_minute=2), add_key(path, "people", ["review"])
    async with running(choose(keys_file=path)) as (address, _), httpx.AsyncClient(base_url=address) as client:

        async def ask(key: str | None) -> httpx.Response:
            headers = {} if key is None else {"Authorization": key.encode("latin-1")}
            return await client.post("/predict", files={"image": images[0]}, headers=headers)

        for key in (None, "Bearer", "Bearer wrong", f"Basic {predict}", f"Bearer {predict}x", "Bearer \xff"):
            nobody = await ask(key)
            assert code_of(nobody) == (401, "console.unauthenticated")
            assert nobody.headers["www-authenticate"].startswith("Bearer")
        assert code_of(await ask(f"Bearer {review}")) == (403, "console.scope")
        assert [(await ask(f"Bearer {predict}")).status_code for _ in range(2)] == [200, 200]
        spent = await ask(f"bearer {predict}")
        assert code_of(spent) == (429, "console.limit")
        assert 1 <= int(spent.headers["retry-after"]) <= 30
        health = await client.get("/health/live")
        assert health.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
)
async def test_another_sites_page_may_not_ask_a_console_without_keys(
    console: httpx.AsyncClient, images: list[bytes], headers: dict[str, str]
) -> None:
    assert code_of(await console.post("/predict", files={"image": images[0]}, headers=headers)) == (403, "console.cross_site")


async def test_its_own_page_may_ask(console: httpx.AsyncClient, images: list[bytes]) -> None:
    own = {"Sec-Fetch-Site": "same-origin", "Origin": str(console.base_url).rstrip("/")}
    assert (await console.post("/predict", files={"image": images[0]}, headers=own)).status_code == 200
