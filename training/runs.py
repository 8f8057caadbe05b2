"""A run's folder: the names of its files, how they are read and written, and the lock on what several runs share."""

import difflib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from archives.contents import SPEC
from archives.files import replacing, sha256
from archives.lineage import Parity, Pretrained, Reviews
from handlers.backends import OpenVINOBackend, OpenVINOInt8Backend
from handlers.drift import REFERENCE as REFERENCE
from handlers.spec import BackendName, Frozen
from training.config import BackendChoice, Config
from training.config import load as load_config
from training.errors import RunError
from training.settings import home as default_home

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, MANIFEST, RECORD = "config.yaml", "manifest.json", "run.json"
CHECKPOINT, HISTORY, WEIGHTS = "checkpoint.pt", "history.json", "model.safetensors"
METRICS, PLOTS, REPORT = "metrics.json", "plots", "report.html"
REFERENCE_ROWS = "reference-rows.json"
"""The SHA-256 of the picture of each row that reference.npz had at first: for erasing one, and so in no archive."""
DELIVERY, PREDICTIONS, BACKBONE = "delivery.json", "predictions.npz", "backbone.safetensors"
CARD, CARD_PAGE, EXPORTS, SEALED = "model-card.md", "model-card.html", "exports.json", "sealed.json"
DATA_PAGE = "data.html"
"""A data report that `visor data report --out` wrote into the run's folder; the run's own pages link to it."""
GRAPHS: dict[BackendName, tuple[str, ...]] = {
    "torch": (),
    "openvino": (OpenVINOBackend.graph, OpenVINOBackend.constants[-1]),
    "openvino-int8": (OpenVINOInt8Backend.graph, OpenVINOInt8Backend.constants[-1]),
}
"""The files of each backend beside the weights, in a run's folder as in an archive."""
AGAIN = (
    "give the same `visor train` command again, or where it ended as the loss was no number, one with a lower learning rate and "
    "--fresh"
)
"""What finishes a run."""
UNLEARNT = "no epoch was finished; it failed, was stopped, or still runs"
"""How a run stands for which `has_epoch` does not hold."""
RESULTS = (WEIGHTS, SPEC, REFERENCE, METRICS, REPORT)
"""What a finished run holds beside its record."""
JobName = Literal["train", "pretrain"]


class Leaks(Frozen):
    """How many images of each held-out split the model has met before they judge it, where `data.leaks` let that through.

    `near`: by `training.data.duplicates.count_known`; `pretrained`: which the weights that the run began with had seen.
    """

    near: dict[str, int]
    pretrained: dict[str, int] = Field(default_factory=dict)


class Record(Frozen):
    """The content of `run.json`: what the run was made from and by, and under which names MLflow knows it.

    `git_commit` and `versions` are of the code that fitted. `weights_digest` is set when the fit is done, `model_version`
    (of the registry) when everything is. `pretrained`: null where all weights were random. `reviews`: those that the data set was
    made with. `leaks`: null where nothing looked for them, as by `data.leaks: allow`, and in runs of earlier versions.
    """

    job: JobName = "train"
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
    reviews: tuple[Reviews, ...] = ()
    leaks: Leaks | None = None


class Exports(Frozen):
    """The content of `exports.json`: what serves a run, and how it was chosen. Runs before 0.3 have none; torch served them.

    `weights_digest`: of the weights that were exported; `choice`: what was asked for; `backend`: what serves, whose answers the
    run's spec was fitted on; `parity`: of each export that was tried.
    """

    weights_digest: str
    choice: BackendChoice
    backend: BackendName
    parity: dict[BackendName, Parity] = Field(default_factory=dict)


def write_exports(run: Path, exports: Exports) -> None:
    """Write `exports.json`."""
    with replacing(run / EXPORTS) as temporary:
        temporary.write_text(exports.model_dump_json(indent=2) + "\n")


def read_exports(run: Path) -> Exports | None:
    """Read `exports.json`; None where there is none that can be read, and what it names has to be made anew."""
    try:
        return Exports.model_validate_json((run / EXPORTS).read_bytes())
    except (OSError, ValidationError):
        return None


