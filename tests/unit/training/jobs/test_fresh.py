"""A successor takes the place of a run, wherever on the way its process is killed."""

from contextlib import suppress
from pathlib import Path

import pytest

from handlers.errors import VisorError
from tests.unit.runs import make_run
from training import runs
from training.jobs import fresh
from training.jobs.archive import archive
from training.jobs.bound import bound
from training.jobs.compare import ComparePaths, compare
from training.jobs.evaluate import evaluate_run
from training.selection.comparison import Rule

OLD = {"model.xml": "old", "plots/old.png": "old", "notes.txt": "mine", "logs/train.log": "mine"}
NEW = {"plots/new.png": "new", "history.json": "[]"}


class Killed(BaseException):
    """What ends a process at once."""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    make_run(run, mlflow_run_id="old")
    write(run, OLD)
    return run


def files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def successor(run: Path) -> Path:
    folder = fresh.place(run, True, lambda _: False)
    make_run(folder, mlflow_run_id="new")
    write(folder, NEW)
    return folder


def test_the_run_is_whole_until_its_successor_is_finished(run: Path) -> None:
    before = files(run)
    folder = successor(run)
    assert {name: data for name, data in files(run).items() if not name.startswith(".fresh/")} == before
    assert runs.is_finished(run)
    new = files(folder)
    fresh.finish(folder, run)
    assert files(run) == {**new, "notes.txt": b"mine", "logs/train.log": b"mine"}
    assert runs.read_record(run).mlflow_run_id == "new"
    assert not list(run.glob(".fresh*"))


@pytest.mark.parametrize("operation", range(25))
def test_a_process_that_is_killed_leaves_the_rest_to_the_next(run: Path, operation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = successor(run)
    new = files(folder)
    done = 0

    def counted(name: str) -> None:
        whole = getattr(Path, name)

        def limited(path: Path, *given: object, **named: object) -> object:
            nonlocal done
            done += 1
            if done > operation:
                raise Killed
            return whole(path, *given, **named)

        patch.setattr(Path, name, limited)

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "unlink"):
            counted(name)
        try:
            fresh.finish(folder, run)
        except Killed:
            assert operation < 22
    if operation == 0:  # it was not finished yet: the old one stands
        assert runs.read_record(run).mlflow_run_id == "old"
        return
    # In between there is no run at all, rather than a part of each.
    assert not (run / runs.RECORD).exists() or runs.read_record(run).mlflow_run_id == ("old" if operation == 1 else "new")
    fresh.settle(run)
    assert files(run) == {**new, "notes.txt": b"mine", "logs/train.log": b"mine"}


def test_without_fresh_or_without_anything_to_lose_the_runs_own_folder_is_written_to(run: Path, tmp_path: Path) -> None:
    assert fresh.place(run, False, lambda _: True) == run
    assert fresh.place(tmp_path / "new", True, lambda _: True) == tmp_path / "new"


def test_an_interrupted_successor_goes_on_where_it_is_of_the_same_config(run: Path) -> None:
    folder = successor(run)
    assert fresh.place(run, True, lambda begun: begun == folder) == folder
    assert (folder / runs.RECORD).is_file()
    assert fresh.place(run, True, lambda _: False) == folder
    assert not folder.exists()


@pytest.mark.parametrize("stage", [fresh.DONE, fresh.MOVING])
def test_each_command_that_reads_a_run_ends_a_swap_that_was_killed(run: Path, stage: str, tmp_path: Path) -> None:
    places = ComparePaths(tmp_path, None, tmp_path / "visor.pub")
    for read in (
        lambda: archive(run, tmp_path / "store", tmp_path / "no.key"),
        lambda: evaluate_run(run),
        lambda: bound(run, None, 10, 0, tmp_path),
        lambda: compare([str(run)], None, places, Rule(), 0),
    ):
        successor(run).rename(run / stage)
        if stage == fresh.MOVING:
            runs.clear(run)
        with suppress(VisorError):  # as these runs are empty
            read()
        assert not list(run.glob(".fresh*"))
        assert runs.read_record(run).mlflow_run_id == "new"
