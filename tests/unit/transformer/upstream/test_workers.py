"""Workers that the edge asks itself: over the sockets that visor/serving/worker.py opens, else through TorchServe."""

import asyncio
import contextlib
import itertools
import os
import socket
import threading

import httpx
import pytest

from handlers.errors import ImageTooLarge, ImageUndecodable
from tests.edge_worker import running
from transformer.errors import ModelNotReady, UpstreamFailed
from transformer.images import Picture
from transformer.metrics import Metrics
from transformer.rest.app import create_app
from transformer.service import Service
from transformer.settings import EdgeLimits
from transformer.upstream.torchserve import TorchServe
from transformer.upstream.worker import LENGTHS, READS_ONE, WITHDRAWN, WITHDRAWN_STATUS
from transformer.upstream.workers import Workers
from visor.serving import worker as serving
from visor.serving.worker import EdgeSocket

URL = "/v2/models/roofs/infer"
ONE = {"Content-Type": "image/png"}


@contextlib.contextmanager
def worker(folder, handler, name):
    """A worker's loop in a thread, as TorchServe's worker runs it; `name`: instead of the process's id, which they share."""
    frontend, java = socket.socketpair()
    edge = EdgeSocket(folder)
    edge.open(handler)
    (folder / str(os.getpid())).rename(folder / name)
    thread = threading.Thread(target=edge.serve_until, args=(frontend,))
    thread.start()
    try:
        yield
    finally:
        java.sendall(b"x")  # TorchServe has something to say
        thread.join(10)
        assert not thread.is_alive()
        for key in list(edge._selector.get_map().values()):
            key.fileobj.close()  # as the end of the process does
        edge._selector.close()
        java.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
async def upstream(torchserve, folder):
    torchserve.workers = []  # those that answer here are known by their sockets alone
    with contextlib.closing(TorchServe(torchserve.url, "roofs", torchserve.url, folder, ready_cache_s=0.0)) as upstream:
        yield upstream


async def ask(upstream, body, size=None, **options):
    await upstream.direct.connect_new()
    return await upstream.answer(upstream.begin(Picture(body, size), **{"explain": False, "threshold": None, **options}))


async def test_a_worker_answers_as_through_torchserve(torchserve, upstream, folder, handler, images, ask_handler):
    with worker(folder, handler, "1"):
        for options, headers in (({}, {}), ({"explain": True}, {"explain": "true"}), ({"threshold": 0.9}, {"threshold": "0.9"})):
            for image in images:
                answer = await ask(upstream, image, **options)
                assert answer.pop("seconds")
                expected = ask_handler(image, **headers)
                expected.pop("seconds")
                assert answer == expected
        with pytest.raises(ImageUndecodable):
            await ask(upstream, b"no picture")
        pixels = bytes(40 * 48 * 3)
        answer = await ask(upstream, memoryview(pixels), (40, 48))
        assert answer["label"] == ask_handler(pixels, shape="40,48")["label"]
    assert torchserve.calls == []


async def test_a_handler_that_fails_is_a_502(folder, upstream):
    class Broken:
        def answer(self, _body, _headers):
            raise KeyError

    with worker(folder, Broken(), "1"), pytest.raises(UpstreamFailed, match="500"):
        await ask(upstream, b"x")


async def test_a_handler_that_has_no_memory_left_refuses_that_image_alone(folder, upstream):
    class Older:
        """Which does not know of such errors."""

        def answer(self, body, _headers):
            if body == b"large":
                raise MemoryError
            return 200, "{}"

    with worker(folder, Older(), "1"):
        with pytest.raises(ImageTooLarge, match="took all memory that a worker has for one"):
            await ask(upstream, b"large")
        assert await ask(upstream, b"small") == {}


async def test_large_bodies_and_answers_arrive_whole(folder, upstream):
    class Echo:
        def answer(self, body, headers):
            return 200, f'{{"label": "{headers["x-visor-threshold"]}", "text": "{body.decode()}"}}'

    body = b"abc" * 1_000_000
    with worker(folder, Echo(), "1"):
        answer = await ask(upstream, body, threshold=0.25)
    assert answer == {"label": "0.25", "text": body.decode()}


async def test_who_breaks_off_disturbs_nobody(folder, upstream, handler, images):
    with worker(folder, handler, "1"):
        for data in (b"", b"\0\0", LENGTHS.pack(2, 1000) + b"{}" + bytes(10)):
            with socket.socket(socket.AF_UNIX) as broken:
                broken.connect(str(folder / "1"))
                broken.sendall(data)
        assert (await ask(upstream, images[0]))["label"]


