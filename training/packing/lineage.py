"""Where an archive came from: code, data, config, MLflow run, versions, time and metrics; `lineage.json` in the archive."""

import subprocess
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from platform import python_version

import training
from archives.lineage import Lineage
from training import runs, settings

PACKAGES = ("visor", "torch", "torchvision", "timm", "numpy", "pillow", "pi-heif", "cykooz-resizer")
UNKNOWN = "unknown"


def collect(run: Path) -> Lineage:
    """Collect the lineage of a finished run that this code archives now. Raises RunError (not finished)."""
    record, metrics = runs.read_finished(run)
    exports = runs.read_exports(run)
    commit, dirty = git_state()
    return Lineage(
        created=settings.now(),
        archive_git_commit=commit,
        archive_git_dirty=dirty,
        metrics=metrics,
        parity=exports.parity if exports else {},
        **record.model_dump(include=set(Lineage.model_fields) - {"format"}),
    )


def git_state(folder: Path = Path(training.__file__).parent) -> tuple[str, bool | None]:
    """Return (commit, whether anything differs from it) of the repository around `folder`; ("unknown", None) outside git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        return commit, bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, no commit, or somebody else's repository
        return UNKNOWN, None


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what the weights and answers are."""
    return {"python": python_version(), **{package: _version(package) for package in PACKAGES}}


def environment() -> str:
    """List every installed package, a line `name==version` each, sorted, as `pip install --requirement` takes it."""
    return "".join(sorted(f"{package.name}=={package.version}\n" for package in distributions()))


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # visor itself, run from a checkout that is not installed
        return UNKNOWN
