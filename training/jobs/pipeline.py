"""The whole way, in one command that may be given again and again: fetch, train, archive, copy, register.

A pod that was evicted is started anew with the same command and goes on from the last epoch; one that is started for a
run that was delivered already finds nothing to do. What was delivered stands in the run's `delivery.json`.

In a pod the steps are containers of their own, so that what decodes foreign images never has the key: `check` finds out what
would fail after hours, `train` fetches and fits, and `deliver` archives, copies and registers the run that `train` names in a
file. `deliver` decodes no image and follows no link out of the run's folder.
"""

import json
import logging
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from archives import provenance, signing, store
from archives.contents import read
from archives.files import replacing
from archives.opening import opened
from handlers.errors import ArchiveBroken
from handlers.spec import Frozen
from training import config as configs
from training import remote, runs, settings
from training.config import BackendChoice, Config
from training.errors import RemoteConflict, RunError
from training.jobs.archive import archive
from training.jobs.checks import check_writable
from training.jobs.register import register
from training.tracking import Tracker

if TYPE_CHECKING:
    from training.jobs.common import Data

logger = logging.getLogger(__name__)

DIGITS = 8
"""Hexadecimal digits of a digest in a run's name."""
POLL_S = 2.0
"""Seconds between two looks for the file that names the run."""
Step = Literal["check", "train", "deliver"]


@dataclass(frozen=True)
class PipelinePaths:
    """Where a pipeline reads and writes.

    `home`: runs, checkpoints and data, kept between calls; `store`: the model store; `key`: what archives are signed with;
    `data`: a folder or S3 address of images in the place of the config's data.path; `copy_to`: S3 address of a model store
    that archives are copied to; `passphrase`: the key's; `run_file`: where the step `train` names its run to `deliver`.
    """

    home: Path
    store: Path
    key: Path
    data: str | None = None
    copy_to: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    run_file: Path | None = None


class Delivery(Frozen):
    """What has become of a run. A step that is done stays done, even if somebody has since moved an alias or removed a copy.

    `digest`: the archive's; `copies`: addresses that it was copied to; `aliases`: those that were moved to it.
    """

    weights_digest: str
    version: str
    digest: str
    copies: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def pipeline(
    config_file: Path,
    overrides: Sequence[str],
    places: PipelinePaths,
    alias: str | None = "champion",
    backend: BackendChoice | None = None,
    wait_s: float = 0.0,
    step: Step | None = None,
    run_wait_s: float = 0.0,
) -> str | None:
    """Run the steps that are left, and return where the archive's folder is; None in torchrun's processes other than the first.

    `alias`: in MLflow's registry, None for none; `backend`: what serves, in the place of the config's; `wait_s`: how long an
    MLflow server may take to start; `step`: that one alone, of which `train` returns the run and `check` None; `run_wait_s`: how
    long `deliver` waits for the file that names the run. Raises what the jobs raise, FolderError, TrackingUnreachable and
    RemoteError; what need not wait for the training fails before it.
    """
    config = load_config(config_file, overrides, places)
    if settings.rank():
        from training.jobs.train import train  # imports torch, which the steps without a fit do without

        train(config, places.home, places.home)  # which fits along; the folder of the run is the first process's to know
        return None
    if step == "train" and places.run_file:
        places.run_file.unlink(missing_ok=True)  # an earlier training's
    _check(places, config.name, wait_s, step)
    if step == "check":
        return None
    named = _wait_for_run(places, config.name, run_wait_s) if step == "deliver" else None
    with _turn(places.home, config.name):
        run = named or _train(config, places, backend)
        if step == "train":
            _name_run(run, places)
            return str(run)
        return _deliver(run, config, places, alias, backend, evaluated=named is not None)


def _train(config: Config, places: PipelinePaths, backend: BackendChoice | None) -> Path:
    from training.jobs.common import prepare  # which import torch, too
    from training.jobs.train import train

    if places.data and remote.is_remote(places.data):
        remote.mirror(places.data, _data_folder(places.home, places.data))
    data = prepare(config, places.home)
    return train(config, _run_folder(places.home, config, data), places.home, data=data, backend=backend)


def _deliver(
    run: Path, config: Config, places: PipelinePaths, alias: str | None, backend: BackendChoice | None, evaluated: bool
) -> str:
    delivery = _archive(run, config.name, places, backend, evaluated)
    path = store.path_of(places.store, config.name, delivery.version)
    place = str(path.parent)
    if places.copy_to:
        place = str(remote.Place.parse(places.copy_to).below(f"{config.name}/{delivery.version}"))
        delivery = _copy(run, delivery, path, place)
    if alias:
        delivery = _register(run, delivery, path, alias, places)
    logger.info("%s version %s, archive %s, is in %s", config.name, delivery.version, delivery.digest[:12], place)
    return place


def _name_run(run: Path, places: PipelinePaths) -> None:
    if places.run_file:
        with replacing(places.run_file) as temporary:
            temporary.write_text(run.name)


def _wait_for_run(places: PipelinePaths, name: str, wait_s: float) -> Path:
    """The run that the step `train` finished, one of this name in `home`: whoever wrote the file may not choose another folder.

    Raises RunError.
    """
    file = places.run_file
    if file is None:
        raise RunError("the step deliver needs a file that names the run; give --run-file, as the step train got it")
    deadline = time.monotonic() + wait_s
    while not file.is_file():
        if time.monotonic() >= deadline:
            raise RunError(f"{file} is not there after {wait_s:g} s; the step train writes it when its run is finished")
        time.sleep(POLL_S)
    with file.open("rb") as opened:
        named = opened.read(200).decode(errors="replace")
    if not re.fullmatch(rf"{re.escape(name)}(-[0-9a-f]{{{DIGITS}}}){{2}}", named):
        raise RunError(f"{file} names no run of {name}; give the step train again")
    return places.home / named


