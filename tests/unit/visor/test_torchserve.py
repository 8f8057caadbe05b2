"""Finding Java, counting CPUs and writing TorchServe's configuration; running it is tests/integration's part."""

import asyncio
import os
from pathlib import Path

import pytest

from visor import torchserve
from visor.errors import JavaMissing


def fake_java(folder: Path, version: str) -> Path:
    """An executable that answers -version as a Java of that version does."""
    path = folder / "java"
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n")
    path.chmod(0o755)
    return path


def test_java_17_or_newer_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for version in ("17.0.15", "21"):
        java = fake_java(tmp_path, version)
        assert torchserve.find_java() == str(java)


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_292", "no number"])
def test_an_older_java_is_refused_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fake_java(tmp_path, version)
    with pytest.raises(JavaMissing, match=r"is not Java 17 or newer.*openjdk-17-jre-headless"):
        torchserve.find_java()


def test_java_home_goes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(JavaMissing, match=f"JAVA_HOME={tmp_path}"):
        torchserve.find_java()
    java = fake_java(tmp_path / "bin", "17")
    assert torchserve.find_java() == str(java)


def test_no_java_at_all_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaMissing, match=r"no java on the PATH; install Java 17"):
        torchserve.find_java()


@pytest.mark.parametrize(
    ("cpu_max", "cores", "expected"),
    [("max 100000", 4, 4), ("200000 100000", 4, 2), ("50000 100000", 4, 1), ("800000 100000", 4, 4), ("", 3, 3)],
)
def test_the_cgroup_limits_the_workers(cpu_max: str, cores: int, expected: int, tmp_path: Path) -> None:
    path = tmp_path / "cpu.max"
    if cpu_max:
        path.write_text(cpu_max + "\n")
    assert torchserve.limited(cores, path) == expected


def test_the_limit_of_this_machine_is_within_its_cores() -> None:
    assert 1 <= torchserve.cpu_limit() <= (os.cpu_count() or 1)


def test_free_ports_are_distinct_and_can_be_bound() -> None:
    ports = torchserve.free_ports(8)
    assert len(set(ports)) == 8

    async def bind_all() -> None:
        servers = [await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", port) for port in ports]
        for server in servers:
            server.close()
            await server.wait_closed()

    asyncio.run(bind_all())


def test_the_tail_of_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert torchserve.log_tail(tmp_path) == ""
    (tmp_path / "torchserve.log").write_text("a\nb\nc\n")
    assert torchserve.log_tail(tmp_path, 2) == "b\nc"
