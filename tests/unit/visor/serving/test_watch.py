"""Who watches workers: those that answer are left alone, those that do not are killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from visor.serving import cgroup, watch
from visor.serving.worker import LENGTHS

HANG_S = 0.2


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What would have been killed: the workers here are this process."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: killed.append((process, number)))
    monkeypatch.setattr(watch, "LOOK_S", 0.02)
    monkeypatch.setattr(watch, "PING_S", 0.02)
    return killed


@asynccontextmanager
async def worker(folder: Path, answers: int) -> AsyncIterator[list[bytes]]:
    """One that answers so often, and then hangs."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while question := await reader.read(100):
            asked.append(question)
            if len(asked) <= answers:
                writer.write(LENGTHS.pack(200, 0))
        writer.close()

    async with await asyncio.start_unix_server(answer, folder / "1"):
        yield asked


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.watch_workers(folder, HANG_S))
    yield
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_worker_that_answers_is_left_alone(tmp_path: Path, kills: list[tuple[int, int]]) -> None:
    async with worker(tmp_path, answers=10**6) as asked, watching(tmp_path):
        await asyncio.sleep(2 * HANG_S)
    assert len(asked) > 2
    assert set(asked) == {LENGTHS.pack(0, 0)}
    assert kills == []


async def test_a_worker_that_hangs_is_killed(
    tmp_path: Path, kills: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(tmp_path, answers=2), watching(tmp_path), asyncio.timeout(5):
        while not kills:
            await asyncio.sleep(0.01)
    assert kills[0] == (os.getpid(), signal.SIGKILL)
    assert f"worker {os.getpid()} has not answered for 0.2 s and is killed" in caplog.text


async def test_what_a_worker_left_and_one_that_ends_are_no_trouble(tmp_path: Path, kills: list[tuple[int, int]]) -> None:
    (tmp_path / "9").touch()
    async with watching(tmp_path):
        async with worker(tmp_path, answers=10**6) as asked:
            while not asked:
                await asyncio.sleep(0.01)
        await asyncio.sleep(2 * HANG_S)
    assert kills == []


async def test_the_kernel_s_kills_are_said_once(
    tmp_path: Path, kills: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counts = iter([3, 3, 4])
    monkeypatch.setattr(cgroup, "oom_kills", lambda: next(counts, 4))
    async with watching(tmp_path):
        await asyncio.sleep(HANG_S)
    assert [line for line in caplog.messages if line.startswith("serve.memory: the memory limit is reached")] == caplog.messages
    assert len(caplog.messages) == 1
    assert kills == []
