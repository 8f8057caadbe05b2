"""Waiting for the archive that another container verifies."""

import asyncio
import logging
import os
import signal
import subprocess
import sys

import pytest

from archives.errors import ArchiveAmbiguous
from transformer import waiting as archive
from transformer.__main__ import main
from transformer.waiting import wait_for_archive


@pytest.fixture(autouse=True)
def said(caplog):
    caplog.set_level(logging.INFO)
    return caplog


async def test_an_archive_that_is_there_is_taken_without_a_word(tmp_path, said):
    (tmp_path / "roofs.mar").touch()
    (tmp_path / "roofs.mar.sig").touch()
    assert await wait_for_archive(tmp_path, asyncio.Event()) == tmp_path / "roofs.mar"
    assert not said.messages


async def test_the_folder_may_come_later(tmp_path, said, monkeypatch):
    monkeypatch.setattr(archive, "REMIND_S", 0.3)
    waiting = asyncio.create_task(wait_for_archive(tmp_path / "archive", asyncio.Event()))
    await asyncio.sleep(0.5)
    assert set(said.messages) == {f"waiting for the verified archive in {tmp_path / 'archive'}"}
    assert 2 <= len(said.messages) <= 3
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "roofs.mar").touch()
    (tmp_path / "new").rename(tmp_path / "archive")
    async with asyncio.timeout(5):
        assert await waiting == tmp_path / "archive" / "roofs.mar"


async def test_stopped_it_waits_no_longer(tmp_path):
    stop = asyncio.Event()
    waiting = asyncio.create_task(wait_for_archive(tmp_path, stop))
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(0.1):
        assert await waiting is None


def test_several_archives_are_an_error_that_names_them(tmp_path, said):
    for name in ("b.mar", "a.mar"):
        (tmp_path / name).touch()
    with pytest.raises(ArchiveAmbiguous, match=r"^archive\.ambiguous: 2 archives lie in .*\(a\.mar, b\.mar\)"):
        asyncio.run(wait_for_archive(tmp_path, asyncio.Event()))
    assert main(["--archive", str(tmp_path)]) == 1
    assert "archive.ambiguous" in said.text


async def test_sigterm_while_it_waits_is_a_clean_end(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transformer", "--archive", str(tmp_path / "archive")),
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    line = (await process.stderr.readline()).decode()
    process.send_signal(signal.SIGTERM)
    _, rest = await process.communicate()
    assert "waiting for the verified archive" in line
    assert (process.returncode, rest) == (0, b"")
