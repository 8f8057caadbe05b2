"""A worker that ends, or says what nobody asked: the image that it works at fails, the one at hand goes elsewhere."""

import asyncio
import socket
import threading

import pytest

from handlers.errors import ImageError
from tests.unit.transformer.upstream.at_hand.told import begin, echo, settle, until
from transformer.errors import ModelNotReady
from transformer.upstream.worker import LENGTHS, READS_ONE
from transformer.upstream.workers import AT_HAND_BYTES


async def test_when_a_worker_dies_its_image_fails_and_the_one_at_hand_goes_to_another(upstream, both, torchserve):
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b"]))
    one.die()
    with pytest.raises(ModelNotReady, match="the worker ended before its answer"):
        await upstream.answer(a)
    await until(lambda: other.asked == [b"b", b"c"])
    other.answer(2)
    assert (await echo(b), await echo(c)) == ("b", "c")
    assert torchserve.calls == []


async def test_an_image_is_asked_about_anew_once(upstream, both):
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b"]))
    one.die()
    await until(lambda: other.asked == [b"b", b"c"])
    other.die()
    for call in (a, b, c):
        with pytest.raises(ConnectionError):
            await call


async def test_where_no_worker_is_left_the_image_at_hand_goes_through_torchserve(upstream, alone, torchserve, images):
    a, b = begin(upstream, b"a"), begin(upstream, images[0])
    left = begin(upstream, bytes(AT_HAND_BYTES + 1))
    await until(lambda: len(alone.asked) == 2)
    alone.die()
    with pytest.raises(ConnectionError):
        await a
    assert (await upstream.answer(b))["label"]
    with pytest.raises(ImageError):
        await upstream.answer(left)
    assert len(torchserve.calls) == 2


async def test_an_image_that_the_worker_had_begun_with_fails_with_it(upstream, both):
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await until(lambda: one.asked == [b"a", b"c"])
    one.answer()
    assert await echo(a) == "a"
    one.die()
    with pytest.raises(ConnectionError):
        await c
    await settle()
    assert other.asked == [b"b"]
    other.answer()
    assert await echo(b) == "b"


class Abrupt:
    """A worker that answers one image and ends, with the next one read or unread."""

    def __init__(self, folder, *, reads):
        self._reads = reads
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / "1"))
        self._listening.listen()
        self.go_on = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        with self._listening, self._listening.accept()[0] as connection:
            connection.recv(LENGTHS.size)
            connection.sendall(LENGTHS.pack(READS_ONE, 0))
            self._read(connection)
            self.go_on.wait(10)
            self.go_on.clear()
            connection.sendall(LENGTHS.pack(200, 2) + b"{}")
            if self._reads:
                self._read(connection)
            self.go_on.wait(10)

    @staticmethod
    def _read(connection):
        connection.recv(sum(LENGTHS.unpack(connection.recv(LENGTHS.size))), socket.MSG_WAITALL)


@pytest.mark.parametrize(("reads", "leaves"), [(False, False), (True, False), (False, True)])
async def test_what_a_worker_left_unread_when_it_ended_is_asked_about_anew(upstream, folder, torchserve, images, reads, leaves):
    abrupt = Abrupt(folder, reads=reads)
    await upstream.direct.connect_new()
    a, b = begin(upstream, b"a"), begin(upstream, images[0])
    waiting = asyncio.create_task(upstream.answer(b))
    await settle()
    abrupt.go_on.set()
    await a
    await settle()
    if leaves:
        waiting.cancel()
        await asyncio.wait([waiting])
    abrupt.go_on.set()
    await until(lambda: not abrupt.thread.is_alive() and b.done())
    if reads or leaves:
        assert isinstance(b.exception(), ConnectionError)
        await asyncio.wait([waiting])
        assert leaves or isinstance(waiting.exception(), ModelNotReady)
    else:
        assert (await waiting)["label"]
    assert len(torchserve.calls) == (not reads and not leaves)


async def test_a_worker_that_says_what_it_was_not_asked_is_left(upstream, alone):
    alone._writer.write(LENGTHS.pack(200, 2) + b"{}")
    await until(lambda: len(upstream.direct) == 0)


async def test_an_older_worker_which_reads_on_is_asked_through_torchserve(upstream, folder, torchserve, images):
    async def serve(reader, writer):
        await reader.readexactly(LENGTHS.size)
        writer.write(LENGTHS.pack(200, 0))
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(serve, folder / "1"):
        await upstream.direct.connect_new()
        assert len(upstream.direct) == 0
        assert (await upstream.answer(begin(upstream, images[0])))["label"]
        upstream.close()
    (folder / "1").unlink(missing_ok=True)
    assert len(torchserve.calls) == 1