def load_config(file: Path, overrides: Sequence[str], places: PipelinePaths) -> Config:
    """Read the config and fill in the place of its images. Raises ConfigError, RemoteInvalid."""
    if places.data:
        folder = _data_folder(places.home, places.data) if remote.is_remote(places.data) else Path(places.data)
        overrides = [*overrides, f"data.path={json.dumps(str(folder))}"]  # quoted: a name may be YAML for something else
    return configs.load(file, overrides)


def _data_folder(home: Path, uri: str) -> Path:
    place = remote.Place.parse(uri)
    return home.resolve() / "data" / "s3" / place.bucket / place.prefix


def _run_folder(home: Path, config: Config, data: "Data") -> Path:
    """HOME/NAME-CONFIG-DATA: another config or other images are another run, the same ones are the same run again.

    A run that began by the first decoding rule goes on by it.
    """
    older, newer = (
        home / f"{config.name}-{one.digest[:DIGITS]}-{data.manifest.digest[:DIGITS]}" for one in (config.decoded_by(1), config)
    )
    return older if (older / runs.RECORD).is_file() else newer


def _check(places: PipelinePaths, name: str, wait_s: float, step: Step | None) -> None:
    """Find out what would fail after hours of fitting: folders, the key, S3 and MLflow, as far as this step needs them."""
    trains, delivers = step != "deliver", step != "train"
    folders = (places.home, *([places.store] if delivers else []))
    check_writable(*folders, advice="a volume needs the user's group (fsGroup)")
    if delivers:
        signing.check_private(places.key, places.passphrase)
    for uri in (places.data if trains else None, places.copy_to if delivers else None):
        if uri and remote.is_remote(uri):
            remote.check(uri)
    Tracker.open(places.home).reach(wait_s, name if trains else None)


def _turn(home: Path, name: str) -> AbstractContextManager[None]:
    """Wait for other pipelines of this name, such as a CronJob's beside a Job's: they share a run's folder and versions."""
    return runs.exclusive(home / f".{name}.lock", lambda: logger.info("waiting for another pipeline of %s in %s", name, home))


def _archive(run: Path, name: str, places: PipelinePaths, backend: BackendChoice | None, evaluated: bool) -> Delivery:
    """The run's archive, made once; made anew where it is gone from the store, as it is in a store that is new."""
    record = runs.read_record(run)
    delivery = _read(run)
    if (
        delivery
        and delivery.weights_digest == record.weights_digest
        and store.path_of(places.store, name, delivery.version).is_file()
    ):
        logger.info("%s is archived already, as version %s", run, delivery.version)
        return delivery
    path = _find(places.store, name, record)
    if path is None:
        if places.copy_to and (taken := remote.versions(places.copy_to, name)):
            store.reserve(places.store, name, taken[-1])
        path = archive(run, places.store, places.key, backend, places.passphrase, evaluated)
    contents = read(path)
    return _write(
        run,
        Delivery(weights_digest=contents.lineage.weights_digest, version=contents.spec.version, digest=contents.digest),
    )


def _find(model_store: Path, name: str, record: runs.Record) -> Path | None:
    """The newest archive of this very run: one that was made just before an interruption, or by `visor archive`."""
    for version in reversed(store.versions(model_store, name)):
        path = store.path_of(model_store, name, version)
        try:
            lineage = read(path).lineage
        except ArchiveBroken as err:
            logger.warning("%s", err)
            continue
        if (lineage.mlflow_run_id, lineage.weights_digest) == (record.mlflow_run_id, record.weights_digest):
            return path
    return None


def _copy(run: Path, delivery: Delivery, archive: Path, place: str) -> Delivery:
    if place in delivery.copies:
        return delivery
    # The archive last: whoever finds it finds it signed, and its provenance.
    try:
        remote.upload([*provenance.beside(archive), archive], place)
    except RemoteConflict as err:
        raise RemoteConflict(
            f"{err.args[0]}: another home wrote this version meanwhile; "
            f"remove {archive.parent} and {run / runs.DELIVERY}, and the same command makes the next version"
        ) from err
    return _write(run, delivery.model_copy(update={"copies": (*delivery.copies, place)}))


def _register(run: Path, delivery: Delivery, archive: Path, alias: str, places: PipelinePaths) -> Delivery:
    """Register the archive that was delivered; others may write to the store, so it has to be signed by our own key."""
    if alias in delivery.aliases:
        return delivery
    with tempfile.TemporaryDirectory() as folder:
        public = signing.write_public(places.key, Path(folder, signing.PUBLIC), places.passphrase)
        with opened(archive, public, delivery.digest, f"that belongs to {places.key}") as verified:
            register(verified.read(), alias, places.home)
    return _write(run, delivery.model_copy(update={"aliases": (*delivery.aliases, alias)}))


def _read(run: Path) -> Delivery | None:
    try:
        return Delivery.model_validate_json((run / runs.DELIVERY).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as err:
        raise RunError(
            f"{run / runs.DELIVERY} cannot be read: {err}; remove it, and what was delivered is looked for again"
        ) from err


def _write(run: Path, delivery: Delivery) -> Delivery:
    runs.write_json(run / runs.DELIVERY, delivery.model_dump(mode="json"))
    return delivery
