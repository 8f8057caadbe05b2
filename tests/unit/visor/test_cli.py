"""The command line: a mistyped command is 2, an error of visor's is 1 with its code, and nothing is a traceback."""

from pathlib import Path

import pytest

from visor import cli

COMMANDS = [
    "data",
    "train",
    "evaluate",
    "keys",
    "archive",
    "inspect",
    "register",
    "pipeline",
    "serve",
    "predict",
    "demo",
    "score",
    "search",
    "compare",
    "promote",
]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert [command for command in COMMANDS if command in shown] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    assert f"visor {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["trian"],
        ["train"],
        ["train", "x.yaml", "--frsh"],
        ["serve", "roofs", "--port", "70000"],
        ["archive", "runs/roofs", "--backend", "onnx"],
        ["serve", "roofs", "--port", "x"],
        ["serve", "roofs", "--workers", "0"],
        ["predict"],
        ["predict", "a.jpg", "--threshold", "high"],
    ],
)
def test_a_mistyped_command_is_an_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert "usage: visor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere.yaml"], ["config.invalid", "nowhere.yaml"]),
        (["inspect", "nothing"], ["store.missing", "nothing"]),
        (["serve", "nothing.mar"], ["store.missing", "nothing.mar"]),
        (["archive", "nowhere"], ["run.invalid", "nowhere"]),
        (["evaluate", "nowhere"], ["run.invalid", "nowhere"]),
        (["data", "verify", ".", "--manifest", "nowhere.json"], ["data.", "nowhere.json"]),
        (["demo", "--data", "rofs"], ["demo.failed", "rofs"]),
    ],
)
def test_an_error_is_one_sentence_with_its_code(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("visor: ")
    assert all(word in shown for word in words)


def test_the_keys_command_makes_a_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "--out", str(tmp_path / "keys")]) == 0
    assert "visor.key" in capsys.readouterr().out
    assert cli.main(["keys", "--out", str(tmp_path / "keys")]) == 1
    assert "key.invalid" in capsys.readouterr().err


def test_grpc_has_a_free_port_where_rest_has_one() -> None:
    assert cli.grpc_port(cli.parse_args(["serve", "roofs"])) == 8081
    assert cli.grpc_port(cli.parse_args(["serve", "roofs", "--port", "0"])) == 0
    assert cli.grpc_port(cli.parse_args(["serve", "roofs", "--port", "0", "--grpc-port", "9000"])) == 9000
    assert cli.grpc_port(cli.parse_args(["serve", "roofs", "--port", "9000", "--grpc-port", "0"])) == 0
