"""The command line: a mistyped command is 2, an error of visor's is 1 with its code, and nothing is a traceback."""

import argparse
import errno
import inspect
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
import types
import unicodedata
from hashlib import sha256
from pathlib import Path

import pytest

import visor.commands
from archives import signing
from tests.unit.runs import make_record
from training import runs
from training.data.manifest import Manifest, Sample
from visor import cli
from visor.commands import serve


def parsers_of(parser: argparse.ArgumentParser, *names: str) -> dict[tuple[str, ...], argparse.ArgumentParser]:
    """The parsers of all commands and of their verbs, by the words that call them."""
    found = {names: parser} if names else {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, choice in action.choices.items():
                found |= parsers_of(choice, *names, name)
    return found


ROOT = Path(__file__).parents[3]
COMMANDS = parsers_of(cli.make_parser())
NAMES = [names[0] for names in COMMANDS if len(names) == 1]


def help_of(*command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        cli.main([*command, "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_help_lists_every_command_once_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(capsys=capsys)
    assert re.findall(r"^    ([a-z]+) +[A-Z]", shown, re.MULTILINE) == NAMES
    assert [module.__name__.rpartition(".")[2] for _, modules in cli.GROUPS for module in modules] == NAMES
    assert re.findall(r"^([a-z ]+):$", shown, re.MULTILINE)[-len(cli.GROUPS) :] == [title for title, _ in cli.GROUPS]


def test_every_module_of_a_command_is_in_a_group() -> None:
    modules = {module.name for module in pkgutil.iter_modules(visor.commands.__path__)}
    assert modules - {"arguments", "erase", "from_reviews"} == set(NAMES)  # the last two are verbs of data


@pytest.mark.parametrize("command", sorted({names[0] for names in COMMANDS if len(names) > 1}))
def test_help_lists_every_part_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(command, capsys=capsys)
    parts = [names[1] for names in COMMANDS if names[0] == command and len(names) == 2]
    assert [part for part in parts if not re.search(rf"^    {re.escape(part)} +[A-Z]", shown, re.MULTILINE)] == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_help(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert f"usage: visor {' '.join(command)} " in help_of(*command, capsys=capsys)


@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
def test_each_command_and_argument_is_explained(command: tuple[str, ...]) -> None:
    parser = COMMANDS[command] if command else cli.make_parser()
    assert re.fullmatch(r"[A-Z].{20,}\.", parser.description or "")
    unexplained = [action.dest for action in parser._actions if len((action.help or "").split()) < 4]
    assert unexplained == []


def test_the_parser_needs_no_heavy_library() -> None:
    code = """
import sys
import visor
assert not [name for name in sys.modules if name.startswith(("training", "archives", "handlers"))], "import visor"
import visor.cli
visor.cli.make_parser()
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("training.")} == {"training.errors", "training.settings"}
    assert loaded & {"torch", "mlflow", "numpy", "pydantic", "PIL", "matplotlib", "sklearn", "openvino", "starlette"} == set()


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
        ["bound", "runs/roofs", "--splits", "0"],
        ["compare", "runs/roofs", "--max-fnr", "5"],
        ["compare", "runs/roofs", "--max-fnr", "-0.1"],
        ["promote", "roofs", "--max-fnr", "nan"],
        ["promote", "roofs", "--max-latency-ms", "-1"],
        ["compare", "runs/roofs", "--max-latency-ms", "nan"],
        ["predict"],
        ["predict", "a.jpg", "--threshold", "high"],
        ["predict", "a.jpg", "--threshold", "1.5"],
        ["score", "roofs", "pictures", "--out", "x", "--threshold", "nan"],
        ["bound", "runs/roofs", "--seed", "-1"],
        ["bound", "runs/roofs", "--level", "1"],
        ["compare", "runs/roofs", "--seed", "-1"],
        ["promote", "roofs", "--seed", "x"],
        ["pipeline", "x.yaml", "--mlflow-wait-s", "nan"],
        ["pipeline", "x.yaml", "--run-wait-s", "-1"],
        ["register", "roofs", "--alias", "bad alias!"],
        ["register", "roofs", "--alias", "Latest"],
        ["pipeline", "x.yaml", "--alias", "v1"],
        ["register", "roofs", "--alias", ""],
    ],
)
def test_a_mistyped_command_is_an_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert "usage: visor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--verison"], "visor: error: unrecognized arguments: --verison; did you mean --version?"),
        (["-version"], "visor: error: unrecognized arguments: -version; did you mean --version?"),
        (["--xyz", "--verbose"], "visor: error: unrecognized arguments: --xyz"),
        (["audit", "--lables=x.csv"], "visor audit: error: unrecognized arguments: --lables=x.csv; did you mean --labels?"),
        (["audit", "--lab", "x.csv"], "visor audit: error: the following arguments are required: NAME|FILE, ANSWERS"),
        (["audit", "--", "--lables"], "visor audit: error: the following arguments are required: ANSWERS, --labels"),
    ],
)
def test_a_mistyped_flag_is_told_before_what_is_missing(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert capsys.readouterr().err.splitlines()[-1] == said


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (["trian"], "'pipeline'); did you mean train?"),
        (["serve", "roofs", "--request-log", "erorrs"], "(choose from 'none', 'errors', 'all'); did you mean errors?"),
        (["zzz"], "'pipeline')"),
        (["serve", "roofs", "--workers", "two"], "argument --workers: 'two' is no whole number"),
        (["bound", "run", "--confidence", "5%"], "argument --confidence: 5% is not a number above 0 and below 1"),
    ],
)
def test_a_mistyped_value_is_told_in_words_and_a_choice_with_the_nearest(
    arguments: list[str], end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert capsys.readouterr().err.splitlines()[-1].endswith(end)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere.yaml"], ["config.invalid", "nowhere.yaml"]),
        (["inspect", "nothing"], ["store.missing", "nothing"]),
        (["serve", "nothing.mar"], ["store.missing", "nothing.mar"]),
        (["archive", "nowhere"], ["run.invalid", "nowhere"]),
        (["archive", "config.yaml"], ["run.invalid: config.yaml is a file, ", "`visor train config.yaml`"]),
        (["archive", "roofs.mar"], ["run.invalid: roofs.mar is an archive, packed from a run already"]),
        (["archive", "run"], ["run.invalid: run has learnt nothing: no epoch was finished", "the same `visor train` command"]),
        (["archive", "run/run.json"], ["run.invalid: run/run.json is a file of a run", "the run's folder, run"]),
        (["inspect", "run/run.json"], ["store.missing: run/run.json is a file of the run run, which `visor archive run`"]),
        (["inspect", "config.yaml"], ["store.missing: config.yaml is no archive; of a config, `visor train`"]),
        (["score", "pictures", "roofs", "--out", "x"], ["store.missing: pictures is a folder that holds no archive", "before"]),
        (["data", "report", "run"], ["data.invalid: run is the folder of a run", "its config, run/config.yaml"]),
        (
            ["data", "verify", "pictures", "--manifest", "m.json"],
            ["data.changed: pictures has none of the files of m.json", "a/1"],
        ),
        (["serve", "roofs", "--port", "7", "--grpc-port", "7"], ["serve.port: REST and gRPC cannot both listen on port 7"]),
        (["evaluate", "nowhere"], ["run.invalid", "nowhere"]),
        (["data", "verify", ".", "--manifest", "nowhere.json"], ["data.invalid: nowhere.json is not there; name", "--manifest"]),
        (
            ["data", "verify", "pictures"],
            ["data.invalid: manifest.json is not there; name the data set's manifest by"],
        ),
        (["data", "verify", "pictures", "--manifest", "config.yaml"], ["config.yaml is empty, as where a copy was cut short"]),
        (["predict", "roofs.mar"], ["image.unreadable: roofs.mar is an archive and no image; `visor predict IMAGE --archive r"]),
        (
            ["predict", "kept", "x.jpg"],
            ["image.unreadable: kept is an archive and no image; `visor predict IMAGE --archive"],
        ),
        (["predict", "kept/1", "x.jpg"], ["image.unreadable: kept/1 is an archive"]),
        (["demo", "--data", "rofs"], ["demo.failed", "rofs"]),
    ],
)
def test_an_error_is_one_sentence_with_its_code(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("config.yaml", "roofs.mar", "pictures/b/2.png", "model-store/kept/1/kept.mar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "run").mkdir()
    runs.write_record(tmp_path / "run", make_record())
    Manifest(("a",), (Sample("a/1.png", 1, "0" * 64, "a", "train"),)).write(tmp_path / "m.json")
    assert cli.main(arguments) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("visor: ")
    assert all(word in shown for word in words)


def test_a_manifest_holds_for_files_whose_accents_are_spelt_in_another_way(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nfc, nfd = (unicodedata.normalize(form, "fêlé") for form in ("NFC", "NFD"))
    (tmp_path / nfd).mkdir()
    (tmp_path / nfd / "1.png").write_bytes(b"x")
    Manifest((nfc,), (Sample(f"{nfc}/1.png", 1, sha256(b"x").hexdigest(), nfc, "train"),)).write(tmp_path / "m.json")
    assert cli.main(["data", "verify", str(tmp_path), "--manifest", str(tmp_path / "m.json")]) == 0
    assert "all 1 image is as in" in capsys.readouterr().out


PLACES = {"home": "VISOR_HOME", "store": "VISOR_STORE", "key": "VISOR_KEY", "public_key": "VISOR_PUBLIC_KEY"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_environment_gives_the_places_that_no_flag_names(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for place, variable in PLACES.items():
        monkeypatch.setenv(variable, f"/mine/{place}")
    for action in parsers_of(cli.make_parser())[command]._actions:
        if action.dest in PLACES and not (command == ("predict",) and action.dest == "key"):  # which is of its TLS certificate
            assert action.default == Path(f"/mine/{action.dest}")
            assert f"default: the environment's {PLACES[action.dest]}, otherwise" in (action.help or "")


def test_the_public_key_lies_beside_the_private_one_and_so_do_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISOR_PUBLIC_KEY", raising=False)
    monkeypatch.setenv("VISOR_KEY", "/mine/prod.key")
    assert cli.parse_args(["inspect", "roofs"]).public_key == Path("/mine/prod.pub")
    assert cli.parse_args(["keys"]).out == Path("/mine")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/run.json"),
            "disk.full: no space is left for /x/run.json; free",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/from", None, "/x/to"),
            "disk.full: no space is left for /x/to; free",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk.full: no space is left for a file; free"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            "folder.unwritable: /x cannot be read or written: Permission",
        ),
        (
            FileExistsError(errno.EEXIST, "File exists", "/x/out"),
            "folder.unwritable: /x/out is a file where a folder is meant; name another place",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "/x/a.txt/out"),
            "folder.unwritable: /x/a.txt/out is, or lies below, a file where a folder is meant; name",
        ),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "/x/out.html"),
            "folder.unwritable: /x/out.html is a folder where a file is meant; name another place",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "/proc/none"),
            "folder.unwritable: /proc/none cannot be read",
        ),
    ],
)
def test_what_the_system_says_of_a_file_is_a_sentence(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "parse_args", lambda _: argparse.Namespace(run=work, verbose=False))
    assert cli.main([]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"visor: {said}")
    assert shown.count("\n") == 1


def test_an_error_of_a_connection_is_none_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_: argparse.Namespace) -> int:
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr(cli, "parse_args", lambda _: argparse.Namespace(run=work, verbose=False))
    with pytest.raises(ConnectionResetError):
        cli.main([])


def test_a_store_without_the_archive_is_named_from_the_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISOR_STORE", "elsewhere")
    assert cli.main(["inspect", "roofs"]) == 1
    assert f"{tmp_path}/elsewhere holds no archive named 'roofs' (there is no such folder)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "resumes", "begun", "said"),
    [
        (signal.SIGTERM, True, True, "visor: interrupted; the same command goes on from here\n"),
        (signal.SIGINT, True, True, "visor: interrupted; the same command goes on from here\n"),
        (signal.SIGTERM, True, False, "visor: interrupted\n"),
        (signal.SIGINT, False, False, "visor: interrupted\n"),
    ],
)
def test_a_signal_stops_a_command_in_order(
    number: signal.Signals,
    resumes: bool,
    begun: bool,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    closed: list[bool] = []

    def work(args: argparse.Namespace) -> int:
        args.begun = begun
        try:
            os.kill(os.getpid(), number)
            time.sleep(30)
        finally:
            closed.append(True)
        return 0

    monkeypatch.setattr(cli, "parse_args", lambda _: argparse.Namespace(run=work, verbose=False, resumes=resumes, begun=False))
    # A fresh process's, which neither a shell's background nor a fixture's event loop has left behind.
    before = {
        signal.SIGTERM: signal.getsignal(signal.SIGTERM),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    try:
        assert cli.main([]) == 130
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert closed == [True]
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("variable", ["VISOR_HOME", "VISOR_STORE", "VISOR_KEY", "VISOR_PUBLIC_KEY"])
def test_the_guide_s_flags_are_those_of_the_commands_that_read_the_environment(variable: str) -> None:
    row = next(line for line in (ROOT / "docs/guide.md").read_text().splitlines() if line.startswith(f"| `{variable}` |"))
    flag, *others = re.findall(r"`([\w-]+)`", row.split("|")[2])
    having = {
        " ".join(names)
        for names, parser in COMMANDS.items()
        for action in parser._actions
        if flag in action.option_strings and f"the environment's {variable}," in (action.help or "")
    }
    assert having
    if variable == "VISOR_KEY":  # which a command has that writes keys, too, by another flag
        *named, writing, out = others
        assert set(named) == having
        assert any(out in action.option_strings and variable in (action.help or "") for action in COMMANDS[(writing,)]._actions)


def test_the_commands_that_resume_are_those_that_say_so() -> None:
    resuming = {" ".join(names) for names, parser in COMMANDS.items() if parser.get_default("resumes")}
    assert resuming == {"data erase", "demo", "pipeline", "pretrain", "rollout start", "score", "search", "train"}
    for names, parser in COMMANDS.items():
        if parser.get_default("resumes"):
            assert re.search("resumes|the same command goes on", parser.description or ""), names
            assert "args.begun = " in inspect.getsource(parser.get_default("run")), names  # else it never says so


class _Interrupted(types.ModuleType):
    """A module whose import takes long enough to be interrupted."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("verb", "words"),
    [("train", "training digits, in home/digits"), ("pretrain", "pretraining digits, in home/digits-pretrain")],
)
def test_what_a_training_does_is_said_before_anything_slow(
    verb: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, f"training.jobs.{verb}", _Interrupted(verb))  # which imports torch
    with caplog.at_level("INFO"):
        assert cli.main([verb, str(ROOT / "training/configs/digits.yaml"), "--home", "home"]) == 130
    assert caplog.messages == [f"{words}: reading the images comes first"]


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("training.jobs.train", ("train", "CONFIG")),
        ("training.jobs.pretrain", ("pretrain", "CONFIG")),
        ("training.jobs.search", ("search", "CONFIG", "space.yaml", "--study", "s")),
    ],
)
def test_a_command_that_trains_goes_on_only_from_a_config_that_is_read(
    job: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The config is read before the job's module, which imports torch, and a stop before the job began has begun nothing."""

    def stop(*_: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, job, None)  # importing it raises
    given = ["nofile.yaml" if word == "CONFIG" else word for word in words]
    assert cli.main(given) == 1
    assert "config.invalid: nofile.yaml cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "space.yaml").write_text("parameters: {fit.batch_size: {type: int, low: 32, high: 64}}\n")
    given = [str(ROOT / "training/configs/digits.yaml") if word == "CONFIG" else word for word in words]
    monkeypatch.setitem(sys.modules, job, types.SimpleNamespace(**{words[0]: stop}))
    assert cli.main(given) == 130
    assert capsys.readouterr().err == "visor: interrupted; the same command goes on from here\n"
    monkeypatch.setitem(sys.modules, job, _Interrupted(job))
    assert cli.main(given) == 130  # in the seconds of the import, too
    assert capsys.readouterr().err == "visor: interrupted; the same command goes on from here\n"
    monkeypatch.setattr("training.config.load", stop)
    assert cli.main(given) == 130
    assert capsys.readouterr().err == "visor: interrupted\n"


def test_the_keys_command_makes_a_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "--out", str(tmp_path / "keys")]) == 0
    assert "visor.key" in capsys.readouterr().out
    assert cli.main(["keys", "--out", str(tmp_path / "keys")]) == 1
    assert "key.invalid" in capsys.readouterr().err


def test_a_passphrase_comes_from_a_file_or_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passphrase"
    file.write_text("of the file\r\nnot this\n")
    monkeypatch.setenv("VISOR_KEY_PASSPHRASE", "of the environment")
    for folder, given, passphrase in (("a", ["--passphrase-file", str(file)], "of the file"), ("b", [], "of the environment")):
        assert cli.main(["keys", "--out", str(tmp_path / folder), *given]) == 0
        assert "whoever has it and its passphrase can sign as you" in capsys.readouterr().out
        signing.check_private(tmp_path / folder / "visor.key", passphrase)
    for content, words in (
        (b"\nsecret", "is empty"),
        (b"\xff", "it is no UTF-8"),
        (None, "is not there; name a file whose first line"),
    ):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        assert cli.main(["keys", "--out", str(tmp_path / "c"), "--passphrase-file", str(file)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("visor: key.passphrase: ")
        assert words in said
        if content is None:
            file.write_text("")


def test_grpc_has_a_free_port_where_rest_has_one() -> None:
    assert serve.grpc_port(cli.parse_args(["serve", "roofs"])) == 8081
    assert serve.grpc_port(cli.parse_args(["serve", "roofs", "--port", "0"])) == 0
    assert serve.grpc_port(cli.parse_args(["serve", "roofs", "--port", "0", "--grpc-port", "9000"])) == 9000
    assert serve.grpc_port(cli.parse_args(["serve", "roofs", "--port", "9000", "--grpc-port", "0"])) == 0


@pytest.mark.parametrize("command", ["serve", "score", "register", "inspect", "predict"])
def test_a_digest_is_a_whole_sha256(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"score": ["images", "--out", "scores"]}.get(command, [])
    assert cli.parse_args([command, "roofs", *more, "--digest", "0a" * 32]).digest == "0a" * 32
    for text in ("0a" * 31, "0A" * 32, "sha256:" + "0a" * 32, "", "0a" * 32 + "\n"):
        with pytest.raises(SystemExit, match="2"):
            cli.parse_args([command, "roofs", *more, "--digest", text])
        assert f"{text!r} is not a SHA-256" in capsys.readouterr().err


def test_every_number_has_limits() -> None:
    """No flag takes whatever Python does: infinity, no number at all, or a seed below 0, of which generators make a traceback."""
    unbounded = [
        (command, action.dest)
        for command, parser in COMMANDS.items()
        for action in parser._actions
        if action.type in {int, float}
    ]
    assert unbounded == []


@pytest.mark.parametrize("text", ["champion", "none", "v1a", "Best-of_2026"])
def test_an_alias_is_one_that_mlflow_takes(text: str) -> None:
    from mlflow.utils.validation import _validate_model_alias_name, _validate_model_alias_name_reserved

    assert cli.parse_args(["register", "roofs", "--alias", text]).alias == text
    _validate_model_alias_name(text)
    _validate_model_alias_name_reserved(text)


@pytest.mark.parametrize("command", ["compare", "promote"])
def test_a_limit_on_missed_images_is_a_share(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("0", "0.05", "1"):
        assert cli.parse_args([command, "roofs", "--max-fnr", text]).max_fnr == float(text)
    for text in ("5", "-1", "nan", "inf"):
        with pytest.raises(SystemExit, match="2"):
            cli.parse_args([command, "roofs", "--max-fnr", text])
        assert f"argument --max-fnr: {text} is not a number from 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["s.csv", "s.JSON"])
def test_scores_are_not_written_into_a_folder_that_was_meant_as_a_table(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["score", "roofs", str(tmp_path), "--out", str(tmp_path / name)]) == 1
    assert f"score.failed: {tmp_path / name} is to be of a kind that is not written; name a folder" in capsys.readouterr().err
    assert not (tmp_path / name).exists()
