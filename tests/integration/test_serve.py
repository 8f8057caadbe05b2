"""`visor serve` as a process: it comes up, says why it does not, and leaves nothing behind however it ends."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.running import Server, Workspace, copy_without_weights, is_worker, start_server, stop_server


def wait_gone(processes: list[psutil.Process], timeout_s: float = 20.0) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=timeout_s)[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(workspace: Workspace, archive: Path, tmp_path: Path, number: int) -> None:
    running = start_server(workspace, str(archive), tmp_path / "log", "--workers", "1")
    family = running.family()
    assert len(running.workers()) == 1
    running.process.send_signal(number)
    code = running.process.wait(30)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert wait_gone(family) == []


def test_at_a_terminal_it_says_what_it_does_in_short_lines(workspace: Workspace, archive: Path, images: dict[Path, str]) -> None:
    """From the start to Ctrl-C, which a terminal sends as a character."""
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "visor.cli", "serve", str(archive), "--port", "0", "--workers", "1"]
    process = subprocess.Popen(
        command, cwd=workspace.path, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(terminal)
    shown = b""

    def read_until(pattern: str) -> "re.Match[str]":
        nonlocal shown
        deadline = time.monotonic() + 120
        while not (found := re.search(pattern, shown.decode(errors="replace"))):
            assert time.monotonic() < deadline, shown.decode()
            if select.select([screen], [], [], 1)[0]:
                shown += os.read(screen, 65536)
        return found

    try:
        read_until(r"starting TorchServe with 1 worker: a few seconds\r\n")
        address = read_until(r"page  (http://127.0.0.1:\d+/)\r\n(?s:.*)try   visor predict.*\r\n")[1]
        assert "<h1>visor</h1>" in httpx.get(address).text
        image = next(iter(images)).read_bytes()
        for _ in range(20):  # a machine that is short of CPU may say 503 at first, and when to come again
            answer = httpx.post(
                f"{address}v2/models/digits/infer", content=image, headers={"Content-Type": "image/png"}, timeout=60
            )
            if answer.status_code == 200:
                break
            time.sleep(1)
        read_until(r"\d\d:\d\d:\d\d  POST /v2/models/digits/infer  200  1 (pass|review)  \d+ ms\r\n")
        os.write(screen, b"\x03")
        read_until(r"stopping: what was accepted is still answered\r\n(?s:.*)stopped\r\n$")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(screen)
    text = shown.decode()
    assert not re.search(r"^[EWI]\d{4} |[{}]|Traceback", text, re.MULTILINE)
    assert all(len(line) < 160 for line in text.splitlines() if "is signed by" not in line)


@pytest.fixture(scope="module")
def pageless(workspace: Workspace, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one worker, without a page."""
    running = start_server(workspace, str(archive), tmp_path_factory.mktemp("pageless") / "log", "--workers", "1", "--no-page")
    yield running
    stop_server(running)


def test_without_a_page_there_is_none(pageless: Server) -> None:
    assert httpx.get(f"http://{pageless.rest}/").status_code == 404
    assert "page" not in pageless.log.read_text()


def test_probes_that_succeed_leave_no_line(pageless: Server) -> None:
    before = pageless.log.read_text()
    for _ in range(3):
        for path in ("v2/health/ready", "v2/health/live", "v2/models/digits/ready"):
            assert httpx.get(f"http://{pageless.rest}/{path}").status_code == 200
    time.sleep(1)
    assert "ready" not in pageless.log.read_text().removeprefix(before)


def test_is_not_ready_when_its_workers_are_gone_and_recovers(pageless: Server) -> None:
    os.kill(pageless.workers().pop(), signal.SIGKILL)
    statuses: list[int] = []
    deadline = time.monotonic() + 60
    while 503 not in statuses or statuses[-1] != 200:
        statuses.append(httpx.get(f"http://{pageless.rest}/v2/health/ready").status_code)
        assert httpx.get(f"http://{pageless.rest}/v2/health/live").status_code == 200
        time.sleep(0.05)
        assert time.monotonic() < deadline
    assert set(statuses) == {200, 503}


