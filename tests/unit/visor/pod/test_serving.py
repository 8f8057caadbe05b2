"""When the edge is done, by the connections that the kernel knows of."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from visor.pod.serving import publish_keys, wait_until_drained

EDGE, UPSTREAM = 0, 1
SOON_S, LATE_S = 0.7, 20.0


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    """The edge's port and TorchServe's; TorchServe listens until the end."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    yield sockets
    for each in sockets:
        each.close()


@pytest.fixture
def connect(listening: list[socket.socket]) -> Iterator[Callable[[int], tuple[socket.socket, socket.socket]]]:
    """A connection to one of them: the client's end and the server's."""
    ends: list[socket.socket] = []

    def connect(to: int) -> tuple[socket.socket, socket.socket]:
        client = socket.create_connection(listening[to].getsockname())
        server, _ = listening[to].accept()
        ends.extend((client, server))
        return client, server

    yield connect
    for each in ends:
        each.close()


async def time_drain(listening: list[socket.socket], *ending: socket.socket, stay: bool = False, grace_s: float = 30) -> float:
    """Seconds that `drained` takes where these sockets close after SOON_S; the edge's port at once, unless it stays."""
    ports = [each.getsockname()[1] for each in listening]
    if not stay:
        listening[EDGE].close()
    for each in ending:
        asyncio.get_running_loop().call_later(SOON_S, each.close)
    start = time.monotonic()
    await wait_until_drained({ports[EDGE]}, ports[UPSTREAM], grace_s)
    return time.monotonic() - start


async def test_an_edge_that_is_gone_is_done_although_torchserve_listens(listening: list[socket.socket]) -> None:
    assert await time_drain(listening) < LATE_S  # and not the grace of 30 s


async def test_an_edge_that_listens_is_not_done(listening: list[socket.socket]) -> None:
    assert SOON_S <= await time_drain(listening, listening[EDGE], stay=True) < LATE_S


@pytest.mark.parametrize("to", [EDGE, UPSTREAM], ids=["a client to the edge", "the edge to TorchServe"])
async def test_an_edge_is_not_done_while_there_is_a_connection(
    listening: list[socket.socket], connect: Callable[[int], tuple[socket.socket, socket.socket]], to: int
) -> None:
    assert SOON_S <= await time_drain(listening, *connect(to)) < LATE_S


async def test_nor_while_a_client_that_has_sent_all_waits_for_its_answer(
    listening: list[socket.socket], connect: Callable[[int], tuple[socket.socket, socket.socket]]
) -> None:
    client, server = connect(EDGE)
    client.shutdown(socket.SHUT_WR)
    assert SOON_S <= await time_drain(listening, server) < LATE_S


async def test_but_no_longer_than_the_grace(listening: list[socket.socket], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert SOON_S <= await time_drain(listening, stay=True, grace_s=SOON_S) < LATE_S
    assert f"the edge is not done after {SOON_S} s" in caplog.text


def test_keys_are_published_whole_for_the_group_alone(tmp_path: Path) -> None:
    keys, published = tmp_path / "key_file.json", tmp_path / "torchserve-keys.json"
    for text in ("first", "second"):  # of a container that was started again
        keys.write_text(text)
        (tmp_path / ".torchserve-keys.json").touch()  # left by one that was killed
        publish_keys(keys, published)
        assert published.read_text() == text
        assert published.stat().st_mode & 0o777 == 0o640
        assert sorted(path.name for path in tmp_path.iterdir()) == ["key_file.json", "torchserve-keys.json"]
