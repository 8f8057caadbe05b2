"""The environment is read in this module alone: VISOR_*, MLFLOW_TRACKING_URI, SOURCE_DATE_EPOCH, torchrun's own."""

import os
import shlex
from datetime import UTC, datetime
from pathlib import Path

from training.errors import ConfigError

# Set before MLflow is imported, and only where the user has not chosen otherwise: visor sends nobody usage statistics,
# a tracking server that is away is reported in seconds instead of minutes, and the commands' output is their own.
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
MLFLOW_DATABASE = "mlflow.db"
"""The file of the embedded MLflow store in a home."""
# Under this name NNCF tells Google Analytics of no quantisation.
NNCF_DEFAULTS = {"NNCF_CI": "1"}


def home() -> Path:
    """Return where runs, data sets and the embedded MLflow store are kept: VISOR_HOME, else `runs`."""
    return Path(os.environ.get("VISOR_HOME") or "runs")


def store() -> Path:
    """Return the model store, the folder of archives: VISOR_STORE, else `model-store`."""
    return Path(os.environ.get("VISOR_STORE") or "model-store")


def private_key() -> Path:
    """Return the key that archives are signed with: VISOR_KEY, else `keys/visor.key`."""
    return Path(os.environ.get("VISOR_KEY") or "keys/visor.key")


def public_key() -> Path:
    """Return the key that archives must be signed by: VISOR_PUBLIC_KEY, else the one that lies beside the private key."""
    return Path(os.environ.get("VISOR_PUBLIC_KEY") or private_key().with_suffix(".pub"))


def key_passphrase() -> str | None:
    """Return the passphrase of the private key: VISOR_KEY_PASSPHRASE, None where it is not set or empty."""
    return os.environ.get("VISOR_KEY_PASSPHRASE") or None


def tracking_uri(home: Path) -> str:
    """Return MLFLOW_TRACKING_URI where it is set, else the embedded SQLite store under `home`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or embedded_uri(home)


def embedded_uri(home: Path) -> str:
    """Return the address of the SQLite store, which needs no server."""
    return f"sqlite:///{(home / MLFLOW_DATABASE).resolve()}"


def is_embedded(home: Path) -> bool:
    """Tell whether the embedded store under `home` is used, and no other that MLFLOW_TRACKING_URI names."""
    return tracking_uri(home) == embedded_uri(home)


def mlflow_command(*words: str) -> str:
    """Write a command of MLflow's for a person to give, which sends nobody usage statistics either."""
    silent = "MLFLOW_DISABLE_TELEMETRY"
    return " ".join((f"{silent}={MLFLOW_DEFAULTS[silent]} mlflow", *map(shlex.quote, words)))


def look(home: Path) -> str:
    """Say how a person sees the runs of a home: the command for the embedded store, or that a server has them."""
    return ui_command(embedded_uri(home)) if is_embedded(home) else "on the server that MLFLOW_TRACKING_URI names"


def ui_command(uri: str) -> str:
    """Write the command that shows the runs of a database."""
    return mlflow_command("ui", "--backend-store-uri", uri)


def now() -> datetime:
    """Return this second in UTC, or SOURCE_DATE_EPOCH (reproducible-builds.org) where it is set. Raises ConfigError."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as err:
        raise ConfigError(f"SOURCE_DATE_EPOCH must be whole seconds since 1970, got {epoch!r}") from err


def rank() -> int:
    """Return which of torchrun's processes this is, counted over all nodes; 0 without torchrun. Raises ConfigError."""
    return _whole("RANK", 0)


def local_rank() -> int:
    """Return which of the processes on this node this is; 0 without torchrun. Raises ConfigError."""
    return _whole("LOCAL_RANK", 0)


def world_size() -> int:
    """Return how many processes torchrun has started, over all nodes; 1 without torchrun. Raises ConfigError."""
    return _whole("WORLD_SIZE", 1)


def _whole(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < default:
        raise ConfigError(f"{name} must be a whole number from {default}, as torchrun sets it, got {text!r}")
    return int(text)


def prepare_cuda() -> None:
    """Make cuBLAS's results reproducible; to be called before a GPU is used.

    PyTorch's deterministic mode refuses to run without it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def prepare_mlflow() -> None:
    """Give MLflow its defaults; to be called before MLflow is imported."""
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)


def prepare_nncf() -> None:
    """Give NNCF its defaults; to be called before NNCF is imported."""
    for name, value in NNCF_DEFAULTS.items():
        os.environ.setdefault(name, value)
