"""Where an archive is from: asked of MLflow by the console's own way to it, linked by the browsers' way."""

import asyncio
from typing import Any

from aiohttp import web

from console.page.lineage import Lineages

DIGEST = "5e" * 32
VERSION = {"name": "roofs", "version": "3", "run_id": "abc"}
RUN = {"experiment_id": "7", "run_name": "roofs"}


async def facts(inside: bool) -> tuple[Any, list[str]]:
    """The lineage, and what MLflow, on loopback, was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        found = {"model_versions": [VERSION]} if request.path.endswith("search") else {"run": {"info": RUN}}
        return web.json_response(found)

    app = web.Application()
    app.router.add_get("/api/2.0/mlflow/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        [(_, port)] = [address[:2] for address in runner.addresses]
        here = f"http://127.0.0.1:{port}"
        lineages = Lineages("https://mlflow.example.com/", here) if inside else Lineages(here)
        found = await lineages.of(DIGEST)
        assert await lineages.of(DIGEST) == found
        return found, [path.replace(here, "") for path in asked]
    finally:
        await runner.cleanup()


def test_links_lead_where_browsers_find_mlflow() -> None:
    (found, trouble), asked = asyncio.run(facts(inside=True))
    assert trouble == ""
    assert [fact.text for fact in found] == ["roofs, version 3", "roofs"]
    base = "https://mlflow.example.com/#/"
    assert [fact.address for fact in found] == [f"{base}models/roofs/versions/3", f"{base}experiments/7/runs/abc"]
    assert asked == ["/api/2.0/mlflow/model-versions/search", "/api/2.0/mlflow/runs/get"]  # once, as it is remembered


def test_one_address_serves_both() -> None:
    (found, _), asked = asyncio.run(facts(inside=False))
    assert all(fact.address.startswith("http://127.0.0.1:") for fact in found)
    assert len(asked) == 2
