"""Long loops say how far they are, and let every item through."""

import io
import logging
import sys

import pytest

from training.progress import track


def test_logs_a_line_for_each_tenth(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO, "training.progress")
    assert list(track(range(200), 200, "counting")) == list(range(200))
    assert len(caplog.messages) == 10
    assert caplog.messages[0] == "counting: 10 % (20 of 200)"
    assert caplog.messages[-1] == "counting: 100 % (200 of 200)"


def test_short_loops_log_no_more_than_their_items(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO, "training.progress")
    assert list(track("abc", 3, "counting")) == ["a", "b", "c"]
    assert [message.split()[1] for message in caplog.messages] == ["30", "60", "100"]
    assert list(track((), 0, "nothing")) == []


def test_draws_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(track(range(5), 5, "counting")) == list(range(5))
    assert "counting" in sys.stderr.getvalue()  # type: ignore[attr-defined]
