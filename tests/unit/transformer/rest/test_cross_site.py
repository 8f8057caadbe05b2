"""What another site's page can do in a person's browser to a server on loopback, as docs/security.md says it."""

import httpx
import pytest

from transformer.metrics import Metrics
from transformer.rest.app import create_app
from transformer.service import Service
from transformer.tokens import Tokens

FOREIGN = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}
INFER = "/v2/models/roofs/infer"
REQUESTS = [("GET", "/v2"), ("GET", "/v2/models/roofs"), ("POST", INFER), ("POST", "/v2/repository/models/roofs/unload")]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_no_other_site_may_read_an_answer_or_send_what_a_browser_asks_about_first(client, method, path):
    for host in ("edge", "rebound.example"):
        answer = await client.request(method, path, headers={**FOREIGN, "Host": host}, content=b"{}")
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        asked = await client.options(path, headers={**FOREIGN, "Host": host, "Access-Control-Request-Method": "POST"})
        assert asked.status_code == 405
        assert not [name for name in asked.headers if name.startswith("access-control-")]


async def test_no_other_site_may_change_anything(client):
    refused = await client.post("/v2/repository/models/roofs/unload", headers=FOREIGN, content=b"{}")
    assert (refused.status_code, refused.json()["code"]) == (400, "repository.fixed")


async def test_a_token_stops_other_sites_under_any_name_of_the_server(spec, upstream, tmp_path):
    (tmp_path / "tokens").write_text("first-token-0123456789")
    guarded = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32), tokens=Tokens(tmp_path / "tokens"))
    transport = httpx.ASGITransport(create_app(guarded))
    async with httpx.AsyncClient(transport=transport, base_url="http://rebound.example") as client:
        for method, path in REQUESTS:
            assert (await client.request(method, path, headers=FOREIGN)).status_code == 401


async def test_beside_the_page_another_sites_posts_are_refused_before_their_body_is_read(service, images):
    async def asked(page: bool, site: str | None) -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service, page=page))
        headers = {"Content-Type": "image/png"} | ({"Sec-Fetch-Site": site} if site else {})
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            assert (await client.get("/v2", headers=headers)).status_code == 200
            return await client.post(INFER, headers=headers, content=images[0])

    refused = await asked(True, "cross-site")
    assert (refused.status_code, refused.json()["code"]) == (403, "request.cross_site")
    for site in ("same-origin", "same-site", "none", None):
        assert (await asked(True, site)).status_code == 200, site
    assert (await asked(False, "cross-site")).status_code == 200
