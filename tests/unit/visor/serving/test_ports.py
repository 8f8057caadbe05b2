"""Free ports can be bound, and are given to nobody twice."""

import asyncio
import socket
from pathlib import Path

import pytest

from visor.errors import ServeError
from visor.serving import ports
from visor.serving.ports import Ports, free_ports


def test_free_ports_are_distinct_and_can_be_bound() -> None:
    found = free_ports(8)
    assert len(set(found)) == 8
    assert not set(found) & set(free_ports(8))
    first, _last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert max(found) < first

    async def bind_all() -> None:
        servers = [await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", port) for port in found]
        for server in servers:
            server.close()
            await server.wait_closed()

    asyncio.run(bind_all())


def test_a_port_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "UNASSIGNED", range(port, port + 1))
        with pytest.raises(ServeError, match=str(port)):
            free_ports(1)


def test_ports_are_a_pods_own_or_free_ones() -> None:
    assert Ports() == Ports(inference=8085, management=8086, metrics=8082)
    free = Ports.free()
    assert len({free.inference, free.management, free.metrics}) == 3
