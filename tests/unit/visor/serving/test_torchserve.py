"""Finding Java, saying how TorchServe ended and writing TorchServe's configuration; running it is tests/integration's part."""

import asyncio
import io
import os
import socket
from pathlib import Path
from typing import BinaryIO

import pytest

from visor.errors import JavaMissing, MemoryShort, ServeError
from visor.serving import cgroup, memory, torchserve

REACHED = "reached; raise it or lower the number of workers"


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
    assert torchserve.choose_workers(None, archive, None, 10.0) == torchserve.WorkerSettings(5, 3, 10.0)
    assert torchserve.choose_workers(2, archive, 7, 20.0) == torchserve.WorkerSettings(2, 7, 20.0)
    monkeypatch.setattr(cgroup, "memory_limit", lambda: 1)
    with pytest.raises(MemoryShort):
        torchserve.choose_workers(2, archive, 7, 20.0)


def test_free_ports_are_distinct_and_can_be_bound() -> None:
    ports = torchserve.free_ports(8)
    assert len(set(ports)) == 8
    assert not set(ports) & set(torchserve.free_ports(8))
    first, _last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert max(ports) < first

    async def bind_all() -> None:
        servers = [await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", port) for port in ports]
        for server in servers:
            server.close()
            await server.wait_closed()

    asyncio.run(bind_all())


def test_a_port_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(torchserve, "UNASSIGNED", range(port, port + 1))
        with pytest.raises(ServeError, match=str(port)):
            torchserve.free_ports(1)


def test_ports_are_a_pods_own_or_free_ones() -> None:
    assert torchserve.Ports() == torchserve.Ports(inference=8085, management=8086, metrics=8082)
    free = torchserve.Ports.free()
    assert len({free.inference, free.management, free.metrics}) == 3


def test_properties_are_lines_as_java_reads_them() -> None:
    values = {"load_models": "roofs.mar", "default_workers_per_model": 2, "inference_address": "http://127.0.0.1:8085"}
    written = "load_models=roofs.mar\ndefault_workers_per_model=2\ninference_address=http://127.0.0.1:8085\n"
    assert torchserve.properties(values) == written


@pytest.mark.parametrize("value", ["", "a\nb", "a\rb", "a\\u002fb", "a b", "a\0b", "a=b", "a\u2028b", "#a", "!a", "ä"])
def test_a_value_that_java_would_read_as_another_is_refused(value: str) -> None:
    with pytest.raises(ServeError, match=r"TorchServe's setting load_models cannot be"):
        torchserve.properties({"load_models": value})


async def follow(text: bytes, forward: BinaryIO | None) -> torchserve.Server:
    """A server that has said this."""
    process = await asyncio.create_subprocess_exec("true")
    server = torchserve.Server(process, torchserve.Ports(), Path("keys"), forward)
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


def test_torchserves_folder_is_its_own_but_for_the_worker(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    (site / "ts" / "configs").mkdir(parents=True)
    (site / "ts" / "configs" / "metrics.yaml").write_text("metrics")
    (site / "ts" / "version.txt").write_text("0.12.0")
    home = torchserve.server_home(site, tmp_path / "server")
    assert sorted(path.name for path in (home / "ts").iterdir()) == ["configs", "model_service_worker.py", "version.txt"]
    assert (home / "ts" / "configs" / "metrics.yaml").read_text() == "metrics"
    worker = home / "ts" / "model_service_worker.py"
    assert worker.read_bytes() == Path(torchserve.__file__).with_name("worker.py").read_bytes()
    assert not worker.is_symlink()


def test_a_folder_whose_sockets_would_have_too_long_a_path_is_refused_with_what_to_do() -> None:
    longest = Path("/" + "x" * (torchserve.SOCKET_BYTES - len("//workers/4194304")))
    torchserve.check_length(longest)
    with pytest.raises(ServeError, match=r"too long a path for Unix sockets.*set TMPDIR.*2 bytes shorter"):
        torchserve.check_length(Path(f"{longest}yy"))