def write_config(run: Path, config: Config) -> None:
    """Write the config with every value, defaults included."""
    with replacing(run / CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def read_config(run: Path) -> Config:
    """Read the config that the run was started with. Raises RunError where there is no run."""
    if not (run / CONFIG).is_file():
        raise missing(run, CONFIG)
    return load_config(run / CONFIG, decoding=1)  # of a run from before there was a second rule


def missing(run: Path, lacking: str = RECORD, home: Path | None = None) -> RunError:
    """Make the error of what is no run's folder, with the run that may be meant. `home`: of the runs, by default VISOR_HOME."""
    home = default_home() if home is None else home
    held = sorted(record.parent.name for record in home.glob(f"*/{RECORD}") if record.parent.resolve() != run.resolve())
    if run.suffix == ".mar":
        near = run.stem if run.stem in held else (held or ["NAME"])[0]
        return RunError(
            f"{run} is an archive, packed from a run already, and what is wanted is the folder of a run, such as {home / near}"
        )
    if run.is_file() and (run.parent / RECORD).is_file():
        return RunError(f"{run} is a file of a run, and what is wanted is the run's folder, {run.parent}")
    if run.is_file():
        way = f"; `visor train {shlex.quote(str(run))}` makes one of a config" if run.suffix in {".yaml", ".yml"} else ""
        likely = home / (held or ["NAME"])[0]
        return RunError(f"{run} is a file, and what is wanted is the folder of a run, such as {likely}{way}")
    close = [run.name] if run.name in held else difflib.get_close_matches(run.name, held, 1)
    meant = f"did you mean {home / close[0]}? `visor list` shows all runs" if close else ""
    advice = meant or f"make one with `visor train CONFIG --out {shlex.quote(str(run))}`"
    return RunError(f"{run} holds no run ({f'{lacking} is missing' if run.exists() else 'there is no such folder'}); {advice}")


def write_record(run: Path, record: Record) -> None:
    """Write `run.json`."""
    with replacing(run / RECORD) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n")


def read_record(run: Path) -> Record:
    """Read `run.json`. Raises RunError."""
    try:
        return Record.model_validate_json((run / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as err:
        raise missing(run) from err
    except (OSError, ValidationError) as err:
        raise RunError(f"{run / RECORD} cannot be read: {err}; start over with --fresh") from err


def keep_rule(run: Path, config: Config) -> Config:
    """Return the config with the decoding rule of the run that its folder holds, where it is the same run but for that rule.

    Runs from before there was a second rule are finished by the first. Raises RunError where the record cannot be read.
    """
    older = config.decoded_by(1)
    return older if (run / RECORD).is_file() and read_record(run).config_digest == older.digest else config


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs, keys in the order given."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def is_finished(run: Path) -> bool:
    """Tell whether everything that a training makes is there, and the weights are the ones that were fitted."""
    if not (run / RECORD).is_file():
        return False
    record = read_record(run)
    there = record.model_version is not None and all((run / name).is_file() for name in RESULTS)
    return there and sha256(run / WEIGHTS) == record.weights_digest


def has_epoch(run: Path) -> bool:
    """Tell whether an epoch of the run was finished: what was learnt before is kept nowhere."""
    return any((run / name).is_file() for name in (CHECKPOINT, HISTORY, WEIGHTS, BACKBONE))


def read_finished(run: Path) -> tuple[Record, dict[str, Any]]:
    """Read the record and metrics.json of a finished run. Raises RunError."""
    record = read_record(run)
    if record.weights_digest is None and not has_epoch(run):
        raise RunError(f"{run} has learnt nothing: {UNLEARNT}; the same `visor {record.job}` command says why")
    if not is_finished(run):
        raise RunError(f"{run} is not finished, or its weights were changed since; {AGAIN}")
    try:
        return record, dict(json.loads((run / METRICS).read_bytes()))
    except (OSError, ValueError) as err:
        raise RunError(
            f"{run / METRICS} cannot be read: {err}; make it again with `visor evaluate {shlex.quote(str(run))}`"
        ) from err


def write_history(run: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write the metrics of all epochs."""
    write_json(run / HISTORY, list(history))


def read_history(run: Path) -> list[dict[str, float]]:
    """Read the metrics of all epochs, none where none were written."""
    return list(json.loads((run / HISTORY).read_bytes())) if (run / HISTORY).is_file() else []


def write_weights(run: Path, weights: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None) -> str:
    """Write `model.safetensors` and return its digest: the same weights and metadata, of one entry, make the same bytes."""
    from safetensors.torch import save  # imports torch, which reading a run's record does without

    with replacing(run / WEIGHTS) as temporary:
        temporary.write_bytes(
            save({name: value.contiguous() for name, value in weights.items()}, dict(metadata) if metadata else None)
        )
    return sha256(run / WEIGHTS)


@contextmanager
def exclusive(lock: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock file, so that one process at a time runs the block; `on_wait` is called once where another one holds it.

    The file and its folder are made where they are missing, and stay.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        on_wait()
        held.acquire()
    try:
        yield
    finally:
        held.release()


def made(run: Path) -> list[Path]:
    """List what a run wrote into its folder, the record first, and nothing else that may lie there."""
    names = (RECORD, CONFIG, MANIFEST, CHECKPOINT, HISTORY, DELIVERY, PREDICTIONS, BACKBONE)
    later = (REFERENCE_ROWS, CARD, CARD_PAGE, EXPORTS, SEALED)
    graphs = (name for files in GRAPHS.values() for name in files)
    files = [run / name for name in (*names, *later, *RESULTS, *graphs) if (run / name).is_file()]
    return [*files, *sorted((run / PLOTS).glob("*.png"))]


def clear(run: Path) -> None:
    """Delete what a run wrote, the record first: a folder without one holds no run."""
    for path in made(run):
        path.unlink()
