"""`visor pipeline` as a pod runs it: images from S3, archive to S3; killed, given again, and given once more."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest

from archives import provenance
from archives.opening import opened
from tests.integration.running import QUICK, ROOT, STOP_TIMEOUT_S, BeginHome, Workspace
from tests.s3 import S3, s3_server

IMAGES_PER_LABEL = 30
PICTURES, MODELS = "s3://pictures/digits", "s3://models/store"
COMMAND = [
    "pipeline", str(ROOT / "training/configs/digits.yaml"), *QUICK, "--set", "data={source: imagefolder}",
    "--data-uri", PICTURES, "--store-uri", MODELS,
]  # fmt: skip
DELIVERED = ["digits.mar.sig", "digits.mar.provenance.json", "digits.mar.provenance.json.sig", "digits.mar"]


@dataclass(frozen=True)
class Delivered:
    """A workspace whose pipeline was killed after its first epoch and given again; `said`: by the second call."""

    workspace: Workspace
    s3: S3
    place: str
    said: str

    @property
    def run(self) -> Path:
        """The one run's folder."""
        [run] = self.workspace.home.glob("digits-*")
        return run

    def again(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.workspace.visor(*COMMAND, *arguments, env=self.s3.environment)

    def objects(self) -> dict[str, Any]:
        """When each object of the remote store was written."""
        with self.s3.client() as client:
            found = client.list_objects_v2(Bucket="models").get("Contents", ())
            return {entry["Key"]: entry["LastModified"] for entry in found}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory, begin_home: BeginHome) -> Iterator[Delivered]:
    workspace = Workspace(tmp_path_factory.mktemp("pipeline"))
    begin_home(workspace.home)
    workspace.ok("keys")
    made = Path(workspace.ok("data", "make", str(ROOT / "training/configs/digits.yaml"), "--home", "made").strip())
    with s3_server() as s3:
        with s3.client() as client:
            for bucket in ("pictures", "models"):
                client.create_bucket(Bucket=bucket)
            for label in range(10):
                for picture in sorted((workspace.path / made / str(label)).iterdir())[:IMAGES_PER_LABEL]:
                    client.upload_file(str(picture), "pictures", f"digits/{label}/{picture.name}")
        kill_after_an_epoch(workspace, s3)
        done = workspace.visor(*COMMAND, env=s3.environment)
        assert done.returncode == 0, done.stderr
        yield Delivered(workspace, s3, done.stdout.strip(), done.stderr)


