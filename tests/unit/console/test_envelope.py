"""What lies around every answer: ids, headers, the log's line, errors that are the console's own mistake."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from console import log
from console.settings import Settings
from tests.unit.console.api.test_predict import code_of
from tests.unit.console.conftest import running


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, object]]]]:
    """The lines of the log since the test began."""
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    log.configure()
    yield lambda: [json.loads(line) for line in file.getvalue().splitlines()]
    root.handlers[:], root.level = kept, level


@pytest.fixture
def alone() -> Settings:
    """A console whose server is not asked."""
    return Settings(servers="http://127.0.0.1:9", port=0, _env_file=None)


async def test_an_answer_carries_the_requests_id_if_it_is_usable(alone: Settings) -> None:
    async with running(alone) as (address, _), httpx.AsyncClient(base_url=address) as client:
        own = await client.get("/health/live", headers={"X-Request-Id": "mine-1"})
        assert own.headers["x-request-id"] == "mine-1"
        for odd in ("", "a b", "x" * 129):
            made = (await client.get("/health/live", headers={"X-Request-Id": odd})).headers["x-request-id"]
            assert made != odd
            assert len(made) == 16


async def test_a_request_has_one_line_with_nothing_of_its_content(
    choose: Callable[..., Settings], images: list[bytes], lines: Callable[[], list[dict[str, object]]]
) -> None:
    async with running(choose()) as (address, _), httpx.AsyncClient(base_url=address) as client:
        form = {"image": ("secret-name.png", images[0])}
        answer = await client.post("/predict", files=form, headers={"X-Request-Id": "mine-2", "Cookie": "session=secret-cookie"})
        assert answer.status_code == 200
        await client.get("/health/live")
        await client.get("/nothing?secret-query")
    told = [line for line in lines() if line["event"] == "request"]
    fields = ("request_id", "method", "path", "status", "code", "asked_by", "level")
    assert tuple(told[0][name] for name in fields) == (
        "mine-2",
        "POST",
        "/predict",
        200,
        "",
        "everybody",
        "info",
    )
    assert [line["path"] for line in told] == ["/predict", "/nothing"]
    assert told[1]["code"] == "console.path"
    assert "secret" not in json.dumps([line for line in lines() if line.get("logger") != "httpx"])  # the test's own client


async def test_a_mistake_of_the_consoles_own_is_told_without_its_reason(
    alone: Settings, lines: Callable[[], list[dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(alone) as (address, console), httpx.AsyncClient(base_url=address) as client:

        def broken() -> bytes:
            raise RuntimeError("inside")

        monkeypatch.setattr(console.metrics, "text", broken)
        answer = await client.get("/metrics")
    assert code_of(answer) == (500, "internal")
    assert "inside" not in answer.text
    assert any("inside" in str(line.get("exception", "")) for line in lines())


def test_secret_fields_and_bytes_never_reach_the_log(lines: Callable[[], list[dict[str, object]]]) -> None:
    log.get_logger("test").info("x", token="t-1", Authorization="t-2", body=b"t-3", other=b"t-4", path="/p")
    [line] = lines()
    assert line["path"] == "/p"
    assert "t-" not in json.dumps(line)


async def test_health_says_what_is_wrong(alone: Settings, choose: Callable[..., Settings]) -> None:
    async with running(alone) as (address, _), httpx.AsyncClient(base_url=address) as client:
        down = await client.get("/health")
        assert (down.status_code, down.json()) == (
            200,
            {"status": "ready", "models": [], "trouble": ["console.server_down"]},
        )
    async with running(choose()) as (address, _), httpx.AsyncClient(base_url=address) as client:
        for path in ("/health", "/health/ready"):
            assert (await client.get(path)).json() == {"status": "ready", "models": ["roofs"], "trouble": []}
        assert (await client.get("/health/live")).json() == {"status": "live"}


async def test_the_digest_of_a_picture_is_not_in_the_log(
    console: httpx.AsyncClient, lines: Callable[[], list[dict[str, object]]]
) -> None:
    digest = "c0ffee00" * 8
    await console.delete(f"/reviews/pictures/{digest}")
    [line] = [one for one in lines() if one.get("event") == "request"]
    assert line["path"] == "/reviews/pictures/DIGEST"
