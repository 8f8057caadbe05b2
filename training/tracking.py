"""MLflow: what a training was, how it went, what came out, and the registered model that its archive belongs to.

The store is the embedded SQLite file under the home folder, or the server of MLFLOW_TRACKING_URI. Only artifacts are
registered, never a pickled model. MLflow takes two seconds to import, so it is imported where it is first used.
"""

import logging
import re
import socket
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from training import settings
from training.errors import RunError, TrackingUnreachable
from training.runs import exclusive

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

MODEL = "model"
"""The folder of the run's artifacts that a model version points to."""
CANDIDATE, CHAMPION = "candidate", "champion"
"""The aliases of a model's newest trained version, and of the one that `visor promote` or `visor register` chose."""
PARAMETERS_A_CALL, METRICS_A_CALL, PARAMETER_LENGTH = 100, 1000, 6000
"""MLflow's own limits (mlflow.utils.validation)."""
KNOCK_TIMEOUT_S, KNOCK_EVERY_S = 5.0, 2.0


@dataclass(frozen=True)
class Tracker:
    """A tracking store and registry. `artifacts`: where the embedded store keeps files; a server has its own place."""

    client: "MlflowClient"
    uri: str
    artifacts: Path | None

    @classmethod
    def open(cls, home: Path) -> "Tracker":
        """Open the server of MLFLOW_TRACKING_URI, else `home`/mlflow.db, which is made at first use."""
        settings.prepare_mlflow()
        uri = settings.tracking_uri(home)
        embedded = uri == settings.embedded_uri(home)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # MLflow's own, of SQLAlchemy
            from mlflow import MlflowClient

            for name in ("alembic", "mlflow"):  # which log every table that they make; MLflow's import sets its own level
                logging.getLogger(name).setLevel(logging.WARNING)
            # Two processes that make the embedded store's tables at the same time would both fail.
            with exclusive(home / ".mlflow.lock") if embedded else nullcontext():
                client = MlflowClient(uri, uri)
                if embedded:
                    client.search_experiments(max_results=1)
                    client.search_registered_models(max_results=1)
        return cls(client, uri, (home / "mlartifacts").resolve() if embedded else None)

    @property
    def public_uri(self) -> str:
        """The URI without user name and password: what may be written into files."""
        parts = urlsplit(self.uri)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else self.uri

    @property
    def look(self) -> str:
        """What to type or open to see the runs."""
        return f"mlflow ui --backend-store-uri {self.uri}" if self.artifacts else self.public_uri

    def reach(self, wait_s: float = 0.0) -> None:
        """Find out whether the store answers; a server that is starting is waited for. Raises TrackingUnreachable, RunError."""
        if self.uri.startswith(("http://", "https://")):
            _knock(self.public_uri, wait_s)
        with _reported(self):
            self.client.search_experiments(max_results=1)

    @contextmanager
    def running(self, experiment: str, run_id: str | None = None) -> Iterator[str]:
        """Resume a run, or start one where there is none, and yield its id. The run ends as FINISHED, FAILED or KILLED."""
        started = self._start(experiment, run_id)
        try:
            yield started
        except BaseException as err:
            with suppress(RunError):  # the block's own error is the one to tell
                self._finish(started, "KILLED" if isinstance(err, KeyboardInterrupt) else "FAILED")
            raise
        self._finish(started, "FINISHED")

    def log_parameters(self, run_id: str, tree: Mapping[str, Any]) -> None:
        """Log a nested config as parameters `a.b.c`; logging the same again changes nothing."""
        from mlflow.entities import Param

        parameters = [Param(_key(name), str(value)[:PARAMETER_LENGTH]) for name, value in flatten(tree)]
        with _reported(self):
            for start in range(0, len(parameters), PARAMETERS_A_CALL):
                self.client.log_batch(run_id, params=parameters[start : start + PARAMETERS_A_CALL])

    def log_metrics(self, run_id: str, tree: Mapping[str, Any], step: int = 0) -> None:
        """Log the numbers of a nested dict as metrics `a.b.c`; whatever is not a number is left out."""
        from mlflow.entities import Metric

        now = int(settings.now().timestamp() * 1000)
        numbers = [(name, float(value)) for name, value in flatten(tree) if isinstance(value, int | float)]
        metrics = [Metric(_key(name), value, now, step) for name, value in numbers]
        with _reported(self):
            for start in range(0, len(metrics), METRICS_A_CALL):
                self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])

    def log_files(self, run_id: str, files: Iterable[Path], folder: str | None = None) -> None:
        """Copy files into the run's artifacts, under `folder`."""
        with _reported(self):
            for path in files:
                self.client.log_artifact(run_id, str(path), folder)

    def log_text(self, run_id: str, text: str, name: str) -> None:
        """Write a text file into the run's artifacts."""
        with _reported(self):
            self.client.log_text(run_id, text, name)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with _reported(self):
            for name, value in tags.items():
                self.client.set_tag(run_id, name, value)

    def register(self, name: str, run_id: str, tags: Mapping[str, str], alias: str) -> str:
        """Make the run's artifacts a version of the registered model `name`, once, and move the alias to it."""
        with _reported(self):
            version = self.version_of(name, run_id)
            if version is None:
                if not self.client.search_registered_models(f"name = '{name}'"):
                    self.client.create_registered_model(name)
                source = f"{self.client.get_run(run_id).info.artifact_uri}/{MODEL}"
                version = str(self.client.create_model_version(name, source, run_id).version)
            self.promote(name, version, tags, alias)
            return version

    def promote(self, name: str, version: str, tags: Mapping[str, str], alias: str) -> None:
        """Set tags of a model version and move an alias to it."""
        with _reported(self):
            for key, value in tags.items():
                self.client.set_model_version_tag(name, version, key, value)
            self.client.set_registered_model_alias(name, alias, version)

    def version_of(self, name: str, run_id: str) -> str | None:
        """Return the version of a registered model that was made from a run; None without one."""
        with _reported(self):
            found = self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
            return str(found[0].version) if found else None

    def aliased(self, name: str, alias: str) -> tuple[str, str] | None:
        """Return (version, run id) that an alias of a registered model points to; None without such a model or alias."""
        with _reported(self):
            found = self.client.search_registered_models(f"name = '{name}'")
            version = dict(found[0].aliases).get(alias) if found else None
            if version is None:
                return None
            return str(version), str(self.client.get_model_version(name, str(version)).run_id)

    def challengers(self, name: str, champion: str, version: str) -> int:
        """Count the versions that had their chance against a champion: those registered since, and `version` itself."""
        with _reported(self):
            found = {int(one.version) for one in self.client.search_model_versions(f"name = '{name}'")}
        return len({one for one in found if one > int(champion)} | {int(version)})

    def run_of(self, name: str, version: str) -> str:
        """Return the run that a version of a registered model was made from. Raises RunError."""
        with _reported(self):
            return str(self.client.get_model_version(name, version).run_id)

    def runs_of(self, experiment: str) -> list[str]:
        """Return the ids of an experiment's finished runs, oldest first. Raises RunError without such an experiment."""
        with _reported(self):
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                raise RunError(f"{self.public_uri} has no experiment {experiment!r}")
            pages = self.client.search_runs(
                [found.experiment_id], "attributes.status = 'FINISHED'", order_by=["attributes.start_time"]
            )
            return [str(run.info.run_id) for run in pages]

    def describe(self, run_id: str) -> tuple[str, dict[str, str]]:
        """Return a run's name and its parameters."""
        with _reported(self):
            run = self.client.get_run(run_id)
            return str(run.info.run_name or run_id), dict(run.data.params)

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        """Copy one of a run's files below `folder`, and return its path."""
        with _reported(self):
            (folder / run_id).mkdir(parents=True, exist_ok=True)
            return Path(self.client.download_artifacts(run_id, name, str(folder / run_id)))

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made where there is none. Two processes must not make it at the same time."""
        with _reported(self):
            found = self.client.get_experiment_by_name(name)
            place = self.artifacts.as_uri() if self.artifacts else None
            return str(found.experiment_id if found else self.client.create_experiment(name, artifact_location=place))

    def _start(self, experiment: str, run_id: str | None) -> str:
        with _reported(self):
            if run_id and self._exists(run_id):
                self.client.update_run(run_id, status="RUNNING")
                return run_id
            return str(self.client.create_run(self.experiment(experiment)).info.run_id)

    def _finish(self, run_id: str, status: str) -> None:
        with _reported(self):
            self.client.set_terminated(run_id, status)

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

        try:
            return self.client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as err:
            if err.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            logger.warning("MLflow run %s is not in %s any more; a new one is started", run_id, self.public_uri)
            return False


def _knock(uri: str, wait_s: float) -> None:
    """Open a connection: MLflow's own client takes minutes to give up on an address that leads nowhere."""
    parts = urlsplit(uri)
    deadline, said = time.monotonic() + wait_s, False
    while True:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), KNOCK_TIMEOUT_S).close()
        except (OSError, ValueError) as err:  # ValueError: a port or a name that cannot be one
            if time.monotonic() >= deadline:
                raise TrackingUnreachable(
                    f"no MLflow server answers at {uri} ({err}); check MLFLOW_TRACKING_URI, or unset it for an embedded store"
                ) from err
            if not said:
                logger.info("waiting for the MLflow server at %s (%s)", uri, err)
                said = True
            time.sleep(KNOCK_EVERY_S)
        else:
            return


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings as (`a.b.c`, value), in order. A list is a leaf; a list of mappings is numbered."""
    for key, value in tree.items():
        if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _key(name: str) -> str:
    """A name that MLflow accepts: labels may hold any character, its keys may not."""
    return re.sub(r"[^\w\-. /]", "_", name)


@contextmanager
def _reported(tracker: Tracker) -> Iterator[None]:
    """MLflow's errors, and those of the file system under it, as a RunError that names the store."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as err:
        raise RunError(
            f"MLflow at {tracker.public_uri} refuses: {err}; check MLFLOW_TRACKING_URI (unset, visor keeps its own store), "
            f"then give the same command again: it resumes"
        ) from err
