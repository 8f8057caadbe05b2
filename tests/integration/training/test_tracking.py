import getpass
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from training import trouble
from training.errors import (
    RunError,
    TrackingDeleted,
    TrackingForeign,
    TrackingOutdated,
    TrackingUnreachable,
    TrackingUnsupported,
)
from training.tracking import About, Tracker

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tracker(home):
    """The real SQLite store; making its tables takes seconds, so the tests of this module share it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Tracker.open(home)


def start(tracker, experiment="roofs", run_id=None):
    with tracker.running(experiment, run_id) as started:
        return started


def test_the_embedded_store_is_a_file_under_home(tracker, home):
    assert tracker.uri == f"sqlite:///{home}/mlflow.db"
    run = tracker.client.get_run(start(tracker))
    assert (home / "mlflow.db").is_file()
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith((home / "mlartifacts").as_uri())
    assert tracker.client.get_experiment(run.info.experiment_id).name == "roofs"
    assert tracker.look == f"MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri sqlite:///{home}/mlflow.db"


def test_of_making_the_store_one_line_is_said(tmp_path):
    # In a process of its own: MLflow sets up its logging when it is first imported.
    script = f"from pathlib import Path; from training.tracking import Tracker; Tracker.open(Path({str(tmp_path)!r}))"
    code = f"import logging; logging.basicConfig(level=logging.INFO); {script}"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert (tmp_path / "mlflow.db").is_file()
    assert done.stdout == ""
    assert done.stderr == f"INFO:training.tracking:making {tmp_path}/mlflow.db, MLflow's store\n"  # and nothing of Alembic's


def test_the_environment_names_a_server_and_its_password_stays_out_of_files(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:secret@mlflow.example:5000/base")
    tracker = Tracker.open(tmp_path)
    assert tracker.uri == "https://ann:secret@mlflow.example:5000/base"
    assert tracker.artifacts is None
    assert tracker.public_uri == tracker.look == "https://mlflow.example:5000/base"


def test_a_server_that_is_away_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RunError, match=r"MLflow at http://127\.0\.0\.1:9 refuses.*MLFLOW_TRACKING_URI"):
        start(Tracker.open(tmp_path))


def test_the_embedded_store_is_always_within_reach(tracker):
    tracker.reach()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "https://ann:secret@no-such-host.invalid", "http://127.0.0.1:99999"])
def test_a_server_out_of_reach_is_said_at_once(monkeypatch, tmp_path, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingUnreachable, match=r"tracking\.unreachable: no MLflow server answers at http") as raised:
        Tracker.open(tmp_path).reach()
    assert "secret" not in str(raised.value)


def test_a_server_that_is_starting_is_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(trouble, "KNOCK_EVERY_S", 0.05)
    caplog.set_level("INFO")
    with socket.socket() as later:
        later.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{later.getsockname()[1]}"
        timer = threading.Timer(0.5, later.listen)
        timer.start()
        trouble.knock(uri, wait_s=30)
        timer.join()
    assert caplog.text.count(f"waiting for the MLflow server at {uri}") == 1


def test_a_server_that_is_not_mlflow_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

        def answer_all():
            for _ in range(2):  # the first connection only knocks
                connection, _ = listener.accept()
                with connection:
                    if connection.recv(65536):
                        connection.sendall(answer)

        thread = threading.Thread(target=answer_all)
        thread.start()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(RunError, match=f"MLflow at {uri} refuses"):
            Tracker.open(tmp_path).reach()
        thread.join()


def test_parameters_are_logged_flat_in_any_number_and_again(tracker):
    tree = {"fit": {"phases": [{"epochs": 2}]}, "labels": {f"class ({n})": n for n in range(150)}, "long": "x" * 7000}
    run_id = start(tracker)
    for _ in range(2):
        tracker.log_parameters(run_id, tree)
    params = tracker.client.get_run(run_id).data.params
    assert len(params) == 152
    assert params["fit.phases.0.epochs"] == "2"
    assert params["labels.class _149_"] == "149"
    assert params["long"] == "x" * 6000


def test_numbers_become_metrics_by_step_and_the_rest_is_left_out(tracker):
    run_id = start(tracker)
    for step, loss in ((1, 0.5), (2, 0.25), (2, 0.25)):
        tracker.log_metrics(run_id, {"val_loss": loss, "nested": {"per, class": step}, "name": "x", "none": None}, step)
    run = tracker.client.get_run(run_id)
    assert run.data.metrics == {"val_loss": 0.25, "nested.per_ class": 2.0}
    assert {(m.step, m.value) for m in tracker.client.get_metric_history(run_id, "val_loss")} == {(1, 0.5), (2, 0.25)}


def test_files_text_and_tags_are_kept(tracker, tmp_path, home):
    (tmp_path / "report.html").write_text("<p>")
    run_id = start(tracker)
    tracker.log_files(run_id, [tmp_path / "report.html"])
    tracker.log_files(run_id, [tmp_path / "report.html"], "plots")
    tracker.log_text(run_id, "numpy==2\n", "environment.txt")
    tracker.tag(run_id, {"git_commit": "abc"})
    assert {entry.path for entry in tracker.client.list_artifacts(run_id)} == {"report.html", "plots", "environment.txt"}
    assert (home / "mlartifacts" / run_id / "artifacts" / "environment.txt").read_text() == "numpy==2\n"
    assert tracker.client.get_run(run_id).data.tags["git_commit"] == "abc"


def test_a_run_is_gone_on_with(tracker):
    run_id = start(tracker)
    with tracker.running("roofs", run_id) as again:
        assert again == run_id
        assert tracker.client.get_run(run_id).info.status == "RUNNING"
    assert tracker.client.get_run(run_id).info.status == "FINISHED"


def test_a_run_that_is_not_there_any_more_is_started_anew(tracker, caplog):
    run_id = start(tracker)
    tracker.client.delete_run(run_id)
    for gone in (run_id, "0" * 32):
        assert start(tracker, run_id=gone) not in (run_id, "0" * 32)
    assert "0" * 32 + " is not in" in caplog.text


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_how_a_run_ended_is_kept(tracker, error, status):
    seen = []

    def fail():
        with tracker.running("roofs") as run_id:
            seen.append(run_id)
            raise error

    with pytest.raises(error):
        fail()
    assert tracker.client.get_run(seen[0]).info.status == status


def test_a_run_is_registered_once_and_the_alias_moves(tracker):
    first, second = start(tracker), start(tracker)
    assert tracker.version_of("roofs", first) is None
    assert tracker.register("roofs", first, {"weights_digest": "a"}, "candidate") == "1"
    assert tracker.register("roofs", second, {"weights_digest": "b"}, "candidate") == "2"
    assert tracker.register("roofs", second, {"weights_digest": "b"}, "candidate") == "2"
    version = tracker.client.get_model_version_by_alias("roofs", "candidate")
    assert (str(version.version), version.run_id, version.tags) == ("2", second, {"weights_digest": "b"})
    assert version.source == f"{tracker.client.get_run(second).info.artifact_uri}/model"
    tracker.promote("roofs", "1", {"archive_digest": "f"}, "champion")
    champion = tracker.client.get_model_version_by_alias("roofs", "champion")
    assert (str(champion.version), champion.tags) == ("1", {"weights_digest": "a", "archive_digest": "f"})


@pytest.mark.parametrize("version", ["13", "eins", "01", ""])
def test_a_version_that_is_not_there_is_told_with_those_that_are(tracker, version):
    ids = [start(tracker, "walls") for _ in range(12)]
    for run_id in ids:
        tracker.register(f"walls{version}", run_id, {}, "candidate")
    assert tracker.run_of(f"walls{version}", "12") == ids[11]
    newest = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, and 2 older versions"
    with pytest.raises(RunError, match=f"has no version {version!r} of walls{version}; it has {newest}$"):
        tracker.run_of(f"walls{version}", version)


def test_a_model_without_a_version_is_said(tracker):
    with pytest.raises(RunError, match=r"has no version of nothing.*; name a model whose run"):
        tracker.run_of("nothing", "1")


def test_an_alias_that_mlflow_does_not_take_is_named(tracker):
    run_id = start(tracker)
    with pytest.raises(RunError, match="latest"):
        tracker.register("leaves", run_id, {}, "latest")


def test_files_that_are_not_there_are_an_error_of_the_run(tracker):
    run_id = start(tracker)
    with pytest.raises(RunError, match="refuses"):
        tracker.log_files(run_id, [Path("no such file")])


def test_what_mlflows_page_lists_of_a_run(tracker):
    with tracker.running("roofs", about=About("my-roofs", "visor train", "f" * 40)) as run_id:
        for _ in range(2):  # as by a run that is resumed
            tracker.log_data(run_id, "imagefolder: photos", "d" * 64, "/data/photos", {"train": 7, "test": 2})
    run = tracker.client.get_run(run_id)
    assert run.info.run_name == "my-roofs"
    assert run.data.tags["mlflow.user"] == getpass.getuser()
    assert run.data.tags["mlflow.source.name"] == "visor train"
    assert run.data.tags["mlflow.source.git.commit"] == "f" * 40
    [used] = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("imagefolder: photos", "d" * 36)
    assert (used.dataset.source, used.dataset.profile) == ('{"uri": "/data/photos"}', '{"images": 9, "train": 7, "test": 2}')
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]
    experiment = tracker.client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_two_labels_are_two_metrics_and_long_names_are_taken(tracker):
    run_id = start(tracker)
    long = {f"{'x' * 280}{end}": {"fnr": value} for end, value in (("a", 0.25), ("b", 0.5))}
    tree = {"per_class": {"a,b": {"auroc": 0.125}, "a;b": {"auroc": 0.375}, "a//b": {"auroc": 0.625}}, "subgroups": long}
    tracker.log_metrics(run_id, tree)
    tracker.log_parameters(run_id, tree)
    data = tracker.client.get_run(run_id).data
    assert sorted(data.metrics.values()) == [0.125, 0.25, 0.375, 0.5, 0.625]
    assert len(data.params) == 5


def test_an_experiment_that_was_deleted_is_said_with_the_command_that_restores_it(tracker, home):
    start(tracker, "gone")
    found = tracker.client.get_experiment_by_name("gone")
    tracker.client.delete_experiment(found.experiment_id)
    restore = rf"MLFLOW_TRACKING_URI=sqlite:///{home}/mlflow.db mlflow experiments restore --experiment-id {found.experiment_id}`"
    for ask in (lambda: tracker.reach(experiment="gone"), lambda: start(tracker, "gone")):
        with pytest.raises(TrackingDeleted, match=rf"^tracking.deleted: the experiment 'gone' was deleted in .*{restore}"):
            ask()


@pytest.fixture
def database(tmp_path, tracker):
    """A home with a copy of the store's database, to be changed."""
    with sqlite3.connect(tracker.uri.removeprefix("sqlite:///")) as one, sqlite3.connect(tmp_path / "mlflow.db") as other:
        one.backup(other)
    one.close()
    other.close()
    return tmp_path / "mlflow.db"