async def test_without_a_worker_to_ask_it_goes_through_torchserve(torchserve, upstream, folder, handler, images):
    class Older:
        """A handler of before, which has no `answer`."""

    (folder / "999").touch()  # what a worker left that was killed
    with worker(folder, Older(), "2"):
        assert (await ask(upstream, images[0]))["label"]
        assert len(upstream.direct) == 0
        assert len(torchserve.calls) == 1
        with worker(folder, handler, "1"):
            assert (await ask(upstream, images[0]))["label"]
    assert len(torchserve.calls) == 1


async def test_the_first_images_go_past_torchserve_as_well(torchserve, upstream, spec, folder, handler, images):
    torchserve.workers = [{"status": "READY"}]
    connect, connecting = upstream.direct.connect_new, asyncio.Event()

    async def connect_slowly():
        connecting.set()
        await asyncio.sleep(0.05)
        await connect()

    upstream.direct.connect_new = connect_slowly
    service = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32))
    with worker(folder, handler, "1"):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
            first = asyncio.create_task(client.post(URL, content=images[0], headers=ONE))
            await connecting.wait()
            answers = await asyncio.gather(first, *(client.post(URL, content=images[0], headers=ONE) for _ in range(3)))
        assert [answer.status_code for answer in answers] == [200] * 4
        await service.close()
    assert torchserve.calls == []


async def test_a_folder_that_is_not_there_is_no_error(torchserve, images, tmp_path):
    with contextlib.closing(TorchServe(torchserve.url, "roofs", torchserve.url, tmp_path / "none")) as upstream:
        assert (await ask(upstream, images[0]))["label"]


async def test_a_worker_that_dies_is_a_503_and_the_next_one_is_found(torchserve, upstream, folder, handler, images):
    async def die(reader, writer):
        await reader.readexactly(LENGTHS.size)
        writer.write(LENGTHS.pack(READS_ONE, 0))
        await reader.readexactly(LENGTHS.size)
        writer.close()

    changes = []
    upstream.on_change = lambda: changes.append(len(upstream.direct))
    async with await asyncio.start_unix_server(die, folder / "1"):
        with pytest.raises(ModelNotReady, match="the worker ended before its answer"):
            await ask(upstream, images[0])
    (folder / "1").unlink(missing_ok=True)
    with worker(folder, handler, "2"):
        assert (await ask(upstream, images[0]))["label"]
    assert [number for number, _ in itertools.groupby(changes)] == [1, 0, 1]
    assert torchserve.calls == []


async def test_each_worker_works_at_one_image_at_a_time(torchserve, upstream, spec, folder, images):
    under_way, most = 0, 0

    class Slow:
        def answer(self, _body, _headers):
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            together.wait(10)
            under_way -= 1
            return 400, '{"error": {"code": "image.empty", "message": "image.empty: x"}}'

    together = threading.Barrier(2)  # only ever passed by two at once
    torchserve.workers = [{"status": "READY"}] * 2
    service = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32))
    with worker(folder, Slow(), "1"), worker(folder, Slow(), "2"):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
            statuses = await asyncio.gather(*(client.post(URL, content=images[0], headers=ONE) for _ in range(6)))
    assert [answer.status_code for answer in statuses] == [400] * 6
    assert most == 2
    assert torchserve.calls == []
    await service.close()


def test_calls_under_way_follow_who_can_be_asked():
    limits = EdgeLimits()
    assert limits.room(4, direct=4)[0] == 8
    assert limits.room(4, direct=3)[0] == 6  # what went through TorchServe would wait for the fourth, whatever it does
    assert limits.room(4)[0] == 8
    assert EdgeLimits(concurrency=3).room(4, direct=4)[0] == 3


def test_no_more_may_wait_than_for_those_who_work():
    """Of four workers three hang: one alone would have to answer what waits, 0.4 s of its own or 32 images."""
    limits = EdgeLimits(max_images=1)
    assert limits.room(4, direct=1)[1] == 32
    assert limits.room(4, direct=1, image_s=0.005)[1] == 80
    assert limits.room(4, direct=4, image_s=0.005)[1] == limits.room(4, image_s=0.005)[1] == 320


@contextlib.asynccontextmanager
async def hanging(folder, name, answers):
    """A worker that answers so often, and then hangs until it is killed."""

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                lengths = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
                await reader.readexactly(sum(lengths))
                asked.append(lengths)
                if len(asked) <= answers:
                    writer.write(LENGTHS.pack(READS_ONE, 0) if lengths == (0, 0) else LENGTHS.pack(200, 2) + b"{}")
        writer.close()

    asked = []
    server = await asyncio.start_unix_server(answer, folder / name)
    try:
        yield asked
    finally:
        server.close()
        (folder / name).unlink(missing_ok=True)


