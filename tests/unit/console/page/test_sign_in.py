"""Signing in and out, and what other sites' pages get: the console's own application, without a server behind it."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from console.access.keys import add_key
from console.app import create_app
from console.settings import Settings

BASE = "http://localhost:8090"
COOKIE = "visor-console"
HTML = {"accept": "text/html"}


class Asker:
    """A browser without scripts, and the secrets of two keys."""

    def __init__(self, client: TestClient, secrets: dict[str, str]) -> None:
        self.client, self.secrets = client, secrets

    def sign_in(self, name: str, **headers: str) -> httpx.Response:
        form = {"key": self.secrets[name], "next": "batch"}
        return self.client.post("/sign-in", data=form, headers=headers, follow_redirects=False)

    def token(self) -> str:
        found = re.search(r'data-csrf="([0-9a-f]{64})"', self.client.get("/batch", headers=HTML).text)
        assert found
        return found[1]


def settings(**given: object) -> Settings:
    return Settings(_env_file=None, servers="http://127.0.0.1:9", **given)  # type: ignore[call-arg,arg-type]


@pytest.fixture
def asker(tmp_path: Path) -> Iterator[Asker]:
    keys = tmp_path / "keys.json"
    secrets = {"anna": add_key(keys, "anna", ["predict"]), "rosa": add_key(keys, "rosa", ["review"])}
    with TestClient(create_app(settings(keys_file=keys)), base_url=BASE) as client:
        yield Asker(client, secrets)


def test_a_page_sends_a_stranger_to_the_sign_in_and_on_afterwards(asker: Asker) -> None:
    away = asker.client.get("/batch", headers=HTML, follow_redirects=False)
    assert (away.status_code, away.headers["location"]) == (303, "sign-in?next=batch")
    inside = asker.sign_in("anna")
    assert (inside.status_code, inside.headers["location"]) == (303, "batch")
    page = asker.client.get("/batch", headers=HTML)
    assert page.status_code == 200
    assert "<span>anna</span>" in page.text


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(asker: Asker) -> None:
    told = asker.sign_in("anna").headers["set-cookie"]
    assert {part.strip().lower() for part in told.split(";")[1:]} == {"httponly", "path=/", "samesite=strict"}
    behind_tls = asker.sign_in("anna", **{"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert behind_tls.startswith("__Host-visor-console=")
    assert "secure" in behind_tls.lower()


def test_a_key_that_is_wrong_gives_no_cookie(asker: Asker) -> None:
    answer = asker.client.post("/sign-in", data={"key": "vck_wrong"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "vck_wrong" not in answer.text


def test_what_was_planted_before_the_sign_in_is_worth_nothing_after_it(asker: Asker) -> None:
    asker.sign_in("rosa")
    planted = asker.client.cookies[COOKIE]
    asker.sign_in("anna")  # the victim signs in with the planted cookie in the browser
    assert asker.client.cookies[COOKIE] != planted
    thief = TestClient(asker.client.app, base_url=BASE, cookies={COOKIE: planted})
    assert thief.get("/batch", headers=HTML, follow_redirects=False).status_code == 303


def test_signing_out_ends_the_session_and_not_only_the_cookie(asker: Asker) -> None:
    asker.sign_in("anna")
    kept, token = asker.client.cookies[COOKIE], asker.token()
    assert asker.client.post("/sign-out", data={"csrf": token}, follow_redirects=False).status_code == 303
    assert COOKIE not in asker.client.cookies
    asker.client.cookies.set(COOKIE, kept)
    assert asker.client.get("/batch", headers=HTML, follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {},  # no token
        {"x-csrf-token": "0" * 64},
        {"x-csrf-token": "é"},
        {"right": "", "origin": "https://evil.example"},
        {"right": "", "origin": "null"},
        {"right": "", "sec-fetch-site": "cross-site"},
        {"right": "", "sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing_by_the_cookie(asker: Asker, headers: dict[str, str]) -> None:
    asker.sign_in("anna")
    sent = {name: value.encode() for name, value in headers.items() if name != "right"}
    if "right" in headers:
        sent["x-csrf-token"] = asker.token().encode()
    for address in ("/answer", "/predict"):
        answer = asker.client.post(address, content=b"picture", headers=sent)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "console.cross_site")
    assert asker.client.post("/sign-out", data={}, headers=sent, follow_redirects=False).status_code == 403
    assert asker.client.get("/batch", headers=HTML).status_code == 200  # still signed in


def test_the_pages_own_request_is_let_through_to_the_server(asker: Asker) -> None:
    asker.sign_in("anna")
    headers = {"x-csrf-token": asker.token(), "origin": BASE, "sec-fetch-site": "same-origin"}
    answer = asker.client.post("/answer", content=b"picture", headers=headers)
    assert answer.json()["error"]["code"] == "console.server_down"  # nobody listens there


def test_another_site_signs_nobody_in(asker: Asker) -> None:
    assert asker.sign_in("anna", origin="https://evil.example").status_code == 403
    assert asker.sign_in("anna", **{"sec-fetch-site": "cross-site"}).status_code == 403


def test_a_key_of_another_scope_sees_no_picture_page(asker: Asker) -> None:
    asker.sign_in("rosa")
    page = asker.client.get("/batch", headers=HTML)
    assert page.status_code == 403
    assert "scope predict" in page.text
    assert asker.client.post("/answer", content=b"x", headers={"x-csrf-token": session_token(page)}).status_code == 403


def session_token(page: httpx.Response) -> str:
    found = re.search(r'data-csrf="([0-9a-f]{64})"', page.text)
    assert found
    return found[1]


@pytest.mark.parametrize("address", ["https://evil.example", "//evil.example", "javascript:alert(1)", "\\\\evil"])
def test_the_sign_in_leads_nowhere_else(asker: Asker, address: str) -> None:
    form = {"key": asker.secrets["anna"], "next": address}
    assert asker.client.post("/sign-in", data=form, follow_redirects=False).headers["location"] == "./"


def test_a_large_form_is_refused(asker: Asker) -> None:
    assert asker.client.post("/sign-in", content=b"key=" + b"a" * 20_000).status_code == 413


def test_without_keys_the_page_says_so_and_refuses_other_names_and_sites() -> None:
    with TestClient(create_app(settings()), base_url=BASE) as client:
        page = client.get("/releases", headers=HTML)
        assert "everybody on this machine may do everything" in page.text
        assert "Sign out" not in page.text
        rebound = client.get("/releases", headers={"host": "evil.example"})
        assert (rebound.status_code, rebound.json()["error"]["code"]) == (421, "console.host")
        assert client.get("/health/live", headers={"host": "10.1.2.3"}).status_code == 200
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert client.post("/answer", content=b"x", headers=headers).status_code == 403
        assert client.post("/answer", content=b"x").json()["error"]["code"] == "console.server_down"


def test_every_page_keeps_scripts_and_frames_out(asker: Asker) -> None:
    asker.sign_in("anna")
    for address in ("/", "/batch", "/releases", "/drift", "/nothing"):
        page = asker.client.get(address, headers=HTML)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["referrer-policy"] == "same-origin"  # or its own forms would come with `Origin: null`
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page.text)
