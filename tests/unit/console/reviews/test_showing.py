"""A picture as people review it."""

import threading
import time

import pytest

from console.reviews import showing
from tests.unit.console.conftest import encoded


def test_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most = 0, 0
    decode = showing.shown

    def counting(*given):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.02)
        pixels = decode(*given)
        under_way -= 1
        return pixels

    monkeypatch.setattr(showing, "shown", counting)
    threads = [threading.Thread(target=showing.draw, args=(encoded("PNG"), None)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
