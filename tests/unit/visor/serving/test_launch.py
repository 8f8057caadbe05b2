"""Finding Java, and what TorchServe is started with; starting it is tests/integration's part."""

import os
from pathlib import Path

import pytest

from visor.errors import JavaMissing, ServeError
from visor.serving import launch


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
        assert launch.find_java() == str(java)


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_292", "no number"])
def test_an_older_java_is_refused_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fake_java(tmp_path, version)
    with pytest.raises(JavaMissing, match=r"is not Java 17 or newer.*openjdk-17-jre-headless"):
        launch.find_java()


def test_java_home_goes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(JavaMissing, match=f"JAVA_HOME={tmp_path}"):
        launch.find_java()
    java = fake_java(tmp_path / "bin", "17")
    assert launch.find_java() == str(java)


def test_no_java_at_all_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaMissing, match=r"no java on the PATH; install Java 17"):
        launch.find_java()


def test_properties_are_lines_as_java_reads_them() -> None:
    values = {"load_models": "roofs.mar", "default_workers_per_model": 2, "inference_address": "http://127.0.0.1:8085"}
    written = "load_models=roofs.mar\ndefault_workers_per_model=2\ninference_address=http://127.0.0.1:8085\n"
    assert launch.properties(values) == written


@pytest.mark.parametrize("value", ["", "a\nb", "a\rb", "a\\u002fb", "a b", "a\0b", "a=b", "a\u2028b", "#a", "!a", "ä"])
def test_a_value_that_java_would_read_as_another_is_refused(value: str) -> None:
    with pytest.raises(ServeError, match=r"TorchServe's setting load_models cannot be"):
        launch.properties({"load_models": value})


def test_torchserves_folder_is_its_own_but_for_the_worker(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    (site / "ts" / "configs").mkdir(parents=True)
    (site / "ts" / "configs" / "metrics.yaml").write_text("metrics")
    (site / "ts" / "version.txt").write_text("0.12.0")
    home = launch.server_home(site, tmp_path / "server")
    assert sorted(path.name for path in (home / "ts").iterdir()) == ["configs", "model_service_worker.py", "version.txt"]
    assert (home / "ts" / "configs" / "metrics.yaml").read_text() == "metrics"
    worker = home / "ts" / "model_service_worker.py"
    assert worker.read_bytes() == Path(launch.__file__).with_name("worker.py").read_bytes()
    assert not worker.is_symlink()


def test_a_folder_whose_sockets_would_have_too_long_a_path_is_refused_with_what_to_do() -> None:
    longest = Path("/" + "x" * (launch.SOCKET_BYTES - len("//workers/4194304")))
    launch.check_length(longest)
    with pytest.raises(ServeError, match=r"too long a path for Unix sockets.*set TMPDIR.*2 bytes shorter"):
        launch.check_length(Path(f"{longest}yy"))
