"""The look-ups of names, by the machine's resolver and by ones that hang or fail."""

import asyncio
import socket
import threading
import time

import pytest

from tests.unit.transformer.upstream.test_loopback import OK, scripted
from transformer.upstream.addresses import Addresses
from transformer.upstream.connection import Reply


@pytest.fixture
def hanging(monkeypatch):
    """A resolver that answers once it is let go, and the hosts that it was asked for."""
    asked, let_go = [], threading.Event()

    def getaddrinfo(host, *_, **__):
        asked.append(host)
        let_go.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked, let_go
    let_go.set()


@pytest.mark.parametrize("host", ["127.0.0.1", "fd00::1"])
async def test_an_address_is_its_own(host, monkeypatch):
    monkeypatch.delattr(socket, "getaddrinfo")
    assert await Addresses(host).find() == [host]


async def test_a_name_has_the_machines_addresses():
    assert "127.0.0.1" in await Addresses("localhost").find()


async def test_a_resolver_that_hangs_holds_nobody_up_and_one_look_up_is_under_way(hanging):
    """More callers than the executor has threads give up one after another, and what others do in it is done at once."""
    asked, let_go = hanging
    addresses = Addresses("canary")
    for _ in range(40):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await addresses.find()
    began = time.monotonic()
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0) for _ in range(40)))
    assert time.monotonic() - began < 5
    assert asked == ["canary"]
    waiting = asyncio.create_task(addresses.find())
    await asyncio.sleep(0)
    let_go.set()
    assert await waiting == ["127.0.0.1"]
    assert await addresses.find() == ["127.0.0.1"]
    assert asked == ["canary"] * 2  # it is asked anew, as a name may have moved


async def test_a_name_without_an_address_is_an_error_and_is_asked_for_again(monkeypatch):
    asked = []

    def getaddrinfo(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    addresses = Addresses("canary")
    for _ in range(2):
        with pytest.raises(OSError, match="Temporary failure"):
            await addresses.find()
    assert len(asked) == 2
    monkeypatch.undo()
    with pytest.raises(OSError, match="is no host's name"):
        await Addresses("a" * 64 + ".example").find()


async def test_the_next_address_is_asked_where_nobody_listens_at_the_first(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.2", "127.0.0.1")]
    async with scripted(OK) as (client, _, _):
        client._addresses = Addresses("canary")
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert await client.request("GET", "/") == Reply(200, b"ok")
