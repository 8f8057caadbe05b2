"""The page at `/`: there where it is asked for, strict about what it may load, and open where requests need a token."""

import re
from html.parser import HTMLParser

import httpx
import pytest

from transformer.metrics import Metrics
from transformer.rest.app import create_app
from transformer.rest.page import FILES, FOLDER
from transformer.service import Service
from transformer.tokens import Tokens

TOKEN = "first-token-0123456789"


def asking(service, page=True):
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service, page=page)), base_url="http://edge")


async def test_there_is_none_unless_it_is_asked_for(client):
    for address in FILES:
        response = await client.get(address)
        assert (response.status_code, response.json()["code"]) == (404, "request.path")


@pytest.mark.parametrize("address", FILES)
async def test_its_files_are_served(service, address):
    async with asking(service) as client:
        response = await client.get(address)
    assert response.status_code == 200
    assert response.content == (FOLDER / FILES[address]).read_bytes()
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("address", "kind"), [*zip(FILES, ("text/html", "text/css", "text/javascript"), strict=True)])
async def test_a_browser_asks_again_and_is_told_that_nothing_changed(service, address, kind):
    async with asking(service) as client:
        first = await client.get(address)
        assert first.headers["content-type"] == f"{kind}; charset=utf-8"
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for known in (tag, f'"other", W/{tag}', "*"):
            again = await client.get(address, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
        assert (await client.get(address, headers={"If-None-Match": '"other"'})).content == first.content


async def test_no_other_file_is(service):
    async with asking(service) as client:
        for address in ("/page", "/page/", "/page/index.html", "/page/../page.py", "/page/%2e%2e/page.py"):
            assert (await client.get(address)).status_code == 404


async def test_it_asks_no_other_host_for_anything_and_runs_nothing_inline(service):
    async with asking(service) as client:
        page = await client.get("/")
    asked: list[str] = []
    named: list[str] = []

    def note(tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named.extend([tag, *(key for key, _ in attributes)])
        asked.extend(value or "" for key, value in attributes if key in ("src", "href"))

    parser = HTMLParser()
    parser.handle_starttag = note  # type: ignore[method-assign]
    parser.feed(page.text)
    assert set(asked) == {"data:,", "docs", "openapi.json", "page/page.css", "page/page.js"}
    assert "style" not in named
    assert not [name for name in named if name.startswith("on")]
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert {source for sources in policy.values() for source in sources.split()} == {"'none'", "'self'", "data:", "'script'"}
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert (policy["img-src"], policy["require-trusted-types-for"]) == ("data:", "'script'")
    script = (FOLDER / "page.js").read_text()
    assert not re.findall(r"https?:|innerHTML|localStorage|sessionStorage|document\.cookie|eval\(", script)
    assert not re.findall(r"url\(|@import", (FOLDER / "page.css").read_text())


async def test_it_needs_no_token_and_what_it_asks_for_does(spec, upstream, tmp_path):
    (tmp_path / "tokens").write_text(TOKEN)
    guarded = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32), tokens=Tokens(tmp_path / "tokens"))
    async with asking(guarded) as client:
        for address in FILES:
            assert (await client.get(address)).status_code == 200
        assert (await client.get("/v2/repository/index")).status_code == 401
        known = await client.get("/v2/repository/index", headers={"Authorization": f"Bearer {TOKEN}"})
        assert known.status_code == 200
    async with asking(guarded, page=False) as client:
        assert (await client.get("/")).status_code == 401
