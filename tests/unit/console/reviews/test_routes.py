"""The review queue over HTTP, in a console before a real edge: who may do what, and what each route answers."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from PIL import Image

from console.access.keys import add_key
from console.reviews.payloads import REQUEST, RESPONSE
from console.reviews.pictures import digest_of
from console.settings import Settings
from console.state import Console
from handlers.spec import FnrBound, Spec
from tests.unit.console.conftest import Edge, encoded, running
from tests.unit.transformer.conftest import _running
from transformer.settings import EdgeSettings

PICTURE = encoded("PNG")
SCOPES = {
    ("POST", "/reviews/next"): "review",
    ("POST", "/reviews/undo"): "review",
    ("POST", "/reviews/1/label"): "review",
    ("POST", "/reviews/1/skip"): "review",
    ("GET", "/reviews/1/picture"): "review",
    ("GET", "/reviews/1/map"): "review",
    ("GET", "/reviews/figures"): "review",
    ("GET", "/reviews/export"): "review",
    ("POST", "/reviews/items"): "review",
    ("DELETE", "/reviews/pictures/" + "a" * 64): "admin",
    ("DELETE", "/reviews/pictures?older_than_days=1"): "admin",
    ("POST", "/payloads"): "payloads",
}


async def drawn(client: httpx.AsyncClient, console: Console, *pictures: bytes) -> None:
    """Ask about pictures of a console that draws all of them."""
    for picture in pictures:
        (await client.post("/predict", content=picture, headers={"Content-Type": "image/png"})).raise_for_status()
    assert console.reviews.intake.flush()


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_picture_is_asked_about_taken_labelled_and_undone(choose: Callable[..., Settings]) -> None:
    async with running(choose(audit_share=1.0)) as (address, console), httpx.AsyncClient(base_url=address) as client:
        assert code(await client.post("/reviews/next")) == (404, "console.nothing_waits")
        await drawn(client, console, PICTURE)
        held = (await client.post("/reviews/next", params={"window": "one"})).json()
        assert (held["model"], held["labels"], held["waiting"]) == ("roofs", ["intact", "damaged", "unsure"], {"audit": 1})
        assert not {"label", "decision", "score", "probabilities"} & held.keys()  # people's labels are their own
        assert code(await client.post("/reviews/next", params={"window": "two"})) == (404, "console.nothing_waits")

        wrong = await client.post(f"/reviews/{held['id']}/label", params={"window": "two"}, json={"label": "damaged"})
        assert code(wrong) == (409, "console.item_taken")
        unknown = await client.post(f"/reviews/{held['id']}/label", params={"window": "one"}, json={"label": "cat"})
        assert code(unknown) == (422, "console.label_unknown")
        given = await client.post(f"/reviews/{held['id']}/label", params={"window": "one"}, json={"label": "damaged"})
        assert given.json() == {"id": held["id"], "label": "damaged"}

        [task] = (await client.get("/reviews/export")).json()
        assert task["annotations"][0]["result"][0]["value"] == {"choices": ["damaged"]}
        [figures] = (await client.get("/reviews/figures")).json()
        assert (figures["model"], figures["drawn"], figures["counted"]) == ("roofs", 1, 1)
        assert (await client.post("/reviews/undo", params={"window": "one"})).json()["id"] == held["id"]
        assert (await client.get("/reviews/export")).json() == []
        assert code(await client.post("/reviews/undo", params={"window": "one"})) == (409, "console.nothing_to_undo")
        skipped = await client.post(f"/reviews/{held['id']}/skip", params={"window": "one"})
        assert skipped.json() == {"id": held["id"], "label": None}
        assert code(await client.post("/reviews/next", params={"window": "one"})) == (404, "console.nothing_waits")
        assert code(await client.post("/reviews/999/skip")) == (404, "console.item_unknown")
        counted = (await client.get("/metrics")).text
        assert 'visor_console_reviews_total{what="label"} 1.0' in counted


async def test_the_picture_is_written_anew_and_the_map_is_made_when_asked_for(choose: Callable[..., Settings]) -> None:
    """A picture that says things beside itself, and that browsers would not show."""
    file = io.BytesIO()
    Image.open(io.BytesIO(PICTURE)).save(file, "TIFF", description="<script>secret</script>")
    async with running(choose(audit_share=1.0)) as (address, console), httpx.AsyncClient(base_url=address) as client:
        await drawn(client, console, file.getvalue())
        held = (await client.post("/reviews/next")).json()
        plain, mapped = await client.get(held["picture"]), await client.get(held["map"])
        for answer in (plain, mapped):
            assert answer.headers["content-type"] == "image/jpeg"
            assert Image.open(io.BytesIO(answer.content)).format == "JPEG"
            assert b"secret" not in answer.content
        assert plain.content != mapped.content
        assert code(await client.get(held["picture"], params={"window": "two"})) == (409, "console.item_taken")
        [figures] = (await client.get("/reviews/figures")).json()
        assert sum(figures["answered"].values()) == 1  # the map's question is no traffic

        (await client.delete(f"/reviews/pictures/{digest_of(file.getvalue())}")).raise_for_status()
        assert code(await client.get(held["picture"])) == (409, "console.item_taken")
        assert not list((console.settings.folder / "pictures").rglob("*/*"))


async def test_each_route_takes_its_scope(choose: Callable[..., Settings], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    secrets = {scope: add_key(keys, scope, [scope]) for scope in ("predict", "review", "payloads", "admin")}
    async with running(choose(keys_file=keys)) as (address, _), httpx.AsyncClient(base_url=address) as client:
        for (method, path), needed in SCOPES.items():
            assert code(await client.request(method, path)) == (401, "console.unauthenticated"), path
            for scope, secret in secrets.items():
                answer = await client.request(method, path, headers={"Authorization": f"Bearer {secret}"})
                refused = answer.status_code == 403
                assert refused == (scope not in (needed, "admin")), (path, scope, answer.text)
        assert (await client.get("/reviews", headers={"Authorization": f"Bearer {secrets['review']}"})).status_code == 200


async def test_names_of_keys_are_in_no_export(choose: Callable[..., Settings], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    secret = add_key(keys, "anna.schmidt", ["admin"])
    async with (
        running(choose(keys_file=keys, audit_share=1.0)) as (address, console),
        httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {secret}"}) as client,
    ):
        await drawn(client, console, PICTURE)
        held = (await client.post("/reviews/next")).json()
        await client.post(f"/reviews/{held['id']}/label", json={"label": "damaged"})
        exported = (await client.get("/reviews/export")).text
        assert "anna" not in exported
        assert len(json.loads(exported)[0]["data"]["reviewer"]) == 12
    assert b"anna" not in (tmp_path / "console" / "console.db").read_bytes()


async def test_what_drift_calls_unusual_is_queued_whatever_is_answered(console: httpx.AsyncClient) -> None:
    added = (await console.post("/reviews/items", content=PICTURE, headers={"Content-Type": "image/png"})).json()
    assert added["queued"]
    for _ in range(100):
        held = await console.post("/reviews/next")
        if held.status_code == 200:
            break
    assert held.json()["waiting"] == {"drift": 1}
    assert (await console.get("/reviews/figures")).json() == []  # it is no traffic
    broken = await console.post("/reviews/items", content=b"no picture", headers={"Content-Type": "image/png"})
    assert code(broken) == (400, "image.undecodable")


async def test_old_pictures_are_deleted_by_request(choose: Callable[..., Settings]) -> None:
    async with running(choose(audit_share=1.0)) as (address, console), httpx.AsyncClient(base_url=address) as client:
        await drawn(client, console, PICTURE)
        assert (await client.delete("/reviews/pictures", params={"older_than_days": 1})).json() == {"pictures": 0}
        assert (await client.delete("/reviews/pictures", params={"older_than_days": 1e-9})).json() == {"pictures": 1}
        assert code(await client.delete(f"/reviews/pictures/{digest_of(PICTURE)}")) == (410, "console.picture_gone")


async def test_what_servers_answered_others_is_told_by_events(choose: Callable[..., Settings], edge: Edge) -> None:
    """A real edge's answer, in the events that KServe's agent makes of it, with the key in the address."""
    data = [base64.b64encode(encoded("PNG", side)).decode() for side in (20, 28)]
    request = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": data}]}).encode()
    async with running(choose(audit_share=1.0)) as (address, console), httpx.AsyncClient(base_url=address) as client:
        answered = (await client.post(f"http://{edge.http}/v2/models/roofs/infer", content=request)).content
        for kind, body, outcome in ((RESPONSE, answered, "waiting"), (REQUEST, request, "paired"), ("x", b"", "ignored")):
            event = {"ce-id": "7", "ce-type": kind, "ce-specversion": "1.0", "ce-source": "x", "Content-Type": "application/json"}
            assert (await client.post("/payloads", content=body, headers=event)).json() == {"event": outcome}
        assert console.reviews.intake.flush()
        [figures] = (await client.get("/reviews/figures")).json()
        assert (figures["drawn"], sum(figures["answered"].values())) == (2, 2)
        for kind, body in ((RESPONSE, b"{}"), (REQUEST, request)):
            answer = await client.post("/payloads", content=body, headers={"ce-id": "8", "ce-type": kind})
        assert answer.json() == {"event": "unreadable"}
        assert code(await client.post("/payloads", content=b"{}")) == (400, "console.event_unreadable")


async def test_a_console_that_starts_anew_knows_the_promise_of_what_it_counted(
    choose: Callable[..., Settings], spec: Spec, settings: EdgeSettings
) -> None:
    """Nobody asks it for models before: whoever polls the figures gets their verdict all the same."""
    promising = spec.model_copy(
        update={"decision": spec.decision.model_copy(update={"fnr_bound": FnrBound(level=0.1, threshold=0.4, positives=30)})}
    )
    seen = []
    async with _running(promising, settings) as edge:
        chosen = choose(servers=f"http://{edge.http}", audit_share=1.0)
        for asked in (True, False):
            async with running(chosen) as (address, console), httpx.AsyncClient(base_url=address) as client:
                if asked:
                    await drawn(client, console, PICTURE)
                    held = (await client.post("/reviews/next")).json()
                    await client.post(f"/reviews/{held['id']}/label", json={"label": "damaged"})
                [figures] = (await client.get("/reviews/figures")).json()
                [missed] = [one for one in figures["figures"] if one["name"] == "missed"]
                seen.append((missed["promise"], missed["verdict"]))
    assert seen == [(0.1, "open")] * 2  # one label proves nothing
    async with running(chosen) as (address, _), httpx.AsyncClient(base_url=address) as client:
        [figures] = (await client.get("/reviews/figures")).json()  # of a server that is gone the labels are known, and no promise
        assert {one["promise"] for one in figures["figures"]} == {None}


async def test_the_key_of_a_payload_logger_may_stand_in_its_address(choose: Callable[..., Settings], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    secret = add_key(keys, "logger", ["payloads", "review"])
    async with running(choose(keys_file=keys)) as (address, _), httpx.AsyncClient() as client:
        url = address.replace("http://", f"http://logger:{secret}@")
        event = {"ce-id": "1", "ce-type": "x"}
        assert (await client.post(f"{url}/payloads", headers=event)).status_code == 200
        assert (await client.post(f"{address.replace('//', '//logger:wrong@')}/payloads", headers=event)).status_code == 401
        assert (await client.post(f"{url}/reviews/next")).status_code == 401  # no other route takes one


@pytest.mark.parametrize("window", ["a" * 41, "a b", "<script>"])
async def test_a_window_is_named_by_letters_and_digits(console: httpx.AsyncClient, window: str) -> None:
    assert code(await console.post("/reviews/next", params={"window": window})) == (422, "console.parameter")


async def test_another_sites_page_changes_nothing(console: httpx.AsyncClient) -> None:
    for method, path in SCOPES:
        if method != "GET":
            answer = await console.request(method, path, headers={"Sec-Fetch-Site": "cross-site"})
            assert code(answer) == (403, "console.cross_site"), path
