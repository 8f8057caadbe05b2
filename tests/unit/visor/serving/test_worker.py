"""The worker's own limits; as a process it is tests/integration's part."""

import contextlib
import io
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from handlers.errors import ImageTooLarge
from tests.edge_worker import running
from visor.serving import worker


class Full(io.BytesIO):
    """A stream of which there is no memory for more than so much at once."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > worker.BUFFER_BYTES:
            raise MemoryError
        return super().read(size)


def test_a_body_that_does_not_fit_is_passed_over() -> None:
    stream = Full(b"x" * 200_000 + b"next")
    assert worker.read_or_skip(stream, 200_000) is None
    assert worker.read_or_skip(stream, 4) == b"next"
    with pytest.raises(EOFError):
        worker.read_or_skip(Full(b"x" * 100_000), 200_000)


class Context:
    """TorchServe's, which notes the statuses of a batch."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}

    def set_response_status(self, status: int, _: str, index: int) -> None:
        self.statuses[index] = status

    def set_response_content_type(self, _: int, __: str) -> None:
        pass


def test_what_java_brings_is_refused_where_there_is_no_memory_for_it() -> None:
    def handle(data: list[bytes], _: object) -> list[str]:
        if data == [b"much"]:
            raise MemoryError
        return [body.decode() for body in data]

    reader, context = worker.Reader(), Context()
    ask = worker.refuse_without_memory(handle, reader)
    assert ask([b"little"], context) == ["little"]
    assert context.statuses == {}
    assert ask([b"much"], context) == [worker.TOO_LARGE]
    assert context.statuses == {0: 400}
    reader.skipped = True  # its body was passed over
    assert ask([b""], context) == [worker.TOO_LARGE]
    assert ask([b"little"], context) == ["little"]


def test_what_it_says_then_is_the_handler_s_error() -> None:
    error = json.loads(worker.TOO_LARGE)["error"]
    assert error["code"] == ImageTooLarge.code
    assert error["message"].startswith(f"{ImageTooLarge.code}: ")


@pytest.mark.parametrize(
    ("hard", "expected"),
    [(resource.RLIM_INFINITY, 7 * resource.getpagesize() + 1000), (5000, 5000)],
    ids=["free", "a hard limit"],
)
def test_memory_is_bounded_above_what_there_is(hard: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "statm").write_text("1 2 3 4 5 7 6\n")
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(worker, "STATM", tmp_path / "statm")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (hard, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append((kind, pair)))
    worker.bound_memory(1000)
    assert limits == [(resource.RLIMIT_DATA, (expected, hard))]


def test_where_the_kernel_does_not_say_there_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STATM", tmp_path / "statm")
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("a limit was set"))
    worker.bound_memory(1000)