def test_killed_while_the_worker_loads_leaves_no_process_behind(workspace: Workspace, archive: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "visor.cli", "serve", str(archive), "--port", "0"],
        cwd=workspace.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    family: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    try:
        while not any(map(is_worker, family)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
            family = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()
    assert wait_gone(family) == []


def test_torchserve_listens_on_loopback_only(server: Server) -> None:
    listening = set()
    for process in server.family():
        with suppress(psutil.NoSuchProcess):  # TorchServe measures its machine by processes that are soon gone
            listening |= {one.laddr.ip for one in process.connections("tcp") if one.status == psutil.CONN_LISTEN}
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_one_worker_for_each_cpu_of_the_limit_each_with_one_thread(server: Server) -> None:
    assert len(server.workers()) == len(os.sched_getaffinity(0))
    for pid in server.workers():
        assert psutil.Process(pid).environ()["OMP_NUM_THREADS"] == "1"


def test_keeps_nothing_of_what_verified_the_archive(server: Server) -> None:
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "uvloop" in maps
    assert "rfc3161_client" not in maps  # which verifying imports, with 20 MB of other packages


def test_netty_takes_memory_in_small_pieces(server: Server) -> None:
    [java] = [p for p in psutil.Process(server.process.pid).children(recursive=True) if p.name() == "java"]
    assert java.memory_full_info().uss < 100 * 2**20  # in pieces of 16 MiB it has 190


def test_is_ready_once_it_says_so(server: Server) -> None:
    assert httpx.get(f"http://{server.rest}/v2/health/ready").status_code == 200
    assert httpx.get(f"http://{server.rest}/v2/models/digits/ready").status_code == 200


def test_an_early_inference_leaves_no_worker_idle(
    workspace: Workspace, archive: Path, images: dict[Path, str], tmp_path: Path
) -> None:
    """Asked as soon as it listens, and never for its readiness, it uses all workers once they are there."""
    picture = next(iter(images)).read_bytes()

    def infer(client: httpx.Client) -> int:
        headers = {"Content-Type": "image/png"}
        return client.post("/v2/models/digits/infer", content=picture, headers=headers).status_code

    running = start_server(workspace, str(archive), tmp_path / "log", "--workers", "2")
    try:
        with httpx.Client(base_url=f"http://{running.rest}") as client, ThreadPoolExecutor(4) as pool:
            assert infer(client) == 200
            deadline = time.monotonic() + 60
            while len(running.workers()) < 2:
                assert time.monotonic() < deadline
            spent: dict[int, float] = {}
            while len(spent) < 2 or min(spent.values()) < 0.2 * sum(spent.values()):
                assert time.monotonic() < deadline, f"CPU seconds by worker: {spent}"
                before = {pid: sum(psutil.Process(pid).cpu_times()[:2]) for pid in running.workers()}
                assert set(pool.map(infer, [client] * 400)) == {200}
                spent = {pid: sum(psutil.Process(pid).cpu_times()[:2]) - before[pid] for pid in running.workers()}
    finally:
        stop_server(running)


def test_a_taken_port_is_named(workspace: Workspace, archive: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = workspace.visor("serve", str(archive), "--port", str(port), "--grpc-port", "0")
    assert done.returncode == 1
    assert "serve.port" in done.stderr
    assert str(port) in done.stderr


def test_missing_java_is_named(workspace: Workspace, archive: Path) -> None:
    done = workspace.visor("serve", str(archive), "--port", "0", env={"PATH": str(workspace.path), "JAVA_HOME": ""})
    assert done.returncode == 1
    assert "serve.java" in done.stderr
    assert "openjdk-17" in done.stderr


def test_a_changed_byte_is_refused_before_anything_starts(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(archive, tmp_path))
    shutil.copy(f"{archive}.sig", f"{copy}.sig")
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    done = workspace.visor("serve", str(copy), "--port", "0")
    assert done.returncode == 1
    assert "archive.refused" in done.stderr
    assert str(copy) in done.stderr


def test_an_archive_that_no_worker_can_load_says_why(workspace: Workspace, tmp_path: Path) -> None:
    run = copy_without_weights(workspace, tmp_path / "run")
    store = str(tmp_path / "store")
    broken = workspace.ok("archive", str(run), "--backend", "torch", "--store", store).strip().splitlines()[-1]
    done = workspace.visor("serve", broken, "--port", "0")
    assert done.returncode == 1
    assert "serve.failed" in done.stderr
    assert "model.safetensors does not fit" in done.stderr


@pytest.mark.usefixtures("archive")
def test_an_unknown_name_lists_the_known_ones(workspace: Workspace) -> None:
    done = workspace.visor("serve", "rofs")
    assert done.returncode == 1
    assert "store.missing" in done.stderr
    assert "digits" in done.stderr
