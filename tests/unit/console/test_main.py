"""`python -m console migrate`, as the chart's init container runs it."""

import sqlite3
from pathlib import Path

import pytest

from console.__main__ import main


def tables(file: Path) -> set[str]:
    with sqlite3.connect(file) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_it_makes_the_tables_and_leaves_those_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISOR_CONSOLE_FOLDER", str(tmp_path / "data"))
    file = tmp_path / "data/console.db"
    for _ in range(2):
        assert main(["migrate"]) == 0
        assert {"alembic_version", "secrets"} <= tables(file)
    with sqlite3.connect(file) as connection:
        [(before,)] = connection.execute("SELECT count(*) FROM secrets")
    assert main(["migrate"]) == 0
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM secrets").fetchall() == [(before,)]


def test_tables_of_a_newer_console_are_refused_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "console.db"
    database = f"--database=sqlite:///{file}"
    assert main(["migrate", database]) == 0
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert main(["migrate", database]) == 1
    assert "is of another version of the console" in capsys.readouterr().err