class Echo:
    """A handler that answers with what it is asked, and calls back before it does."""

    def __init__(self, before: Callable[[bytes], object] = lambda _: None) -> None:
        self.asked: list[bytes] = []
        self._before = before

    def answer(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        self.asked.append(body)
        self._before(body)
        return 200, json.dumps([headers, body.decode()])


@contextlib.contextmanager
def opened(folder: Path, handler: object) -> Iterator[tuple[worker.EdgeSocket, socket.socket, socket.socket]]:
    """A worker's socket for the edge, and both ends of that for TorchServe's Java."""
    edge = worker.EdgeSocket(folder)
    edge.open(handler)
    mine, java = socket.socketpair()
    with mine, java:
        yield edge, mine, java
    for key in list(edge._selector.get_map().values()):
        if isinstance(key.fileobj, socket.socket):
            key.fileobj.close()
    edge._selector.close()


def connect(folder: Path, process: int | None = None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(folder / str(process or os.getpid())))
    return connection


def question(body: bytes) -> bytes:
    return worker.LENGTHS.pack(2, len(body)) + b"{}" + body


def read_answer(connection: socket.socket) -> tuple[int, object]:
    with connection.makefile("rb", buffering=0) as unbuffered:
        stream = io.BufferedReader(unbuffered, 1)  # which reads nothing of the next answer
        status, length = worker.LENGTHS.unpack(stream.read(worker.LENGTHS.size))
        return status, json.loads(stream.read(length) or b"null")


def test_requests_at_hand_are_answered_in_their_order(tmp_path: Path) -> None:
    bodies = [b"a" * size for size in (1, 0, 70_000, 300_000, 5)]
    with opened(tmp_path, Echo()) as (edge, mine, java), connect(tmp_path) as asking:
        serving = threading.Thread(target=edge.serve_until, args=(mine,), daemon=True)
        serving.start()
        sending = threading.Thread(target=asking.sendall, args=(b"".join(question(body) for body in bodies),), daemon=True)
        sending.start()
        answers = [read_answer(asking) for _ in bodies]
        java.sendall(b"x")
        serving.join(10)
        sending.join(10)
    assert answers == [(200, [{}, body.decode()]) for body in bodies]


def test_between_two_requests_of_the_edge_others_have_their_turn(tmp_path: Path) -> None:
    """Of four that are there at once, the second comes before Java at the latest, and the others stay until Java was heard."""
    handler = Echo(lambda body: java.sendall(b"x") if body == b"1" else None)
    with opened(tmp_path, handler) as (edge, mine, java), connect(tmp_path) as asking, connect(tmp_path) as watcher:
        asking.sendall(b"".join(question(body) for body in (b"1", b"2", b"3", b"4")))
        watcher.sendall(worker.LENGTHS.pack(0, 0))
        edge.serve_until(mine)
        assert handler.asked in ([b"1"], [b"1", b"2"])
        assert mine.recv(1) == b"x"
        assert read_answer(watcher) == (worker.READS_ONE, None)
        java.sendall(b"y")
        while len(handler.asked) < 4:  # what lies in the socket wakes it, without another word of the edge's
            edge.serve_until(mine)
        assert [read_answer(asking) for _ in range(4)] == [(200, [{}, body]) for body in "1234"]


def test_an_older_archive_says_that_it_is_not_to_be_asked(tmp_path: Path) -> None:
    with opened(tmp_path, object()) as (edge, mine, java), connect(tmp_path) as asking:
        asking.sendall(worker.LENGTHS.pack(0, 0))
        serving = threading.Thread(target=edge.serve_until, args=(mine,), daemon=True)
        serving.start()
        assert read_answer(asking) == (worker.NO_ANSWERS, None)
        java.sendall(b"x")
        serving.join(10)


def test_who_pauses_in_the_middle_of_a_request_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PAUSE_S", 0.2)
    handler = Echo()
    with opened(tmp_path, handler) as (edge, mine, java), connect(tmp_path) as pausing, connect(tmp_path) as asking:
        pausing.sendall(question(b"abc")[:-1])
        serving = threading.Thread(target=edge.serve_until, args=(mine,), daemon=True)
        start = time.monotonic()
        serving.start()
        assert pausing.recv(1) == b""
        assert 0.2 <= time.monotonic() - start < 5
        asking.sendall(question(b"x"))
        assert read_answer(asking) == (200, [{}, "x"])
        java.sendall(b"x")
        serving.join(10)
    assert handler.asked == [b"x"]


def test_a_request_that_is_withdrawn_is_not_worked_at(tmp_path: Path) -> None:
    handler = Echo()
    with opened(tmp_path, handler) as (edge, mine, java), connect(tmp_path) as asking:
        asking.sendall(question(b"1") + question(b"2") + worker.WITHDRAWN + question(b"3"))
        serving = threading.Thread(target=edge.serve_until, args=(mine,), daemon=True)
        serving.start()
        assert [read_answer(asking) for _ in range(3)] == [(200, [{}, "1"]), (worker.WITHDRAWN_STATUS, None), (200, [{}, "3"])]
        java.sendall(b"x")
        serving.join(10)
    assert handler.asked == [b"1", b"3"]


def test_what_is_withdrawn_too_late_is_answered_as_ever(tmp_path: Path) -> None:
    handler = Echo(lambda body: asking.sendall(worker.WITHDRAWN + question(b"2")) if body == b"1" else None)
    with opened(tmp_path, handler) as (edge, mine, java), connect(tmp_path) as asking:
        asking.sendall(question(b"1"))
        serving = threading.Thread(target=edge.serve_until, args=(mine,), daemon=True)
        serving.start()
        assert [read_answer(asking) for _ in range(2)] == [(200, [{}, "1"]), (200, [{}, "2"])]
        java.sendall(b"x")
        serving.join(10)


@pytest.mark.parametrize("part", [4, 9, 50_000])
def test_a_worker_that_was_stopped_in_the_middle_of_a_request_goes_on(tmp_path: Path, part: int) -> None:
    request = question(bytes(100_000))
    with running(tmp_path, hang_s=10) as process, connect(tmp_path, process.pid) as asking:
        for _ in range(2):
            asking.sendall(request[:part])
            time.sleep(0.2)  # until it waits for the rest
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.2)
            asking.sendall(request[part:])
            assert read_answer(asking) == (200, {"bytes": 100_000})


def test_what_is_free_between_the_blocks_of_the_heap_is_given_back() -> None:
    """The last block holds the heap's end, so that glibc by itself would keep the 60 MB before it."""
    resident = psutil.Process().memory_info
    blocks = [bytes([n % 7]) * 100_000 for n in range(600)]  # each below what glibc maps by itself
    last, full = blocks.pop(), resident().rss
    blocks.clear()
    worker.give_back()
    assert resident().rss < full - 40_000_000
    assert len(last) == 100_000
