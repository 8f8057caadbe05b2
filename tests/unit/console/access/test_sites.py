"""Which hosts and which sites a console answers."""

import pytest

from console.access.sites import allowed_hosts, host_of


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8090", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:8090", "::1"),
        ("Console.Example.", "console.example"),
        ("", ""),
        (" a.b:1 ", "a.b"),
    ],
)
def test_a_hosts_name_is_read_without_its_port(header: str, name: str) -> None:
    assert host_of(header) == name


def test_without_keys_only_loopbacks_names_are_answered() -> None:
    assert allowed_hosts("127.0.0.1", (), open_to_all=True) == {"localhost", "127.0.0.1", "::1"}
    assert allowed_hosts("::1", ("Console.Example",), open_to_all=True) == {"localhost", "127.0.0.1", "::1", "console.example"}


def test_with_keys_any_host_is_answered_unless_some_are_named() -> None:
    assert allowed_hosts("0.0.0.0", (), open_to_all=False) == frozenset()
    assert "console.example" in allowed_hosts("0.0.0.0", ("console.example",), open_to_all=False)
