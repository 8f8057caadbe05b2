"""The command line as a whole."""

import pytest

from loadtests.errors import FlagsWrong
from loadtests.options import parse_options


def test_defaults_are_an_open_loop_of_all_protocols_against_an_own_server() -> None:
    options = parse_options([])
    assert (options.rest, options.grpc) == ("", "")
    assert options.protocols == ("rest-json", "rest-binary", "grpc")
    assert (options.rate, options.duration_s, options.even) == (20, 30, False)


def test_protocols_follow_the_addresses() -> None:
    assert parse_options(["--url", "http://10.0.0.1:80"]).protocols == ("rest-json", "rest-binary")
    assert parse_options(["--grpc", "10.0.0.1:81"]).protocols == ("grpc",)
    assert parse_options(["--url", "http://h:80", "--grpc", "h:81", "--protocol", "grpc,rest-json"]).protocols == (
        "grpc",
        "rest-json",
    )


def test_a_closed_loop_has_users_and_no_rate() -> None:
    options = parse_options(["--loop", "closed", "--users", "7"])
    assert (options.rate, options.users) == (None, 7)


def test_an_overload_measures_its_rate() -> None:
    options = parse_options(["--shape", "overload"])
    assert (options.rate, options.users, options.duration_s) == (None, 8, 75)


def test_a_search_and_a_soak_have_times_of_their_own() -> None:
    options = parse_options(["--find-capacity"])
    assert (options.search, options.rate, options.duration_s) == ("capacity", None, 20)
    options = parse_options(["--soak"])
    assert (options.search, options.rate, options.share, options.duration_s) == ("soak", None, 0.7, 1800)
    options = parse_options(["--soak", "--rate", "9", "--duration", "60", "--pid", "7"])
    assert (options.search, options.rate, options.duration_s, options.pid) == ("soak", 9, 60, 7)


@pytest.mark.parametrize(
    "flags",
    [
        ["--rat", "x"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--rate", "2001"],
        ["--duration", "3601"],
        ["--explain", "1.1"],
        ["--users", "3"],
        ["--loop", "closed", "--rate", "5"],
        ["--loop", "half"],
        ["--loop", "closed", "--users", "257"],
        ["--shape", "overload", "--rate", "5"],
        ["--shape", "overload", "--loop", "closed"],
        ["--find-capacity", "--soak"],
        ["--find-capacity", "--rate", "5"],
        ["--find-capacity", "--loop", "closed"],
        ["--soak", "--shape", "spike"],
        ["--soak", "--rate", "5", "--share", "0.5"],
        ["--share", "0.5"],
        ["--pid", "0"],
        ["--protocol", "v1"],
        ["--protocol", "grpc", "--url", "http://127.0.0.1:80"],
        ["--protocol", "rest-json", "--grpc", "127.0.0.1:80"],
        ["--url", "127.0.0.1:80"],
        ["--url", "https://127.0.0.1:80"],
        ["--url", "http://127.0.0.1:80/v2"],
        ["--grpc", "grpc://127.0.0.1:80"],
        ["--unknown"],
    ],
)
def test_flags_that_cannot_be_followed_have_a_code(flags: list[str]) -> None:
    with pytest.raises(FlagsWrong, match=r"^loadtest\.flags: "):
        parse_options(flags)
