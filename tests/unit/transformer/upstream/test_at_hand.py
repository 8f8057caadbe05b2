"""The image that lies at hand in a worker's socket behind the one that it works at: workers here answer when they are told to."""

import asyncio
import contextlib
import gc
import socket
import threading
import weakref

import orjson
import pytest

from handlers.errors import ImageError
from tests.unit.transformer.conftest import ANSWER
from transformer.errors import ModelNotReady
from transformer.images import Picture
from transformer.metrics import Metrics
from transformer.request_log import Record
from transformer.service import Service
from transformer.upstream import worker as worker_module
from transformer.upstream.torchserve import TorchServe
from transformer.upstream.worker import LENGTHS, READS_ONE, WITHDRAWN, WITHDRAWN_STATUS
from transformer.upstream.workers import AT_HAND_BYTES


class Told:
    """A worker that reads whatever comes. `asked`: the bodies, in their order; it echoes them when it is told to `answer`.

    `withdrawn`: those of them that it will not answer. `late`: it has begun with the next image before it sees a mark.
    """

    def __init__(self):
        self.asked = []
        self.withdrawn = []
        self.late = False
        self.connections = 0
        self._unanswered = []
        self._writer = None

    async def serve(self, reader, writer):
        self.connections += 1
        self._writer = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                lengths = await reader.readexactly(LENGTHS.size)
                if lengths == WITHDRAWN:
                    if len(self._unanswered) > 1 and not self.late:
                        self.withdrawn.append(self._unanswered[-1])
                        self._unanswered[-1] = None
                    continue
                head, body = LENGTHS.unpack(lengths)
                await reader.readexactly(head)
                if (head, body) == (0, 0):
                    writer.write(LENGTHS.pack(READS_ONE, 0))
                    continue
                self.asked.append(bytes(await reader.readexactly(body)))
                self._unanswered.append(self.asked[-1])
        writer.close()

    def answer(self, count=1):
        for _ in range(count):
            text = orjson.dumps(self.text(self._unanswered.pop(0)))
            self._writer.write(LENGTHS.pack(200, len(text)) + text)
            if self._unanswered[:1] == [None]:
                self._unanswered.pop(0)
                self._writer.write(LENGTHS.pack(WITHDRAWN_STATUS, 0))

    @staticmethod
    def text(body):
        return {"echo": body.decode()}

    def die(self):
        self._unanswered.clear()
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def told(folder, name):
    worker = Told()
    server = await asyncio.start_unix_server(worker.serve, folder / name)
    try:
        yield worker
    finally:
        server.close()
        (folder / name).unlink()


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
async def one(folder):
    async with told(folder, "1") as worker:
        yield worker


@pytest.fixture
def hang_s():
    return 10.0


@pytest.fixture
async def upstream(torchserve, folder, hang_s):
    torchserve.workers = []  # those that answer here are known by their sockets alone
    with contextlib.closing(
        TorchServe(torchserve.url, "roofs", torchserve.url, folder, ready_cache_s=0.0, hang_s=hang_s)
    ) as upstream:
        yield upstream


@pytest.fixture
async def alone(one, upstream):
    """One worker."""
    await upstream.direct.connect_new()
    return one


@pytest.fixture
async def both(folder, alone, upstream):
    """Two workers, the first of which is asked first."""
    async with told(folder, "2") as other:
        await upstream.direct.connect_new()
        yield alone, other


def begin(upstream, body):
    return upstream.begin(Picture(body), explain=False, threshold=None)


async def echo(call):
    async with asyncio.timeout(5):
        return orjson.loads((await call).body)["echo"]


async def until(check):
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.005)


async def settle():
    """Give what should not happen the time to."""
    await asyncio.sleep(0.05)


async def test_the_next_image_is_there_before_the_answer_and_each_gets_its_own(upstream, alone, torchserve):
    calls = [begin(upstream, body) for body in (b"a", b"b", b"c", b"d")]
    await until(lambda: alone.asked == [b"a", b"b"])
    await settle()
    assert alone.asked == [b"a", b"b"]
    alone.answer()
    assert await echo(calls[0]) == "a"
    await until(lambda: alone.asked == [b"a", b"b", b"c"])
    alone.answer(2)  # in one packet
    assert [await echo(call) for call in calls[1:3]] == ["b", "c"]
    await until(lambda: len(alone.asked) == 4)
    alone.answer()
    assert await echo(calls[3]) == "d"
    assert (alone.connections, torchserve.calls) == (1, [])


