"""The help of the load tests' commands, read from the sources: some of them import torch or locust."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests import options

ROOT = Path(options.__file__).parent


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a function or method of one of these names, with its place."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def lacks(keyword: str, call: ast.Call) -> bool:
    return keyword not in {given.arg for given in call.keywords}


def test_every_argument_has_a_help_text() -> None:
    found = list(calls("add_argument"))
    assert len(found) > 30
    assert [place for place, call in found if lacks("help", call)] == []


def test_every_command_has_a_description() -> None:
    found = list(calls("ArgumentParser", "_Parser"))
    assert len(found) > 5
    assert [place for place, call in found if lacks("description", call)] == []


def test_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        options.parse_options(["--help"])
    assert left.value.code == 0
    assert "Exit codes: 0 the SLO is met" in capsys.readouterr().out
