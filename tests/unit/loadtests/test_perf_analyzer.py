"""perf_analyzer's runner, as far as it needs no download."""

import base64
import json
from pathlib import Path

import pytest

from loadtests import perf_analyzer
from loadtests.errors import ProgramMissing
from loadtests.perf_analyzer import input_data, main, program


def test_a_picture_goes_behind_its_length() -> None:
    """Four bytes, little-endian, as an element of BYTES has it on the wire."""
    [first, second] = input_data([b"ab", b"x" * 258])["data"]  # type: ignore[misc]
    assert first["image"]["shape"] == [1]
    assert base64.b64decode(first["image"]["content"]["b64"]) == b"\x02\0\0\0ab"
    assert base64.b64decode(second["image"]["content"]["b64"])[:4] == b"\x02\x01\0\0"


@pytest.mark.parametrize(("library", "version", "expected"), [("glibc", "2.36", False), ("glibc", "2.38", True), ("", "", False)])
def test_an_older_glibc_needs_debians(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, version: str, expected: bool
) -> None:
    binary = tmp_path / "wheel/perf_analyzer/bin/perf_analyzer"
    loader = tmp_path / "debian/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    for file in (binary, loader):
        file.parent.mkdir(parents=True)
        file.touch()
    monkeypatch.setattr("platform.libc_ver", lambda: (library, version))
    through = [] if expected else [str(loader), "--library-path", str(loader.parent)]
    assert program(tmp_path) == [*through, str(binary)]


def test_flags_are_handed_on_with_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = tmp_path / "echo"
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$(dirname "$0")/seen"\ncat "$6" >"$(dirname "$0")/data"\nexit 99\n')
    echo.chmod(0o755)
    monkeypatch.setattr(perf_analyzer, "program", lambda _: [str(echo)])
    picture = tmp_path / "a.png"
    picture.write_bytes(b"ab")
    assert main(["--picture", str(picture), "-m", "roofs", "-i", "grpc"]) == 99
    seen = (tmp_path / "seen").read_text().split("\n")
    assert seen[:5] == ["-m", "roofs", "-i", "grpc", "--input-data"]
    assert seen[6:8] == ["--shape", "image:1"]
    assert json.loads((tmp_path / "data").read_text()) == input_data([b"ab"])


def test_what_cannot_be_had_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_: Path) -> list[str]:
        raise ProgramMissing("apt-get is not here")

    monkeypatch.setattr(perf_analyzer, "program", missing)
    assert main(["--home", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "loadtest.program: apt-get is not here\n"
