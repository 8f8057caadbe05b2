"""Saying how TorchServe ended, and what of its log is kept; running it is tests/integration's part."""

import asyncio
import io
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from visor.errors import MemoryShort
from visor.serving import cgroup, memory, torchserve
from visor.serving.launch import WorkerSettings
from visor.serving.ports import Ports

REACHED = "reached; raise it or lower the number of workers"


@pytest.mark.parametrize(
    ("returncode", "kills", "limit", "said"),
    [
        (-9, 1, 512 << 20, f"was killed (137, OOM): the memory limit of 512 MiB was {REACHED}"),
        (-9, 2, None, f"was killed (137, OOM): the memory limit was {REACHED}"),
        (-9, 0, 512 << 20, "was killed (137), by somebody or something else than its memory limit"),
        (-15, 0, None, "was ended by SIGTERM"),
        (-6, 1, None, "was ended by SIGABRT"),
        (3, 0, None, "ended with 3, as Java's heap was full"),
        (1, 1, 512 << 20, "ended with 1"),
    ],
)
def test_how_torchserve_ended_names_a_signal_and_its_reason(returncode: int, kills: int, limit: int | None, said: str) -> None:
    assert torchserve.how_ended(returncode, kills, limit) == said


def test_workers_are_as_given_or_as_cpus_and_archive_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = memory.ArchiveMemory(libraries=1, loaded=2, picture=3)
    monkeypatch.setattr(cgroup, "cpu_limit", lambda: 5)
    monkeypatch.setattr(cgroup, "memory_limit", lambda: None)
    assert torchserve.choose_workers(None, archive, None, 10.0) == WorkerSettings(5, 3, 10.0)
    assert torchserve.choose_workers(2, archive, 7, 20.0) == WorkerSettings(2, 7, 20.0)
    monkeypatch.setattr(cgroup, "memory_limit", lambda: 1)
    with pytest.raises(MemoryShort):
        torchserve.choose_workers(2, archive, 7, 20.0)


async def follow(text: bytes, forward: BinaryIO | None) -> torchserve.Server:
    """A server that has said this."""
    process = await asyncio.create_subprocess_exec("true")
    server = torchserve.Server(process, Ports(), Path("keys"), forward)
    output = asyncio.StreamReader()
    output.feed_data(text)
    output.feed_eof()
    await server.follow(output)
    await process.wait()
    return server


async def test_the_end_of_what_torchserve_says_is_kept_and_all_of_it_handed_on() -> None:
    lines = b"".join(b"line %d\n" % number for number in range(20_000))
    handed_on = io.BytesIO()
    server = await follow(lines, handed_on)
    assert handed_on.getvalue() == lines
    assert server.tail(2) == "line 19998\nline 19999"
    assert len(server.tail(20_000)) < torchserve.TAIL_BYTES
    assert "serve.ended: TorchServe ended with 0:\nline 19970\n" in str(server.ended_error())


async def test_torchserve_goes_on_when_nobody_reads_its_log_any_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as broken:
        server = await follow(b"first\nlast\n", broken)
    assert server.tail() == "first\nlast"
