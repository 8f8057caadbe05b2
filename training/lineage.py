"""Where an archive came from: code, data, config, MLflow run, versions, time and metrics; `lineage.json` in the archive."""

import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from platform import python_version
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

import training
from handlers.errors import ArchiveBroken
from handlers.spec import BackendName, Frozen
from training import runs, settings

PACKAGES = ("visor", "torch", "torchvision", "timm", "numpy", "pillow", "cykooz-resizer")
UNKNOWN = "unknown"


class Parity(Frozen):
    """How an export answers beside torch, the reference, on images of the test split; `training.parity` holds the rule.

    `images`: how many were asked; `decision_agreement`: the share of them that both decide alike. The differences are the
    largest of any image. Heat maps are compared where both explain the same label: `heatmap_correlation` is the mean of
    Pearson's, `heatmap_iou` the mean overlap of what exceeds half the maximum; null where nothing could be compared.
    `fnr` is null where the images have no positive one. `openvino`: the version that converted and answered;
    `calibration_images`: how many images of the calibration split a quantisation saw, null without one.
    """

    holds: bool
    images: int
    decision_agreement: float
    max_logit_difference: float
    max_probability_difference: float
    max_heatmap_difference: float
    heatmap_correlation: float | None = None
    heatmap_iou: float | None = None
    accuracy: dict[BackendName, float]
    fnr: dict[BackendName, float] | None
    openvino: str
    calibration_images: int | None = None

    def describe(self) -> str:
        """The figures that the rule looks at, in words."""
        (backend,) = self.accuracy.keys() - {"torch"}
        sentence = (
            f"decisions agree on {self.decision_agreement:.1%} of {self.images} test images, "
            f"accuracy {self.accuracy[backend]:.1%} (torch {self.accuracy['torch']:.1%}), "
            f"probabilities differ by at most {self.max_probability_difference:g}"
        )
        if self.heatmap_correlation is not None:
            sentence += f", heat maps correlate by {self.heatmap_correlation:.3f}"
        if self.fnr is not None:
            sentence += f", {self.fnr[backend]:.1%} of the positives missed (torch {self.fnr['torch']:.1%})"
        return sentence


class Lineage(Frozen):
    """Enough to find the code, the data and the run again.

    `git_commit`, `git_dirty` and `versions` are of the code that fitted, `archive_git_*` of the code that packed (its
    `handlers` travel along); "unknown" and None outside git. `created` is the archive's time, UTC. `parity`: of each export that
    was tried, also where it does not hold; empty where none was, and in archives that are older than it. `pretrained`: the
    weights that the fit started from, null where all were random, and in archives older than it.
    """

    format: Literal[1] = 1
    created: datetime
    git_commit: str
    git_dirty: bool | None
    archive_git_commit: str
    archive_git_dirty: bool | None
    dataset_digest: str
    config_digest: str
    weights_digest: str
    mlflow_run_id: str
    tracking_uri: str
    versions: dict[str, str]
    metrics: dict[str, Any]
    parity: dict[BackendName, Parity] = Field(default_factory=dict)
    pretrained: runs.Pretrained | None = None

    @field_validator("parity", mode="before")
    @classmethod
    def _of_one_export(cls, value: Any) -> Any:
        """Archives of 0.1 tell of the one export there was, or null."""
        return {"openvino": value} if value and "holds" in value else value or {}

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> Self:
        """Read `lineage.json`; `where` names it in the error. Raises ArchiveBroken."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as err:
            raise ArchiveBroken(f"{where} is not a valid lineage: {err}") from err


def collect(run: Path) -> Lineage:
    """The lineage of a finished run, archived now by this code. Raises RunError (not finished)."""
    record, metrics = runs.read_finished(run)
    commit, dirty = git_state()
    return Lineage(
        created=settings.now(),
        archive_git_commit=commit,
        archive_git_dirty=dirty,
        metrics=metrics,
        **record.model_dump(include=set(Lineage.model_fields) - {"format"}),
    )


def git_state(folder: Path = Path(training.__file__).parent) -> tuple[str, bool | None]:
    """(commit, whether anything differs from it) of the repository that holds `folder`; ("unknown", None) outside git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        return commit, bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, no commit, or somebody else's repository
        return UNKNOWN, None


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what the weights and answers are."""
    return {"python": python_version(), **{package: _version(package) for package in PACKAGES}}


def environment() -> str:
    """Every installed package, a line `name==version` each, sorted: what `pip install --requirement` takes."""
    return "".join(sorted(f"{package.name}=={package.version}\n" for package in distributions()))


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # visor itself, run from a checkout that is not installed
        return UNKNOWN