async def test_answers_come_in_pieces(upstream, alone):
    calls = [begin(upstream, b"a"), begin(upstream, b"b")]
    await until(lambda: len(alone.asked) == 2)
    texts = [orjson.dumps({"echo": name}) for name in "ab"]
    for byte in b"".join(LENGTHS.pack(200, len(text)) + text for text in texts):
        alone._writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert [await echo(call) for call in calls] == ["a", "b"]


async def test_an_idle_worker_comes_before_a_place_behind_a_busy_one(upstream, both):
    one, other = both
    calls = [begin(upstream, body) for body in (b"a", b"b")]
    await until(lambda: (one.asked, other.asked) == ([b"a"], [b"b"]))
    other.answer()
    await calls[1]
    calls.append(begin(upstream, b"c"))
    await until(lambda: other.asked == [b"b", b"c"])  # and not behind a
    calls.append(begin(upstream, b"d"))
    await until(lambda: one.asked == [b"a", b"d"])  # which has been under way for longer than c
    calls += [begin(upstream, b"e"), begin(upstream, b"f")]
    await until(lambda: other.asked == [b"b", b"c", b"e"])
    other.answer()
    await until(lambda: other.asked == [b"b", b"c", b"e", b"f"])
    assert one.asked == [b"a", b"d"]
    one.answer(2)
    other.answer(2)
    assert [await echo(call) for call in calls[2:]] == ["c", "d", "e", "f"]


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


@pytest.mark.parametrize("hang_s", [0.4])
async def test_the_clock_of_an_image_starts_when_the_worker_comes_to_it(upstream, alone):
    a, b = begin(upstream, b"a"), begin(upstream, b"b")
    for call in (a, b):
        await asyncio.sleep(0.3)
        alone.answer()
        await call  # b after 0.6 s, of which it had 0.3 for itself
    c = begin(upstream, b"c")
    with pytest.raises(ConnectionError, match=r"has not answered for 0\.4 s"):
        await c
    assert upstream.direct.hang


@pytest.mark.parametrize("hang_s", [1.0])
async def test_behind_a_worker_that_hangs_no_image_waits_for_its_end(upstream, both, torchserve):
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b"]))
    other.answer()
    await b
    await until(lambda: other.asked == [b"b", b"c"])
    other.answer()
    assert await echo(c) == "c"
    assert not a.done()  # it was not yet known to hang
    d = begin(upstream, b"d")
    e = begin(upstream, b"e")
    await until(lambda: other.asked == [b"b", b"c", b"d", b"e"])  # nothing is sent to who is slow
    with pytest.raises(ConnectionError, match="has not answered for 1 s"):
        await a
    other.answer(2)
    assert (await echo(d), await echo(e)) == ("d", "e")
    assert (one.asked, one.withdrawn) == ([b"a", b"c"], [b"c"])
    assert torchserve.calls == []


async def test_nothing_is_sent_behind_an_image_that_takes_long(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.1)
    one, other = both
    begin(upstream, b"a"), begin(upstream, b"b")
    await until(lambda: (one.asked, other.asked) == ([b"a"], [b"b"]))
    await asyncio.sleep(0.2)
    c = begin(upstream, b"c")
    await settle()
    assert (one.asked, other.asked) == ([b"a"], [b"b"])
    other.answer()
    await until(lambda: other.asked == [b"b", b"c"])
    d = begin(upstream, b"d")
    await until(lambda: other.asked == [b"b", b"c", b"d"])
    other.answer(2)
    assert (await echo(c), await echo(d), one.asked) == ("c", "d", [b"a"])


