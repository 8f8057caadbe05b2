"""Training tracked on a real MLflow server instead of the embedded store."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import pytest

from console.page.lineage import Lineages
from tests.integration.running import QUICK, ROOT, Workspace
from training import runs
from training.data.manifest import Manifest
from visor.serving.ports import free_ports

START_TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def tracking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an `mlflow server` with a store and artifacts of its own, and without MLflow's jobs, as in the charts."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_ports(1)[0]
    places = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", *places, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "log").open("w") as log:
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(url):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def home(workspace: Workspace, tracking_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run that is tracked on the server."""
    home = tmp_path_factory.mktemp("tracked") / "home"
    flags = ["--set", "backend=torch", "--set", "explanation_images=0", "--home", str(home), "--out", str(home / "run")]
    trained = workspace.visor(
        "train", str(ROOT / "training/configs/digits.yaml"), *QUICK, *flags, env={"MLFLOW_TRACKING_URI": tracking_server}
    )
    assert trained.returncode == 0, trained.stderr
    assert tracking_server in trained.stderr  # where to look
    return home


def test_a_run_and_its_archive_are_recorded_on_the_server(
    workspace: Workspace, home: Path, tracking_server: str, tmp_path: Path
) -> None:
    env = {"MLFLOW_TRACKING_URI": tracking_server}
    archived = workspace.visor("archive", str(home / "run"), "--store", str(tmp_path / "store"), env=env)
    registered = workspace.visor("register", archived.stdout.strip(), env=env)
    assert registered.returncode == 0, registered.stderr

    client = mlflow.MlflowClient(tracking_server, tracking_server)
    candidate = client.get_model_version_by_alias("digits", "candidate")
    champion = client.get_model_version_by_alias("digits", "champion")
    assert candidate.version == champion.version == "1"
    run = client.get_run(candidate.run_id)
    lineage = Lineages(tracking_server)
    facts, trouble = asyncio.run(lineage.of(candidate.tags["archive_digest"]))
    assert trouble == ""
    assert [(fact.name, fact.text) for fact in facts] == [
        ("Registered as", "digits, version 1"),
        ("MLflow run", run.info.run_name),
    ]
    assert facts[0].address == f"{tracking_server}/#/models/digits/versions/1"
    assert facts[1].address == f"{tracking_server}/#/experiments/{run.info.experiment_id}/runs/{candidate.run_id}"
    assert asyncio.run(lineage.of("0" * 64)) == ((), "MLflow's registry has no archive of this digest")
    assert run.info.status == "FINISHED"
    assert run.data.params["model.network"] == "small_cnn"
    assert run.data.metrics["accuracy"] > 0.5
    assert len(client.get_metric_history(candidate.run_id, "val_loss")) == 2  # one each epoch
    files = {file.path for file in client.list_artifacts(candidate.run_id)}
    assert {"config.yaml", "manifest.json", "metrics.json", "report.html", "environment.txt"} <= files


def test_a_server_that_is_away_is_named(workspace: Workspace, tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_ports(1)[0]}"
    config = str(ROOT / "training/configs/digits.yaml")
    done = workspace.visor(
        "train", config, *QUICK, "--set", "backend=torch", "--out", str(tmp_path / "run"), env={"MLFLOW_TRACKING_URI": away}
    )
    assert done.returncode == 1
    assert away in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_is_erased_from_the_server_too(workspace: Workspace, home: Path, tracking_server: str, tmp_path: Path) -> None:
    env = {"MLFLOW_TRACKING_URI": tracking_server}
    report = (home / "run" / runs.REPORT).read_text()
    sample = next(one for one in Manifest.read(home / "run" / runs.MANIFEST).samples_of("test") if one.path in report)
    erase = ["data", "erase", sample.sha256, "--home", str(home)]

    unasked = workspace.visor(*erase)
    assert f"  left       {tracking_server}  run " in unasked.stdout
    assert f"with MLFLOW_TRACKING_URI={tracking_server}" in unasked.stdout
    client, run_id = mlflow.MlflowClient(tracking_server, tracking_server), runs.read_record(home / "run").mlflow_run_id
    before = fetched(client, run_id, tmp_path / "before")
    assert all(sample.path in before[name] for name in (runs.MANIFEST, runs.REPORT))
    dry = workspace.visor(*erase, env=env)
    assert f"  rewrite    {tracking_server} run {run_id} report.html  " in dry.stdout
    assert fetched(client, run_id, tmp_path / "dry") == before

    done = workspace.visor(*erase, "--yes", env=env)
    assert done.returncode == 0, done.stderr
    after = fetched(client, run_id, tmp_path / "after")
    assert set(after) == set(before)
    assert not any(sample.path in text or sample.sha256 in text for text in after.values())
    assert Manifest.read(tmp_path / "after" / runs.MANIFEST) == Manifest.read(home / "run" / runs.MANIFEST)
    again = workspace.visor(*erase, env=env)
    assert {line.split()[0] for line in again.stdout.splitlines()[1:]} == {
        "nothing"
    }  # no run learnt from a picture of its test split


def fetched(client: mlflow.MlflowClient, run_id: str, folder: Path) -> dict[str, str]:
    """The files of a run at the server that name pictures, as text."""
    folder.mkdir()
    return {
        name: Path(client.download_artifacts(run_id, name, str(folder))).read_text(errors="replace")
        for name in (runs.MANIFEST, runs.REPORT, runs.PREDICTIONS, runs.CARD_PAGE)
    }
