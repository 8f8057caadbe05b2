"""The command line, the pictures, the machine and the processes of a bench."""

import io
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from loadtests.bench.__main__ import main, parse_args
from loadtests.bench.machine import describe
from loadtests.bench.pictures import photo, photos
from loadtests.bench.processes import cpu_seconds, memory_bytes, stop, tree
from loadtests.errors import FlagsWrong
from loadtests.peers.environment import peer_names

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
sum(range(5_000_000))
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--servers", "visor,tritn"], "'tritn' is none of visor"),
        (["--rounds", "0"], "--rounds 0 is not within 1 and 20"),
        (["--workers", "65"], "--workers 65 is not within 1 and 64"),
        (["--network", "alexnet"], "alexnet"),
        (["--fast"], "--fast"),
    ],
)
def test_a_mistyped_flag_is_an_error(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FlagsWrong, match=said):
        parse_args(flags)
    assert main(flags) == 2
    assert "loadtest.flags" in capsys.readouterr().err


def test_an_archive_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--archive", str(tmp_path / "no.mar"), "--public-key", str(tmp_path / "no.pub")]) == 2
    assert "loadtests.bench: " in capsys.readouterr().err


def test_bare_is_always_in_and_a_server_only_once() -> None:
    assert parse_args(["--servers", "kserve,bare,visor,kserve"]).servers == ["kserve", "visor"]


def test_every_peer_can_be_compared_but_the_one_for_conformance() -> None:
    compared = set(parse_args([]).servers) - {"visor"}
    assert compared == set(peer_names()) - {"torchserve"}


def test_pictures_are_the_same_every_time_and_of_the_stated_size() -> None:
    first, *others = photos()
    assert first == photo(0)
    assert first not in others
    assert Image.open(io.BytesIO(first)).size == (512, 384)
    assert 46_000 < len(first) < 50_000
    assert Image.open(io.BytesIO(photo(0, 224, 100))).size == (224, 100)


def test_the_machine_is_named_with_versions() -> None:
    described = describe(["pillow"])
    assert int(described["cores"]) >= 1
    assert described["pillow"].count(".") == 2
    assert described["kernel"]


def test_a_process_is_measured_and_ended_with_all_that_it_started() -> None:
    process = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    family = tree(process.pid)
    assert {one.pid for one in family} == {process.pid, child.pid}
    deadline = time.monotonic() + 30
    while cpu_seconds(family) < 0.05 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cpu_seconds(family) >= 0.05
    assert memory_bytes(family) > 1_000_000
    stop(process)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert tree(process.pid) == []
    assert (cpu_seconds(family), memory_bytes(family)) == (0.0, 0)