async def test_an_image_that_was_answered_elsewhere_shifts_no_answer(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b"]))
    other.answer()
    await until(lambda: other.asked == [b"b", b"c"])
    other.answer()
    await c
    assert (one.asked, one.withdrawn) == ([b"a", b"c"], [b"c"])
    one.answer()
    assert await echo(a) == "a"
    await settle()
    d = begin(upstream, b"d")
    await until(lambda: one.asked == [b"a", b"c", b"d"])
    one.answer()
    assert (await echo(b), await echo(c), await echo(d)) == ("b", "c", "d")


async def test_what_waits_behind_a_slow_image_leaves_it_once_another_worker_is_idle(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    a, b, c, d = (begin(upstream, body) for body in (b"a", b"b", b"c", b"d"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b", b"d"]))
    await asyncio.sleep(0.2)
    assert one.withdrawn == other.withdrawn == []  # each is slow, so neither could do more
    other.answer(2)
    assert (await echo(b), await echo(d)) == ("b", "d")
    await until(lambda: (one.withdrawn, other.asked) == ([b"c"], [b"b", b"d", b"c"]))
    other.answer()
    assert await echo(c) == "c"
    assert not a.done()


async def test_what_was_withdrawn_is_given_to_one_worker_alone(upstream, both, folder, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    async with told(folder, "3") as third:
        await upstream.direct.connect_new()
        a, b, x, c = (begin(upstream, body) for body in (b"a", b"b", b"x", b"c"))
        await until(lambda: (one.asked, other.asked, third.asked) == ([b"a", b"c"], [b"b"], [b"x"]))
        other.answer()
        await until(lambda: other.asked == [b"b", b"c"])
        third.answer()
        assert (await echo(b), await echo(x)) == ("b", "x")
        await settle()
        assert (one.withdrawn, third.asked) == ([b"c"], [b"x"])
        other.answer()
        one.answer()
        assert (await echo(a), await echo(c)) == ("a", "c")


async def test_what_waits_behind_a_slow_image_goes_to_a_worker_that_is_new(upstream, alone, folder, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    a, b = begin(upstream, b"a"), begin(upstream, b"b")
    await until(lambda: alone.asked == [b"a", b"b"])
    await asyncio.sleep(0.2)
    async with told(folder, "2") as new:
        await upstream.direct.connect_new()
        await until(lambda: (alone.withdrawn, new.asked) == ([b"b"], [b"b"]))
        new.answer()
        assert await echo(b) == "b"
        assert not a.done()


async def test_a_worker_that_had_begun_with_what_is_withdrawn_may_answer_it(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    one.late = True
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b"]))
    other.answer()
    await until(lambda: other.asked == [b"b", b"c"])
    one.answer(2)
    assert [await echo(call) for call in (a, b, c)] == ["a", "b", "c"]  # before the other's answer, which is dropped
    d, e = begin(upstream, b"d"), begin(upstream, b"e")
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c", b"d"], [b"b", b"c", b"e"]))
    one.answer()
    other.answer(2)
    assert (await echo(d), await echo(e)) == ("d", "e")


async def test_what_comes_back_keeps_its_place_in_the_line(upstream, both, folder):
    one, other = both
    async with told(folder, "3") as third:
        await upstream.direct.connect_new()
        calls = [begin(upstream, body) for body in (b"a", b"b", b"x", b"c", b"d", b"y", b"e")]
        await until(lambda: [len(worker.asked) for worker in (one, other, third)] == [2, 2, 2])
        for worker, left in ((one, 2), (other, 1)):
            worker.die()
            await until(lambda left=left: len(upstream.direct) == left)
        for number in range(3, 6):
            third.answer()
            await until(lambda number=number: len(third.asked) == number)
        third.answer(2)
        assert third.asked == [b"x", b"y", b"c", b"d", b"e"]
        assert [await echo(calls[number]) for number in (2, 3, 4, 5, 6)] == ["x", "c", "d", "y", "e"]
        for call in calls[:2]:
            with pytest.raises(ConnectionError):
                await call


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


async def test_an_image_that_cannot_be_sent_holds_up_no_other(upstream, alone):
    a, bad = begin(upstream, b"a"), upstream.direct.begin({"x": "\ud800"}, b"bad")
    with pytest.raises(TypeError, match="surrogates"):
        await bad
    b = begin(upstream, b"b")
    await until(lambda: alone.asked == [b"a", b"b"])
    alone.answer(2)
    assert (await echo(a), await echo(b)) == ("a", "b")


async def test_where_every_image_takes_long_none_is_asked_twice(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    first = [begin(upstream, b"a"), begin(upstream, b"b")]
    await until(lambda: (one.asked, other.asked) == ([b"a"], [b"b"]))
    await asyncio.sleep(0.2)
    one.answer()
    other.answer()
    await asyncio.gather(*first)
    calls = [begin(upstream, body) for body in (b"c", b"d", b"e", b"f")]
    await asyncio.sleep(0.2)  # four times as long as what is slow, and as long as the ones before
    one.answer(2)
    other.answer(2)
    await asyncio.gather(*calls)
    assert sorted(one.asked + other.asked) == [b"a", b"b", b"c", b"d", b"e", b"f"]


@pytest.mark.parametrize("cancelled", [{0}, {1}, {0, 1}, {1, 2}])
async def test_what_nobody_waits_for_any_more_disturbs_no_other(upstream, alone, torchserve, cancelled):
    calls = [begin(upstream, body) for body in (b"a", b"b", b"c")]
    await until(lambda: alone.asked == [b"a", b"b"])
    for number in cancelled:
        calls[number].cancel()
    await settle()
    calls += [begin(upstream, b"d"), begin(upstream, b"e")]
    sent = [body for number, body in enumerate((b"a", b"b", b"c", b"d", b"e")) if number not in cancelled - {0, 1}]
    for number, _ in enumerate(sent):
        await until(lambda number=number: len(alone.asked) == min(number + 2, len(sent)))
        alone.answer()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for number, name in enumerate("abcde"):
        if number in cancelled:
            assert isinstance(answers[number], asyncio.CancelledError)
        else:
            assert orjson.loads(answers[number].body)["echo"] == name
    assert alone.asked == sent
    assert (alone.connections, torchserve.calls) == (1, [])


class Body(bytearray):
    """Bytes that a weak reference can follow."""


async def test_a_large_image_is_sent_once_the_worker_is_idle_and_leaves_with_its_client(upstream, alone):
    large = b"L" * (AT_HAND_BYTES + 1)
    a, b = begin(upstream, b"a"), begin(upstream, large)
    gone = Body(large)
    c = begin(upstream, gone)
    waiting = asyncio.create_task(upstream.answer(c))
    memory = weakref.ref(gone)
    del gone
    await settle()
    assert alone.asked == [b"a"]
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert c.cancelled()
    small = begin(upstream, b"s")
    large_and_left = begin(upstream, large)
    upstream.direct.withdraw(b)
    await until(lambda: alone.asked == [b"a", b"s"])  # for which there was a place behind the large one
    upstream.direct.withdraw(large_and_left)
    b = begin(upstream, large)
    alone.answer(2)
    await small
    await settle()
    assert memory() is None
    await until(lambda: alone.asked == [b"a", b"s", large])
    d = begin(upstream, b"d")
    await until(lambda: alone.asked == [b"a", b"s", large, b"d"])  # a small one may wait behind a large one
    alone.answer(2)
    assert [len(await echo(call)) for call in (a, b, d)] == [1, AT_HAND_BYTES + 1, 1]


async def test_an_image_that_no_other_worker_will_be_asked_about_is_kept_no_longer(upstream, alone):
    bodies = [Body(b"x" * 1_000_000), Body(b"y"), Body(b"z")]
    memories = [weakref.ref(body) for body in bodies]
    calls = [begin(upstream, body) for body in bodies]
    bodies.clear()
    await until(lambda: len(alone.asked) == 2)
    await until(lambda: memories[0]() is None)
    assert memories[1]() is not None  # it may have to be sent again
    alone.answer()
    await calls[0]
    await until(lambda: len(alone.asked) == 3)
    assert [memory() is None for memory in memories] == [True, False, False]
    for number in (1, 2):
        await leave(upstream, calls[number])
        assert memories[number]() is None
    alone.answer()
    await calls[1]


async def leave(upstream, call):
    waiting = asyncio.create_task(upstream.answer(call))
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_a_client_that_leaves_withdraws_what_its_worker_has_not_begun_with(upstream, both, torchserve):
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    for call in (c, a):
        await leave(upstream, call)
    assert (a.done(), c.cancelled()) == (False, True)
    await until(lambda: one.withdrawn == [b"c"])
    d = begin(upstream, b"d")
    await until(lambda: other.asked == [b"b", b"d"])
    one.answer()
    assert await echo(a) == "a"
    e = begin(upstream, b"e")
    await until(lambda: one.asked == [b"a", b"c", b"e"])
    one.die()
    other.answer(2)
    assert (await echo(b), await echo(d)) == ("b", "d")
    with pytest.raises(ConnectionError):
        await e
    assert (other.asked, torchserve.calls) == ([b"b", b"d"], [])


async def test_what_a_client_has_left_is_not_asked_about_anew(upstream, both):
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await leave(upstream, c)
    one.die()
    other.answer()
    assert await echo(b) == "b"
    with pytest.raises(ConnectionError):
        await a
    await settle()
    assert other.asked == [b"b"]


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


@pytest.fixture
def answering(monkeypatch):
    """Workers that are told to answer give the handler's answer."""

    monkeypatch.setattr(Told, "text", lambda *_: ANSWER)


@pytest.fixture
async def service(spec, upstream):
    service = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32))
    yield service
    await service.close()


def ask(service, body, left_s=None, record=None):
    question = service._dispatcher.question(Picture(body), explain=False, threshold=None)
    record = record or Record("rest", "/")
    return asyncio.create_task(_answer(service, [question], record, left_s))


async def _answer(service, questions, record, left_s):
    async with asyncio.timeout(left_s):
        return await service._dispatcher.ask(questions, record)


@pytest.mark.usefixtures("answering")
async def test_the_time_at_hand_is_time_in_line(alone, service):
    records = [Record("rest", "/") for _ in range(2)]
    first, second = (ask(service, b"x", record=record) for record in records)
    await until(lambda: len(alone.asked) == 2)
    await asyncio.sleep(0.1)
    alone.answer()
    await first
    await asyncio.sleep(0.02)
    alone.answer()
    await second
    (_, first_queue_s, first_call_s), (_, second_queue_s, second_call_s) = (record.calls[0] for record in records)
    assert first_queue_s < 0.1 <= first_call_s
    assert second_call_s < 0.1 <= second_queue_s == records[1].queue_s


@pytest.mark.usefixtures("answering")
async def test_an_image_at_hand_whose_deadline_passes_leaves_its_turn_to_the_next(alone, service):
    first = ask(service, b"a")
    late = ask(service, b"b", left_s=0.05)
    await until(lambda: alone.asked == [b"a", b"b"])
    third = ask(service, b"c")
    with pytest.raises(TimeoutError):
        await late
    await until(lambda: alone.withdrawn == [b"b"])
    assert len(service._dispatcher._queue) == 0
    await settle()
    assert alone.asked == [b"a", b"b"]  # c is sent once there is a place for it
    alone.answer()
    assert (await first)[0].label == ANSWER["label"]
    await until(lambda: alone.asked == [b"a", b"b", b"c"])
    alone.answer()
    assert (await third)[0].label == ANSWER["label"]


@pytest.mark.usefixtures("answering")
async def test_a_call_that_its_client_has_left_is_forgotten_once_it_has_ended(alone, service):
    left = ask(service, b"a")
    await until(lambda: alone.asked == [b"a"])
    [call] = service._dispatcher._calls
    memory = weakref.ref(call)
    del call
    left.cancel()
    await asyncio.wait([left])
    assert memory() is not None
    alone.answer()
    await until(lambda: not service._dispatcher._calls)
    del left
    gc.collect()
    assert memory() is None  # and not only after the time for which it might have gone on


@pytest.mark.usefixtures("alone")
async def test_a_call_that_cannot_begin_leaves_its_turn(service):
    question = service._dispatcher.question(Picture(b"x"), explain=False, threshold=None, group="\ud800")
    for _ in range(5):
        with pytest.raises(UnicodeEncodeError):
            await service._dispatcher.ask([question], Record("rest", "/"))
    assert not service._dispatcher._queue._under_way
