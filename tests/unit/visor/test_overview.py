"""`visor list`: runs in every state, archives, and aliases as MLflow itself wrote them."""

import json
import sqlite3
from pathlib import Path

import pytest

from archives import signing
from tests.unit.archives.crafted import put
from tests.unit.runs import make_record, make_run
from training import runs
from visor import cli
from visor.overview import _archives, _newest_aliased, overview, registered_aliases

METRICS = {
    "accuracy": 0.875,
    "decision": {"fnr": 0.25, "expected_cost": 0.75, "expected_cost_with_review": 0.5},
    "macro": {"f1": 0.7},
}


def name_it(run: Path, name: str) -> None:
    (run / "config.yaml").write_text(f"name: {name}\n")
    (run / "manifest.json").write_text(json.dumps({"labels": ["ill", "well"]}))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "home"
    make_run(home / "good", mlflow_run_id="good")
    (home / "good" / "metrics.json").write_text(json.dumps(METRICS))
    make_run(home / "fitted", model_version=None)
    (home / "fitted" / "metrics.json").unlink()
    make_run(home / "begun", model_version=None, weights_digest=None)
    (home / "begun" / "checkpoint.pt").write_bytes(b"")  # the history is written at a fit's end
    (home / "failed").mkdir()
    runs.write_record(home / "failed", make_record())
    make_run(home / "backbone", job="pretrain", model_version=None)
    for run in ("good", "fitted", "begun", "failed", "backbone"):
        name_it(home / run, f"{run}-name")
    make_run(home / "broken")
    (home / "broken" / "run.json").write_text("{")
    (home / "cache").mkdir()
    with sqlite3.connect(home / "mlflow.db") as database:  # MLflow's own tables: tests/integration/test_train.py
        database.execute("CREATE TABLE registered_model_aliases (alias TEXT, name TEXT, version INTEGER)")
        database.execute("CREATE TABLE model_versions (name TEXT, version INTEGER, run_id TEXT)")
        database.execute("INSERT INTO model_versions VALUES ('good-name', 1, 'good')")
        database.execute(
            "INSERT INTO registered_model_aliases VALUES ('champion', 'good-name', 1), ('candidate', 'good-name', 1)"
        )
    database.close()
    return home


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    put(store, signing.make_keys(tmp_path / "keys")[0])
    (store / "tiny" / "2").mkdir()
    (store / "tiny" / "2" / "tiny.mar").write_bytes(b"not an archive")
    return store


def test_each_run_is_listed_in_its_state_and_each_archive(home: Path, store: Path) -> None:
    found = {Path(one.path).name: one for one in overview(home, store) if one.kind == "run"}
    assert {name: one.state for name, one in found.items()} == {
        "good": "finished",
        "fitted": "fitted",
        "begun": "begun",
        "failed": "begun",
        "backbone": "finished",
        "broken": "unreadable",
    }
    good = found["good"]
    assert (good.name, good.labels, good.aliases) == ("good-name", ("ill", "well"), ("candidate", "champion"))
    assert good.figures == {"accuracy": 0.875, "fnr": 0.25, "expected_cost_with_review": 0.5}
    assert found["begun"].what == "train, not finished; the same command goes on"
    assert found["failed"].what.startswith("train, no epoch was finished; it failed,")
    archives = [one for one in overview(home, store) if one.kind == "archive"]
    assert [(one.name, one.version, one.state) for one in archives] == [("tiny", "1", "archived"), ("tiny", "2", "unreadable")]
    assert archives[0].labels == ("a", "b", "c")


def test_the_list_is_text_or_json(home: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--home", str(home), "--store", str(store)]
    assert cli.main(["list", *places]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["RUN", "OR", "ARCHIVE", "WHEN", "(UTC)"]
    assert len(lines) == 8
    [line] = [line for line in lines if line.startswith(f"{home}/good ")]
    wanted = "finished 0.8750 0.2500 0.5000 2: ill, well @candidate @champion 0 epochs, version 1 of good-name"
    assert line.split()[3:] == wanted.split()
    assert cli.main(["list", "--json", *places]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["kind"] for one in listed} == {"run", "archive"}
    assert next(one for one in listed if one["path"] == f"{home}/good")["figures"]["accuracy"] == 0.875


def test_where_nothing_is_the_places_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["list", "--home", "runs", "--store", "model-store"]) == 0
    assert f"no run in {tmp_path}/runs, no archive in {tmp_path}/model-store" in capsys.readouterr().out


def test_a_place_that_somebody_named_and_is_not_there_is_an_error(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["list", "--home", str(tmp_path / "nope"), "--store", "model-store"]) == 1
    assert f"visor: run.invalid: {tmp_path}/nope is no folder; name another by --home or VISOR_HOME" in capsys.readouterr().err
    assert cli.main(["list", "--home", str(home), "--store", str(tmp_path / "nope")]) == 1
    assert (
        f"visor: store.missing: {tmp_path}/nope is no folder; name another by --store or VISOR_STORE" in capsys.readouterr().err
    )


def test_another_server_or_a_broken_database_gives_no_alias(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert registered_aliases(home / "mlflow.db") == {"good": ("candidate", "champion")}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert registered_aliases(home / "mlflow.db") == {}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (home / "mlflow.db").write_bytes(b"nothing" * 500)
    assert registered_aliases(home / "mlflow.db") == {}


def test_of_several_archives_of_a_run_the_newest_alone_has_its_aliases(tmp_path: Path) -> None:
    """One version of the registry may be packed again, by another backend: only one of them is what was registered last."""
    private = signing.make_keys(tmp_path / "keys")[0]
    for version in ("9", "10", "2"):
        put(tmp_path / "store", private, version=version)
    put(tmp_path / "store", private, name="other")
    found = overview(tmp_path / "none", tmp_path / "store")
    run_ids = {one.run_id for one in found}
    assert len(run_ids) == 1  # of crafted archives, also of those of another name
    [run_id] = run_ids
    listed = list(_archives(tmp_path / "store", {str(run_id): ("champion",)}))
    assert all(one.aliases == ("champion",) for one in listed)
    assert [(one.version, one.aliases) for one in _newest_aliased(listed) if one.name == "tiny"] == [
        ("2", ()),
        ("9", ()),
        ("10", ("champion",)),
    ]
