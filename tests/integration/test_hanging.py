"""Workers that hang, and a TorchServe that ends, with real processes."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.running import Server, Workspace, ask, picture, start_server, stop_server

FOUND_S = 15.0
"""Within which a worker that hangs is to be found."""


@pytest.fixture(scope="module")
def started(workspace: Workspace, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two workers, which outlives all tests but the last."""
    server = start_server(workspace, str(archive), tmp_path_factory.mktemp("hanging") / "log", "--workers", "2")
    yield server
    stop_server(server)


@pytest.fixture
def running(started: Server) -> Server:
    """That server, once the edge knows two workers: those that the test before has ended are replaced by then."""
    deadline = time.monotonic() + 90
    while len(started.workers()) < 2 or not {str(worker) for worker in started.workers()} <= sockets(started):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1.5)  # for longer than the edge remembers how many there were
    assert httpx.get(f"http://{started.rest}/v2/health/ready", timeout=10).status_code == 200
    return started


def sockets(server: Server) -> set[str]:
    """The names of the workers' sockets, their process ids, which are there once they have loaded the archive."""
    return {path.name for path in (server.torchserve_config().parent / "workers").iterdir()}


def wait_gone(process: psutil.Process, deadline: float) -> None:
    assert psutil.wait_procs([process], timeout=max(0.0, deadline - time.monotonic()))[1] == []


def test_a_worker_that_hangs_holds_up_one_image_and_is_replaced(running: Server) -> None:
    hung = psutil.Process(min(running.workers()))
    answers: list[tuple[int, float]] = []
    ended = threading.Event()

    def keep_asking() -> None:
        image = picture("PNG", 64, 64)
        while not ended.is_set():
            start = time.monotonic()
            answers.append((ask(running.rest, image).status_code, time.monotonic() - start))

    clients = [threading.Thread(target=keep_asking) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        hung.suspend()
        wait_gone(hung, time.monotonic() + FOUND_S)
    finally:
        ended.set()
        for client in clients:
            client.join()
    assert [status for status, _ in answers if status != 200] in ([], [503])
    assert sorted(seconds for _, seconds in answers)[-2] < 5.0  # all others went to the other worker
    deadline = time.monotonic() + 60
    while len(running.workers()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert f"worker {hung.pid} has not answered for 10 s and is killed" in running.log.read_text()


def test_without_a_worker_that_answers_it_is_not_ready_until_there_is_one(running: Server) -> None:
    hung = [psutil.Process(worker) for worker in running.workers()]
    start = time.monotonic()
    for worker in hung:
        worker.suspend()
    states: list[int] = []
    while states.count(503) == 0 or states[-1] != 200:
        states.append(httpx.get(f"http://{running.rest}/v2/health/ready", timeout=10).status_code)
        assert httpx.get(f"http://{running.rest}/v2/health/live", timeout=10).status_code == 200
        assert time.monotonic() < start + (FOUND_S if 503 not in states else 60)
        time.sleep(0.1)
    assert not running.workers() & {worker.pid for worker in hung}
    assert ask(running.rest, picture("PNG", 64, 64)).status_code == 200


def test_of_a_worker_that_is_killed_one_image_fails_and_the_one_at_hand_is_answered_by_another(running: Server) -> None:
    killed, other = (psutil.Process(worker) for worker in running.workers())
    for worker in (killed, other):
        worker.suspend()
    answers: list[int] = []
    image = picture("PNG", 64, 64)
    clients = [threading.Thread(target=lambda: answers.append(ask(running.rest, image).status_code)) for _ in range(4)]
    for client in clients:
        client.start()
    time.sleep(0.5)  # until each worker has two
    killed.kill()
    other.resume()
    for client in clients:
        client.join(15)
    assert sorted(answers) == [200, 200, 200, 503]


def test_a_torchserve_that_is_killed_ends_the_server_at_once_with_its_reason(running: Server) -> None:
    family = running.family()
    [java] = [process for process in family if process.name() == "java"]
    os.kill(java.pid, signal.SIGKILL)
    assert running.process.wait(5) == 1
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert "visor: serve.ended: TorchServe was killed (137), by somebody or" in running.log.read_text()
