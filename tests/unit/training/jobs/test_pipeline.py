"""What a pipeline finds out before it trains, and whom it makes wait; tests/integration/test_pipeline.py goes the whole way."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from archives import signing, store
from archives.errors import ArchiveRefused, ArchiveUnexpected, KeyFileError, KeyLocked
from archives.files import sha256
from tests.unit.archives.crafted import put
from tests.unit.runs import make_record
from training import remote, runs
from training.errors import ConfigError, DataError, FolderError, RemoteConflict, RemoteInvalid, RunError, TrackingUnreachable
from training.jobs import pipeline as job
from training.jobs.pipeline import Delivery, PipelinePaths, load_config, pipeline

ROOT = Path(__file__).parents[4]
CONFIG = """
name: tiny
data: {source: imagefolder}
preprocessing: {height: 32, width: 32, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
model: {network: small_cnn}
fit: {phases: [{epochs: 1, learning_rate: 0.003, unfreeze: all}]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config that leaves the images' place open."""
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelinePaths:
    for name in ("MLFLOW_TRACKING_URI", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    key, _ = signing.make_keys(tmp_path / "keys")
    return PipelinePaths(tmp_path / "home", tmp_path / "store", key, str(tmp_path / "images"))


def replaced(places: PipelinePaths, **changes: object) -> PipelinePaths:
    return PipelinePaths(**{**vars(places), **changes})  # type: ignore[arg-type]


def test_a_process_that_torchrun_did_not_start_is_none_of_its(
    config: Path, places: PipelinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match="RANK 1 needs a larger WORLD_SIZE, as torchrun sets both, got 1"):
        pipeline(config, [], places)
    assert not places.home.exists()


@pytest.mark.parametrize("name", ["plain", "with space", "a: b # c", "2024", "[x]"])
def test_the_place_of_the_images_is_taken_as_it_is(config: Path, places: PipelinePaths, name: str) -> None:
    assert load_config(config, [], replaced(places, data=name)).data.path == Path(name)


def test_images_from_s3_lie_below_home(config: Path, places: PipelinePaths) -> None:
    loaded = load_config(config, [], replaced(places, data="s3://bucket/a/b/"))
    assert loaded.data.path == places.home / "data/s3/bucket/a/b"
    with pytest.raises(RemoteInvalid):
        load_config(config, [], replaced(places, data="s3://"))


def test_a_built_in_set_takes_no_images(config: Path, places: PipelinePaths) -> None:
    with pytest.raises(ConfigError, match=r"data\.path belongs to source imagefolder"):
        load_config(config, ["data.source=digits"], places)


@pytest.mark.parametrize("field", ["home", "store"])
def test_a_folder_that_cannot_be_written_is_said_at_once(config: Path, places: PipelinePaths, tmp_path: Path, field: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"folder\.unwritable: .*file.*fsGroup"):
        pipeline(config, [], replaced(places, **{field: tmp_path / "file"}))


def test_a_missing_key_is_said_at_once(config: Path, places: PipelinePaths, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"nowhere\.key"):
        pipeline(config, [], replaced(places, key=tmp_path / "nowhere.key"))


def test_a_wrong_passphrase_is_said_at_once(config: Path, places: PipelinePaths, tmp_path: Path) -> None:
    key, _ = signing.make_keys(tmp_path / "locked", "secret")
    with pytest.raises(KeyLocked, match=r"key\.passphrase"):
        pipeline(config, [], replaced(places, key=key, passphrase="other"), step="check")
    assert pipeline(config, [], replaced(places, key=key, passphrase="secret"), step="check") is None
    assert "secret" not in repr(replaced(places, passphrase="secret"))


def test_what_checks_and_delivers_loads_nothing_that_decodes_or_fits() -> None:
    """It would take 944 MiB instead of 237, and a decoder beside the key."""
    script = "import sys, training.jobs.pipeline; print({'torch', 'PIL', 'torchvision', 'handlers.decode'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_training_step_asks_for_neither_key_nor_store(config: Path, places: PipelinePaths, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError):  # there are no images; that is what it looks at
        pipeline(config, [], replaced(places, key=tmp_path / "nowhere", store=tmp_path / "file"), step="train")


@pytest.mark.parametrize(
    "named", ["../keys", "tiny", "other-00000000-11111111", "tiny-00000000-11111111\n", "tiny-0000000-1111/111"]
)
def test_the_delivering_step_takes_a_run_of_its_home_alone(
    config: Path, places: PipelinePaths, tmp_path: Path, named: str
) -> None:
    file = tmp_path / "run-file"
    file.write_text(named)
    with pytest.raises(RunError, match=r"run-file names no run of tiny"):
        pipeline(config, [], replaced(places, run_file=file), step="deliver")


def test_the_delivering_step_waits_for_the_run_s_name(config: Path, places: PipelinePaths, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="give --run-file"):
        pipeline(config, [], places, step="deliver")
    late = replaced(places, run_file=tmp_path / "run-file")
    with pytest.raises(RunError, match="is not there after 0 s"):
        pipeline(config, [], late, step="deliver")
    written = threading.Timer(0.5, lambda: (tmp_path / "run-file").write_text("tiny-00000000-11111111"))
    written.start()
    with pytest.raises(RunError, match=r"tiny-00000000-11111111 holds no run"):
        pipeline(config, [], late, step="deliver", run_wait_s=60)


def test_a_missing_server_is_said_before_images_are_looked_at(
    config: Path, places: PipelinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingUnreachable, match=r"http://127\.0\.0\.1:9"):
        pipeline(config, [], places)


def test_s3_is_asked_before_images_are_looked_at(config: Path, places: PipelinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(remote, "check", asked.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingUnreachable):
        pipeline(config, [], replaced(places, data="s3://pictures/roofs", copy_to="s3://models"))
    assert asked == ["s3://pictures/roofs", "s3://models"]


def test_a_damaged_archive_in_the_store_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = store.path_of(tmp_path, "tiny", "1")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a zip")
    assert job._find(tmp_path, "tiny", make_record(weights_digest="w")) is None
    assert "archive.broken" in caplog.text


def test_a_version_that_another_home_wrote_is_said_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(files: object, uri: str) -> None:  # noqa: ARG001
        raise RemoteConflict(f"{uri}/tiny.mar is there already")

    monkeypatch.setattr(remote, "upload", refuse)
    archive = tmp_path / "tiny/1/tiny.mar"
    delivery = Delivery(weights_digest="w", version="1", digest="d")
    with pytest.raises(RemoteConflict) as raised:
        job._copy(tmp_path / "run", delivery, archive, "s3://models/tiny/1")
    assert str(raised.value).startswith("remote.conflict: s3://models/tiny/1/tiny.mar is there already: another home wrote this")
    assert f"remove {archive.parent} and {tmp_path / 'run/delivery.json'}" in str(raised.value)


def test_only_the_archive_that_was_delivered_is_registered(
    places: PipelinePaths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    registered: list[str] = []
    monkeypatch.setattr(job, "register", lambda contents, *_: registered.append(contents.digest))
    places.home.mkdir()
    archive, other = put(places.store, places.key), put(places.store, places.key, version="2")
    delivery = Delivery(weights_digest="w", version="1", digest=sha256(archive))
    with pytest.raises(ArchiveUnexpected):
        job._register(places.home, delivery.model_copy(update={"digest": sha256(other)}), archive, "champion", places)
    shutil.copy(other, archive)  # with the first one's signature beside it
    with pytest.raises(ArchiveRefused):
        job._register(places.home, delivery, archive, "champion", places)
    assert registered == []
    delivery = Delivery(weights_digest="w", version="2", digest=sha256(other))
    assert job._register(places.home, delivery, other, "champion", places).aliases == ("champion",)
    assert registered == [sha256(other)]
    assert f"is signed by the key that belongs to {places.key} (SHA-256 " in caplog.text  # and not of a file that is gone


def test_a_delivery_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert job._read(tmp_path) is None
    delivery = Delivery(weights_digest="w", version="2", digest="d", copies=("s3://models/tiny/2",), aliases=("champion",))
    job._write(tmp_path, delivery)
    assert job._read(tmp_path) == delivery
    (tmp_path / runs.DELIVERY).write_text("{")
    with pytest.raises(RunError, match=r"delivery\.json cannot be read"):
        job._read(tmp_path)