@pytest.fixture
async def impatient(torchserve, folder):
    """A client of TorchServe for which 0.3 s without an answer is a worker that hangs."""
    with contextlib.closing(
        TorchServe(torchserve.url, "roofs", torchserve.url, folder, ready_cache_s=0.0, hang_s=0.3)
    ) as upstream:
        yield upstream


async def test_a_worker_that_hangs_takes_one_image_and_no_second_one(torchserve, impatient, folder, handler, images):
    torchserve.workers = [{"status": "READY"}] * 2
    async with hanging(folder, "1", answers=1) as asked:
        await impatient.direct.connect_new()
        with worker(folder, handler, "2"):
            await impatient.direct.connect_new()
            first = await asyncio.gather(*(ask(impatient, images[0]) for _ in range(2)), return_exceptions=True)
            [error] = [answer for answer in first if isinstance(answer, Exception)]
            assert isinstance(error, ModelNotReady)
            assert "the worker has not answered for 0.3 s" in str(error)
            answers = [await ask(impatient, images[0]) for _ in range(4)]
            assert all(answer["label"] for answer in answers)
            assert await impatient.ready()
            assert len(impatient.direct) == 1
    assert len([lengths for lengths in asked if lengths != (0, 0)]) == 1
    assert torchserve.calls == []  # which would give it to the one that hangs


async def test_where_all_workers_hang_it_is_not_ready_and_says_so_at_once(torchserve, impatient, folder, handler, images):
    torchserve.workers = [{"status": "READY"}]
    async with hanging(folder, "1", answers=1):
        assert await impatient.ready()
        with pytest.raises(ModelNotReady, match=r"has not answered for 0\.3 s"):
            await ask(impatient, images[0])
        assert not await impatient.ready()
        with pytest.raises(ModelNotReady, match="no worker answers"):
            await ask(impatient, images[0])
    # It was killed, and another one started.
    with worker(folder, handler, "2"):
        assert (await ask(impatient, images[0]))["label"]
        assert await impatient.ready()
    assert torchserve.calls == []


async def test_a_worker_that_goes_on_is_asked_again(torchserve, impatient, folder):
    torchserve.workers = [{"status": "READY"}]
    async with hanging(folder, "1", answers=1) as asked:
        await impatient.ready()
        with pytest.raises(ModelNotReady):
            await ask(impatient, b"x")
        asked.clear()  # it is as if it had just begun
        async with asyncio.timeout(5):
            while not await impatient.ready():
                await asyncio.sleep(0.01)
        assert len(impatient.direct) == 1


async def test_the_line_moves_on_past_a_worker_that_hangs(torchserve, impatient, spec, folder, handler, images):
    torchserve.workers = [{"status": "READY"}] * 2
    service = Service(spec, "ab" * 32, impatient, Metrics(spec, "ab" * 32))
    async with hanging(folder, "1", answers=1):
        with worker(folder, handler, "2"):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
                assert (await client.get("/v2/health/ready")).status_code == 200
                answers = await asyncio.gather(*(client.post(URL, content=images[0], headers=ONE) for _ in range(12)))
                assert (await client.get("/v2/health/ready")).status_code == 200
            statuses = [answer.status_code for answer in answers]
            assert (statuses.count(503), statuses.count(200)) == (1, 11)
            await service.close()
    assert torchserve.calls == []


def test_both_ends_mean_the_same():
    assert (serving.LENGTHS.format, serving.READS_ONE) == (LENGTHS.format, READS_ONE)
    assert (serving.WITHDRAWN, serving.WITHDRAWN_STATUS) == (WITHDRAWN, WITHDRAWN_STATUS)


async def test_an_image_that_hangs_takes_one_worker_even_if_it_was_at_hand_at_another(folder):
    hang_s = 3.0
    with running(folder, hang_s) as one, running(folder, hang_s) as other:
        workers = Workers(folder, lambda *_: pytest.fail("asked elsewhere"), hang_s=hang_s)
        while len(workers) < 2:
            await workers.connect_new()
        slow = workers.begin({"sleep": "1.8"}, b"slow")
        quick = workers.begin({"sleep": "0.05"}, b"quick")
        hangs = workers.begin({"sleep": "60"}, b"hangs")  # behind the slow one, and after 1 s at the idle one
        assert (await quick).status == (await slow).status == 200
        with pytest.raises(ConnectionError):
            await hangs
        assert len(workers) == 1
        while one.poll() is other.poll() is None:
            await asyncio.sleep(0.05)
        await asyncio.sleep(hang_s)
        assert [one.poll(), other.poll()].count(None) == 1
        assert (await workers.begin({}, b"next")).status == 200
        workers.close()
