"""Settings: where they come from, what goes first, and what the console does not start with."""

import argparse
from pathlib import Path

import pytest

from console.__main__ import main
from console.errors import SettingsInvalid
from console.flags import add_flags, given
from console.settings import PREFIX, Settings, read_settings
from visor import cli

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` of a checkout."""
    monkeypatch.chdir(tmp_path)


def test_a_flag_goes_before_the_environment_and_that_before_env_and_that_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_settings().port == 8090
    (tmp_path / ".env").write_text("VISOR_CONSOLE_PORT=1\nVISOR_CONSOLE_MAX_WAIT_S=7\nOTHERS_OWN=x\n")
    assert (read_settings().port, read_settings().max_wait_s) == (1, 7)
    monkeypatch.setenv(f"{PREFIX}PORT", "2")
    assert read_settings().port == 2
    assert read_settings({"port": "3"}).port == 3


def test_every_setting_is_a_flag_with_its_sentence() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    shown = parser.format_help()
    assert all(f"--{name.replace('_', '-')}" in shown for name in Settings.model_fields)
    assert given(parser.parse_args([])) == {}
    assert given(parser.parse_args(["--port", "0", "--keys-file", "x"])) == {"port": "0", "keys_file": "x"}


def test_servers_are_addresses_or_a_list_with_more_about_each() -> None:
    one, two = read_settings({"servers": "http://a:1/, https://b/path"}).servers
    assert (one.url, two.url) == ("http://a:1", "https://b/path")
    text = '[{"url": "http://gate", "host": "roofs.example.com", "model": "roofs", "token_file": "/t", "grafana": "http://g"}]'
    [listed] = read_settings({"servers": text}).servers
    assert (listed.host, listed.model, listed.token_file, listed.grafana) == (
        "roofs.example.com",
        "roofs",
        Path("/t"),
        "http://g",
    )


@pytest.mark.parametrize(
    "servers",
    [
        "",
        "ftp://a",
        "http://user:secret@a",
        "http://a?x=1",
        "a:8080",
        "[1]",
        "[",
        '[{"url": "http://a", "hots": "b"}]',
        "http://",
    ],
)
def test_what_is_no_server_is_named(servers: str) -> None:
    with pytest.raises(SettingsInvalid, match="servers") as caught:
        read_settings({"servers": servers})
    assert "secret" not in str(caught.value)


def test_without_keys_it_listens_on_loopback_alone(tmp_path: Path) -> None:
    assert read_settings({"host": "::1"}).on_loopback
    for host in ("0.0.0.0", "::", "192.0.2.1", "console.example.com"):
        with pytest.raises(SettingsInvalid, match="visor console key"):
            read_settings({"host": host})
    assert not read_settings({"host": "0.0.0.0", "keys_file": str(tmp_path / "keys.json")}).on_loopback


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"port": "abc"}, "--port 'abc': whole number from 0 to 65535 wanted; see"),
        (
            {"port": "70000", "max_wait_s": "0"},
            "--port '70000': whole number from 0 to 65535 wanted; --max-wait-s '0': ",
        ),
        ({"concurrency": "x"}, "--concurrency 'x': whole number from 1 to 1024 wanted; see"),
        ({"lease_s": "0"}, "--lease-s '0': number of at least 1 wanted; see"),
        ({"keep_days": "-1"}, "--keep-days '-1': number above 0 wanted; see"),
        ({"servers": "a:1"}, "--servers: entry 1: address of a server wanted, such as http://127.0.0.1:8080"),
        ({"servers": '[{"url": "http://a", "hots": "b"}]'}, "--servers: entry 1: no such key hots; did you mean host?"),
    ],
)
def test_a_wrong_value_is_told_by_flag_value_and_what_is_wanted(flags: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(flags)
    assert str(caught.value).startswith(f"console.settings: {told}")
    assert caught.value.by_flag


def test_a_wrong_variable_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}PORT", "abc")
    with pytest.raises(SettingsInvalid, match="VISOR_CONSOLE_PORT 'abc': whole number from 0 to 65535 wanted") as caught:
        read_settings()
    assert not caught.value.by_flag


def test_a_wrong_flag_ends_as_a_mistyped_command_line() -> None:
    for run in (lambda *argv: main(argv), lambda *argv: cli.main(["console", "serve", *argv])):
        assert run("--port", "abc") == 2


def test_what_is_kept_lies_in_the_folder_unless_it_is_told_otherwise() -> None:
    assert read_settings({"folder": "/x"}).database_url == "sqlite:////x/console.db"
    assert read_settings({"folder": "/x"}).pictures_place == "/x/pictures"
    other = read_settings({"database": "postgresql://h/d", "pictures": "s3://b/p"})
    assert (other.database_url, other.pictures_place) == ("postgresql://h/d", "s3://b/p")
