"""A run's folder: the names of its files, and how they are read and written."""

import fcntl
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import ValidationError

from handlers.spec import Frozen
from training.config import Config
from training.config import load as load_config
from training.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, MANIFEST, RECORD = "config.yaml", "manifest.json", "run.json"
CHECKPOINT, HISTORY, WEIGHTS = "checkpoint.pt", "history.json", "model.safetensors"
SPEC, REFERENCE, METRICS, PLOTS, REPORT = "spec.json", "reference.npz", "metrics.json", "plots", "report.html"
DELIVERY, PREDICTIONS, BACKBONE = "delivery.json", "predictions.npz", "backbone.safetensors"
CARD, CARD_PAGE = "model-card.md", "model-card.html"
RESULTS = (WEIGHTS, SPEC, REFERENCE, METRICS, REPORT)
"""What a finished run holds beside its record."""
Job = Literal["train", "pretrain"]


class Pretrained(Frozen):
    """The weights that a fit started from: their file's SHA-256, and what `visor pretrain` wrote into it, if that made it."""

    weights_digest: str
    method: str | None = None
    config_digest: str | None = None
    dataset_digest: str | None = None


class Record(Frozen):
    """`run.json`: what the run was made from and by, and under which names MLflow knows it.

    `git_commit` and `versions` are of the code that fitted. `weights_digest` is set when the fit is done, `model_version`
    (of the registry) when everything is. `pretrained`: null where all weights were random.
    """

    job: Job = "train"
    mlflow_run_id: str
    tracking_uri: str
    dataset_root: Path
    dataset_digest: str
    config_digest: str
    git_commit: str
    git_dirty: bool | None
    versions: dict[str, str]
    weights_digest: str | None = None
    model_version: str | None = None
    pretrained: Pretrained | None = None


@contextmanager
def alone(lock: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """One process of this machine at a time; `on_wait` is called where another one is there. Makes the file and its folder."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well: readers see the old file or the new one.

    Its name is nobody else's, on other machines that share the folder neither.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_config(run: Path, config: Config) -> None:
    """Write the config with every value, defaults included."""
    with replacing(run / CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def read_config(run: Path) -> Config:
    """The config that the run was started with. Raises RunError where there is no run."""
    if not (run / CONFIG).is_file():
        raise RunError(f"{run} holds no run ({CONFIG} is missing); make one with `visor train CONFIG --out {run}`")
    return load_config(run / CONFIG)


def write_record(run: Path, record: Record) -> None:
    """Write `run.json`."""
    with replacing(run / RECORD) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n")


def read_record(run: Path) -> Record:
    """Read `run.json`. Raises RunError."""
    try:
        return Record.model_validate_json((run / RECORD).read_bytes())
    except FileNotFoundError as err:
        raise RunError(f"{run} holds no run ({RECORD} is missing); make one with `visor train CONFIG --out {run}`") from err
    except (OSError, ValidationError) as err:
        raise RunError(f"{run / RECORD} cannot be read: {err}; start over with --fresh") from err


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs, keys in the order given."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def is_finished(run: Path) -> bool:
    """Whether everything that a training makes is there, and the weights are the ones that were fitted."""
    if not (run / RECORD).is_file():
        return False
    record = read_record(run)
    there = record.model_version is not None and all((run / name).is_file() for name in RESULTS)
    return there and sha256(run / WEIGHTS) == record.weights_digest


def read_finished(run: Path) -> tuple[Record, dict[str, Any]]:
    """The record and metrics.json of a finished run. Raises RunError."""
    record = read_record(run)
    if not is_finished(run):
        raise RunError(f"{run} is not finished, or its weights were changed since; give the same `visor train` command again")
    try:
        return record, dict(json.loads((run / METRICS).read_bytes()))
    except (OSError, ValueError) as err:
        raise RunError(f"{run / METRICS} cannot be read: {err}; make it again with `visor evaluate {run}`") from err


def write_history(run: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write the metrics of all epochs."""
    write_json(run / HISTORY, list(history))


def read_history(run: Path) -> list[dict[str, float]]:
    """The metrics of all epochs, none where none were written."""
    return list(json.loads((run / HISTORY).read_bytes())) if (run / HISTORY).is_file() else []


def write_weights(run: Path, weights: Mapping[str, "Tensor"]) -> str:
    """Write `model.safetensors` and return its digest: the same weights make the same bytes."""
    from safetensors.torch import save  # imports torch, which reading a run's record does without

    with replacing(run / WEIGHTS) as temporary:
        temporary.write_bytes(save({name: value.contiguous() for name, value in weights.items()}))
    return sha256(run / WEIGHTS)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clear(run: Path) -> None:
    """Delete what a run writes, and nothing else that may lie in its folder."""
    for name in (CONFIG, MANIFEST, RECORD, CHECKPOINT, HISTORY, DELIVERY, PREDICTIONS, BACKBONE, CARD, CARD_PAGE, *RESULTS):
        (run / name).unlink(missing_ok=True)
    for plot in (run / PLOTS).glob("*.png"):
        plot.unlink()
