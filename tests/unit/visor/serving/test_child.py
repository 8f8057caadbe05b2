"""A call in a child: what it returns and raises comes back, and what it takes does not."""

import os
import signal
import sys

import pytest

from archives.errors import ArchiveRefused
from visor.errors import ServeError
from visor.serving.child import in_child


def double(number: int) -> int:
    return 2 * number


def import_much() -> int:
    import wave

    assert wave.__name__ in sys.modules
    return os.getpid()


def refuse() -> None:
    raise ArchiveRefused("a.mar does not exist")


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def how_sigint_ends_it() -> object:
    return signal.getsignal(signal.SIGINT)


def test_returns_what_the_call_returns() -> None:
    assert in_child(double, 21) == 42


def test_what_it_imports_stays_in_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    assert in_child(import_much) != os.getpid()
    assert "wave" not in sys.modules


def test_raises_what_the_call_raises() -> None:
    with pytest.raises(ArchiveRefused, match=r"archive\.refused: a\.mar does not exist"):
        in_child(refuse)


def test_a_killed_child_is_an_error() -> None:
    with pytest.raises(ServeError, match="ended with -9"):
        in_child(be_killed)


def test_ctrl_c_is_left_to_the_parent() -> None:
    assert in_child(how_sigint_ends_it) == signal.SIG_IGN
