"""A picture as people review it."""

import asyncio
import time

import pytest

from console.page import pictures
from console.reviews import showing
from console.servers.models import Answer
from tests.unit.console.conftest import encoded


async def test_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of reviews, and those of the page beside them."""
    under_way, most, decoded = 0, 0, 0
    decode = showing.shown

    def counting(*given):
        nonlocal under_way, most, decoded
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.02)
        pixels = decode(*given)
        under_way -= 1
        decoded += 1
        return pixels

    monkeypatch.setattr(showing, "shown", counting)
    monkeypatch.setattr(pictures, "shown", counting)
    drawn = [showing.draw(encoded("PNG"), None) for _ in range(5)]
    await asyncio.gather(*drawn, *(pictures.show(encoded("PNG"), Answer()) for _ in range(3)))
    assert (most, decoded) == (1, 8)
