"""API keys: what the file holds, who is found, and how much a minute allows."""

import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from console.access import keys as module
from console.access.keys import EVERYBODY, MARK, Key, Keys, add_key, digest_of, read_keys, remove_key
from console.errors import KeysUnusable, LimitReached
from console.settings import MIB, Settings
from tests.unit.console.conftest import running
from tests.unit.console.test_http_protocol import sent


def test_the_file_holds_no_secret_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret = add_key(path, "shop", ["predict"])
    assert secret.startswith(MARK)
    assert len(secret) == len(MARK) + 43  # 256 bits in base64
    assert secret not in path.read_text()
    assert secret.removeprefix(MARK) not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [key] = read_keys(path)
    assert (key.name, set(key.scopes), key.sha256) == ("shop", {"predict"}, digest_of(secret))


def test_a_key_is_found_by_its_secret_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first, second = add_key(path, "a", ["predict"]), add_key(path, "b", ["review", "admin"])
    keys = Keys.open(path)
    found = [keys.find(secret) for secret in (first, second, first + "x", "", "ü\udcff")]
    assert [key and key.name for key in found] == ["a", "b", None, None, None]


def test_scopes_are_what_a_key_may_do_and_admin_is_everything() -> None:
    def key(*scopes: str) -> Key:
        return Key.model_validate({"name": "a", "scopes": scopes, "sha256": "0" * 64})

    assert [key("predict").may(scope) for scope in module.SCOPES] == [True, False, False, False]
    assert [key("review").may(scope) for scope in module.SCOPES] == [False, True, False, False]
    assert [key("admin").may(scope) for scope in module.SCOPES] == [True, True, True, True]


def test_a_name_stands_for_one_key_unless_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old = add_key(path, "a", ["predict"])
    with pytest.raises(KeysUnusable, match="--replace"):
        add_key(path, "a", ["predict"])
    new = add_key(path, "a", ["review"], 5, 7, replace=True)
    keys = Keys.open(path)
    assert keys.find(old) is None
    found = keys.find(new)
    assert found is not None
    assert (found.requests_per_minute, found.mib_per_minute) == (5, 7)


def test_a_changed_file_counts_without_a_restart_and_a_broken_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REREAD_S", 0)
    path = tmp_path / "keys.json"
    first = add_key(path, "a", ["predict"])
    keys = Keys.open(path)
    second = add_key(path, "b", ["predict"])
    assert keys.find(second) is not None
    remove_key(path, "a")
    assert keys.find(first) is None
    path.write_text("{")
    assert keys.find(second) is not None
    assert keys.trouble is not None
    path.unlink()
    assert keys.find(second) is not None
    add_key(path, "c", ["predict"])
    assert keys.find(second) is None
    assert keys.trouble is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no file of keys"),
        ('{"keys": [{"name": "a", "scopes": ["predict"], "sha256": "x"}]}', "keys.0.sha256"),
        ('{"keys": [{"name": "<b>", "scopes": ["predict"], "sha256": "' + "0" * 64 + '"}]}', "keys.0.name"),
        ('{"keys": [{"name": "a", "scopes": [], "sha256": "' + "0" * 64 + '"}]}', "keys.0.scopes"),
        ('{"keys": [{"name": "a", "scopes": ["root"], "sha256": "' + "0" * 64 + '"}]}', "keys.0.scopes"),
        ('{"keys": [], "more": 1}', "more"),
    ],
)
def test_a_file_that_is_none_of_keys_is_refused_by_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(KeysUnusable, match=told):
        Keys.open(path)


def test_two_keys_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "a", ["predict"])
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"keys": content["keys"] * 2}))
    with pytest.raises(KeysUnusable, match="two keys of one name"):
        read_keys(path)


@pytest.mark.parametrize("name", ["", "../a", "a b", "<script>", "a" * 65, "-a"])
def test_a_name_that_could_be_more_than_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeysUnusable, match="no name of a key"):
        add_key(tmp_path / "keys.json", name, ["predict"])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_told_with_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(KeysUnusable, match="visor console key"):
        Keys.open(tmp_path / "keys.json")


def limited(requests: int = 60, mib: int = 60) -> Key:
    return Key(name="a", scopes=frozenset({"predict"}), sha256="0" * 64, requests_per_minute=requests, mib_per_minute=mib)


def test_a_minutes_requests_may_come_at_once_and_fill_up_evenly() -> None:
    keys, key = Keys(None), limited(requests=60)
    for _ in range(60):
        keys.take(key, 1, 0, now=100.0)
    with pytest.raises(LimitReached) as caught:
        keys.take(key, 1, 0, now=100.0)
    assert caught.value.retry_after_s == 1  # 60 a minute are one a second
    assert caught.value.status == 429
    keys.take(key, 1, 0, now=101.0)
    with pytest.raises(LimitReached):
        keys.take(key, 1, 0, now=101.0)
    for _ in range(60):
        keys.take(key, 1, 0, now=1000.0)  # and to no more than a minute's
    with pytest.raises(LimitReached):
        keys.take(key, 1, 0, now=1000.0)


def test_bytes_are_counted_and_one_request_may_overdraw_them() -> None:
    keys, key = Keys(None), limited(requests=1000, mib=60)
    keys.take(key, 1, 90 * MIB, now=0.0)
    with pytest.raises(LimitReached) as caught:
        keys.take(key, 1, 1, now=0.0)
    assert caught.value.retry_after_s == 31  # 30 MiB too many, at one MiB a second, and then one byte
    keys.take(key, 1, 1, now=31.0)


def test_keys_do_not_share_what_they_have_left() -> None:
    keys = Keys(None)
    keys.take(limited(requests=1), 1, 0, now=0.0)
    keys.take(limited(requests=1).model_copy(update={"name": "b"}), 1, 0, now=0.0)


def test_nobody_has_the_secret_of_everybody() -> None:
    assert Keys(None).open_to_all
    assert EVERYBODY.sha256 not in {digest_of(text) for text in ("", "everybody", MARK)}


async def test_a_length_that_nobody_could_send_does_not_end_a_key(choose: Callable[..., Settings], tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = {"Authorization": f"Bearer {add_key(path, 'shop', ['predict'], mib_per_minute=60)}"}
    chosen = choose(keys_file=path, max_image_mib=1, max_zip_mib=1, payload_mib=1)
    async with running(chosen) as (address, _), httpx.AsyncClient(base_url=address, timeout=30) as client:
        head = f"Host: 127.0.0.1\r\nAuthorization: {key['Authorization']}\r\nContent-Type: image/png\r\nConnection: close\r\n"
        lie = f"POST /predict HTTP/1.1\r\n{head}Content-Length: {10**15}\r\n\r\n"
        assert b"HTTP/1.1 413" in await sent(address, lie.encode())
        answer = await client.post("/predict", headers={**key, "Content-Type": "image/png"}, content=b"x")
        assert answer.status_code == 400  # and not 429


def test_keys_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    path, names = tmp_path / "keys.json", [f"k{n}" for n in range(16)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: add_key(path, name, ["predict"]), names))
    assert sorted(key.name for key in read_keys(path)) == sorted(names)


def test_a_folder_of_keys_is_not_made_by_a_mistyped_name(tmp_path: Path) -> None:
    with pytest.raises(KeysUnusable, match="there is not there; make it"):
        add_key(tmp_path / "not/there/keys.json", "a", ["predict"])
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_of_keys_has_a_next_step(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(KeysUnusable, match="visor console key NAME --scope predict"):
        read_keys(tmp_path / "bad.json")
