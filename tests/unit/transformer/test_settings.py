"""The flags of the edge: written once, for every command that has some of them."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from transformer.__main__ import make_parser
from transformer.errors import ShadowUnusable
from transformer.flags import http_url
from transformer.server import check_settings
from transformer.settings import EdgeLimits, EdgeSettings


def test_without_flags_the_settings_are_the_defaults() -> None:
    assert EdgeSettings.from_args(make_parser().parse_args(["--archive", "x"])) == EdgeSettings()


def test_flags_reach_the_settings_and_the_limits_in_them() -> None:
    flags = ["--torchserve-keys", "keys.json", "--protocol", "rest", "--drain-s", "3", "--max-body-mib", "2", "--max-queue", "7"]
    settings = EdgeSettings.from_args(make_parser().parse_args(["--archive", "x", *flags]))
    limits = EdgeLimits(max_body_bytes=2 << 20, max_queue=7)
    expected = EdgeSettings(torchserve_keys=Path("keys.json"), protocol="rest", drain_s=3.0, limits=limits)
    assert settings == expected
    assert not settings.serves_grpc


def test_no_other_edge_is_asked_unless_a_file_says_so() -> None:
    assert (EdgeSettings().shadow_url, EdgeSettings().shadow_file) == (None, None)
    flags = ["--shadow-url", "http://[::1]:80", "--shadow-file", "f"]
    settings = EdgeSettings.from_args(make_parser().parse_args(["--archive", "x", *flags]))
    assert (settings.shadow_url, settings.shadow_file) == ("http://[::1]:80", Path("f"))


@pytest.mark.parametrize("half", [{"shadow_url": "http://a:1"}, {"shadow_file": Path("f")}])
def test_a_shadow_is_told_both_whom_to_ask_and_how_much(half: dict[str, Any]) -> None:
    with pytest.raises(ShadowUnusable, match=r"serve\.shadow: .*both --shadow-url, .* and --shadow-file"):
        check_settings(EdgeSettings(**half))
    check_settings(EdgeSettings(shadow_url="http://a:1", shadow_file=Path("f")))


@pytest.mark.parametrize("url", ["http://a", "http://a-b.c_d:65535", "http://127.0.0.1:8090/", "http://[fd00::1]:8080"])
def test_a_url_is_a_host_and_a_port(url: str) -> None:
    assert http_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *("https://a:1", "HTTP://a", "http://a/b", "http://a?b", "http://a#b", "http://a:80#", "a:80", "http://", "http://:80"),
        *("http://a:0", "http://a:65536", "http://a:", "http://user@a:80", "http://user:word@a:80", "http://a:80@b:80"),
        "http://a b",
        *("http://a\r\nX: y", "http://a:80\n", "http://a:٣", "http://[::1", "http://a,b:80"),
    ],
)
def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not of the form http://HOST:PORT"):
        http_url(url)


def test_a_requests_own_threshold_is_allowed_unless_the_flag_says_no() -> None:
    assert EdgeSettings().allow_threshold
    assert not EdgeSettings.from_args(make_parser().parse_args(["--archive", "x", "--no-allow-threshold"])).allow_threshold


def test_a_command_with_some_of_the_flags_has_the_others_defaults() -> None:
    parser = argparse.ArgumentParser()
    EdgeSettings.add_flags(parser, ("--max-queue", "--cache-images"))
    assert parser.format_usage() == "usage: pytest [-h] [--max-queue N] [--cache-images N]\n".replace("pytest", parser.prog)
    settings = EdgeSettings.from_args(parser.parse_args(["--cache-images", "9", "--max-queue", "1"]))
    assert settings == dataclasses.replace(EdgeSettings(), cache_images=9, limits=EdgeLimits(max_queue=1))


def test_every_flag_has_help_with_its_default() -> None:
    for action in make_parser()._actions:
        if action.dest not in ("help", "archive"):
            assert action.help is not None
            assert "(default: " in action.help, action.option_strings


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--max-queue", "0", "0 is not 1 or more"),
        ("--max-images", "x", "invalid whole_number value: 'x'"),
        ("--max-body-mib", "0", "0 is not 1 or more"),
        ("--cache-images", "-1", "-1 is not 0 or more"),
        ("--http-port", "65536", "65536 is not a port from 0 to 65535"),
        ("--timeout-s", "0", "0 is not a number of seconds above 0"),
        ("--grace-s", "inf", "inf is not a number of seconds, 0 or more"),
        ("--drain-s", "nan", "nan is not a number of seconds, 0 or more"),
        ("--request-log", "some", "invalid choice: 'some'"),
    ],
)
def test_a_value_out_of_range_is_an_error(flag: str, value: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        make_parser().parse_args(["--archive", "x", f"{flag}={value}"])
    assert f"argument {flag}: {sentence}" in capsys.readouterr().err