def kill_after_an_epoch(workspace: Workspace, s3: S3) -> None:
    command = [sys.executable, "-m", "visor.cli", *COMMAND]
    process = subprocess.Popen(
        command, cwd=workspace.path, env={**os.environ, **s3.environment}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(workspace.home.glob("digits-*/checkpoint.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)  # what a node that dies leaves no time to answer
    _, said = process.communicate(timeout=STOP_TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL, said
    assert not list(workspace.home.glob("digits-*/metrics.json")), "killed too late to show anything"


def test_a_killed_pipeline_goes_on_and_delivers(delivered: Delivered, tmp_path: Path) -> None:
    assert f"{PICTURES}: 300 files, 0 of them to fetch" in delivered.said
    assert "going on after epoch 1" in delivered.said
    assert delivered.place == "s3://models/store/digits/1"
    with delivered.s3.client() as client:
        for name in DELIVERED:
            client.download_file("models", f"store/digits/1/{name}", str(tmp_path / name))
    with opened(tmp_path / "digits.mar", delivered.workspace.public_key) as archive:
        assert archive.spec.version == "1"
        found = provenance.read_verified(tmp_path / "digits.mar", archive.read(), delivered.workspace.public_key)
    assert found is not None
    client = mlflow.MlflowClient(f"sqlite:///{delivered.workspace.home / 'mlflow.db'}")
    assert client.get_model_version_by_alias("digits", "champion").tags["archive_digest"] == archive.digest


def test_the_archive_was_there_last(delivered: Delivered) -> None:
    copying = [line for line in delivered.said.splitlines() if ": copying " in line]
    assert [line.split(":")[1].rsplit("/", 1)[1] for line in copying] == DELIVERED


def test_another_call_does_nothing_again(delivered: Delivered) -> None:
    before = delivered.objects()
    weights = (delivered.run / "model.safetensors").stat().st_mtime_ns
    client = mlflow.MlflowClient(f"sqlite:///{delivered.workspace.home / 'mlflow.db'}")
    client.delete_registered_model_alias("digits", "champion")  # as somebody does who rolled back by hand
    done = delivered.again()
    assert (done.returncode, done.stdout.strip()) == (0, delivered.place), done.stderr
    assert "is finished, with this config and these images" in done.stderr
    assert "is archived already, as version 1" in done.stderr
    assert delivered.objects() == before
    assert (delivered.run / "model.safetensors").stat().st_mtime_ns == weights
    assert [path.name for path in (delivered.workspace.store / "digits").iterdir()] == ["1"]
    assert not client.get_registered_model("digits").aliases.get("champion")

    (delivered.run / "delivery.json").unlink()  # as it is after an interruption just before it is written
    done = delivered.again("--alias", "none")
    assert (done.returncode, done.stdout.strip()) == (0, delivered.place), done.stderr
    assert "is there already" in done.stderr
    assert delivered.objects() == before
    assert [path.name for path in (delivered.workspace.store / "digits").iterdir()] == ["1"]


def test_torchruns_processes_find_nothing_to_do_either(delivered: Delivered) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "visor.cli"]
    done = subprocess.run(
        [*torchrun, *COMMAND],
        cwd=delivered.workspace.path,
        env={**os.environ, **delivered.s3.environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is finished, with this config and these images") == 1
    assert done.stdout.split() == [delivered.place]


def test_other_images_from_a_new_home_are_the_next_version(delivered: Delivered) -> None:
    before = delivered.objects()
    with delivered.s3.client() as client:
        key = client.list_objects_v2(Bucket="pictures", MaxKeys=1)["Contents"][0]["Key"]
        client.delete_object(Bucket="pictures", Key=key)
    done = delivered.again("--home", "new-home", "--store", "new-store", "--backend", "torch")
    assert (done.returncode, done.stdout.strip()) == (0, "s3://models/store/digits/2"), done.stderr
    after = delivered.objects()
    assert {key: after[key] for key in before} == before
    assert set(after) - set(before) == {f"store/digits/2/{name}" for name in DELIVERED}


def test_step_by_step_what_trains_has_no_key_and_what_signs_has_no_images(delivered: Delivered) -> None:
    """As the chart's containers do, on the run of the test before; the key has a passphrase."""
    place = delivered.workspace.path
    (place / "words").write_text("five words that nobody guesses\n")
    delivered.workspace.ok("keys", "--out", "locked", "--passphrase-file", "words")
    steps = ("--home", "new-home", "--backend", "torch", "--run-file", "named")
    key = ("--key", "locked/visor.key", "--store", "third-store")

    done = delivered.again(*steps, *key, "--step", "check")
    assert done.returncode == 1
    assert done.stderr.startswith("visor: key.passphrase: locked/visor.key has a passphrase; give it by --passphrase-file or")
    done = delivered.again(*steps, *key, "--step", "check", "--passphrase-file", "words")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr

    done = delivered.again(*steps, "--step", "train", "--key", "nowhere", "--store", "/proc/nowhere")
    assert done.returncode == 0, done.stderr
    [run] = (place / "new-home").glob("digits-*")
    assert done.stdout.strip() == f"new-home/{run.name}"
    assert (place / "named").read_text() == run.name

    for images in (place / "new-home/data", place / "new-home/cache"):
        shutil.rmtree(images, ignore_errors=True)
    before = delivered.objects()
    done = delivered.again(*steps, *key, "--step", "deliver", "--passphrase-file", "words")
    assert (done.returncode, done.stdout.strip()) == (0, "s3://models/store/digits/3"), done.stderr
    assert set(delivered.objects()) - set(before) == {f"store/digits/3/{name}" for name in DELIVERED}
    with opened(place / "third-store/digits/3/digits.mar", place / "locked/visor.pub") as archive:
        assert archive.spec.version == "3"

    done = delivered.again(
        *steps, *key, "--step", "deliver", "--passphrase-file", "words", "--store", "fourth", "--backend", "openvino"
    )
    assert done.returncode == 1
    assert "was not evaluated on openvino; train it with that --backend" in done.stderr


def test_a_server_that_is_away_is_said_before_anything_is_fetched(delivered: Delivered) -> None:
    env = {**delivered.s3.environment, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = delivered.workspace.visor(*COMMAND, "--home", "other-home", env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("visor: tracking.unreachable: no MLflow server answers at http://127.0.0.1:9")
    assert "Traceback" not in done.stderr
    assert not (delivered.workspace.path / "other-home/data").exists()