def change(database, *statements):
    with sqlite3.connect(database) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def older_revision():
    """The revision before the newest, of MLflow's own migrations."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    script = ScriptDirectory.from_config(_get_alembic_config(""))
    return script.get_revision(script.get_current_head()).down_revision


def test_a_database_of_an_older_mlflow_is_named_with_the_command_that_upgrades_it(database, tmp_path):
    change(database, f"UPDATE alembic_version SET version_num = '{older_revision()}'")
    command = rf"`MLFLOW_DISABLE_TELEMETRY=true mlflow db upgrade sqlite:///{database}`$"
    with pytest.raises(TrackingOutdated, match=rf"^tracking.version: the MLflow database .*older .*{command}"):
        Tracker.open(tmp_path)


def test_a_database_of_a_newer_mlflow_is_named(database, tmp_path):
    change(database, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(TrackingOutdated, match=r"was written by a newer version than MLflow .*its schema is ffffffffffff"):
        Tracker.open(tmp_path)
    change(database, "DROP TABLE metrics")  # which has MLflow try to migrate it
    with pytest.raises(TrackingOutdated, match=r"was written by a newer version than MLflow"):
        Tracker.open(tmp_path)


def test_a_database_without_mlflows_version_is_somebody_elses(database, tmp_path):
    change(database, "DELETE FROM alembic_version")
    with pytest.raises(TrackingForeign, match=r"^tracking.foreign: .*a database of something else"):
        Tracker.open(tmp_path)


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_text("these are not the tables that you are looking for" * 100)
    with pytest.raises(TrackingForeign, match=rf"{tmp_path}/mlflow.db is no MLflow database; move the file away"):
        Tracker.open(tmp_path)


@pytest.mark.parametrize("uri", ["file:///tmp/no-such-runs", "./mlruns"])
def test_a_folder_of_runs_is_named_with_what_to_do(monkeypatch, tmp_path, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingUnsupported, match=r"^tracking.address: .*names a folder, .*unset it.*`mlflow migrate-filestore`"):
        Tracker.open(tmp_path).reach()


@pytest.mark.parametrize("uri", ["foo://bar", "postgresql+nodriver://host/name"])
def test_an_address_that_mlflow_does_not_know_is_named(monkeypatch, tmp_path, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingUnsupported, match=r"^tracking.address: "):
        Tracker.open(tmp_path).reach()
