"""Long loops say how far they are, and let every item through."""

import io
import logging
import sys
import time

import pytest

from training.progress import Remaining, in_words, show_progress


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())


def test_logs_a_line_at_most_so_often(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "training.progress")

    def slowly() -> list[int]:
        items = []
        for item in show_progress(range(10), 10, "counting", every_s=0.05):
            items.append(item)
            time.sleep(0.02)
        return items

    assert slowly() == list(range(10))
    assert 1 <= len(caplog.messages) <= 5  # at least 0.02 s an item, a line each 0.05 s or more
    assert all(message.startswith("counting: ") and message.endswith(" of 10)") for message in caplog.messages)


def test_logs_each_item_when_it_may(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "training.progress")
    assert list(show_progress("abc", 3, "counting", every_s=0)) == ["a", "b", "c"]
    assert caplog.messages == ["counting: 33 % (1 of 3)", "counting: 66 % (2 of 3)", "counting: 100 % (3 of 3)"]


def test_a_quick_loop_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "training.progress")
    assert list(show_progress(range(1000), 1000, "counting")) == list(range(1000))
    assert list(show_progress((), 0, "nothing")) == []
    assert caplog.messages == []


def test_draws_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(show_progress(range(5), 5, "counting")) == list(range(5))
    assert "counting" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (40.4, "40 s"), (59.6, "1 min"), (240, "4 min"), (3599, "1 h 0 min"), (7805, "2 h 10 min")],
)
def test_durations_are_written_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_what_remains_is_the_mean_round_times_those_left() -> None:
    times = iter([100.0, 130.0, 180.0])  # begun; after the first round; after the second
    remaining = Remaining(lambda: next(times))
    assert remaining.words(9) == ""
    remaining.count()
    assert remaining.words(8) == ", about 4 min left"  # 30 s each
    remaining.count()
    assert remaining.words(3) == ", about 2 min left"  # 40 s each
    assert remaining.words(0) == ""


def test_rounds_that_end_together_count_each() -> None:
    times = iter([0.0, 120.0])
    remaining = Remaining(lambda: next(times))
    remaining.count(0)
    assert remaining.words(5) == ""
    remaining.count(3)
    assert remaining.words(6) == ", about 4 min left"  # 40 s each
