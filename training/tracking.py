"""MLflow: what a training was, how it went, what came out, and the registered model that its archive belongs to.

The store is the embedded SQLite file under the home folder, or the server of MLFLOW_TRACKING_URI. Only artifacts are
registered, never a pickled model. MLflow takes two seconds to import, so it is imported where it is first used.
"""

import getpass
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from handlers.errors import VisorError, counted
from training import settings
from training.errors import RunError, TrackingDeleted
from training.names import flatten, keys_of
from training.runs import exclusive
from training.trouble import knock, reported

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

MODEL = "model"
"""The folder of the run's artifacts that a model version points to."""
CANDIDATE, CHAMPION = "candidate", "champion"
"""The aliases of a model's newest trained version, and of the one that `visor promote` or `visor register` chose."""
NAMED = 10
"""The newest versions that an error names where one is asked for that is not there."""
PARAMETERS_A_CALL, METRICS_A_CALL, PARAMETER_LENGTH, DATA_DIGEST_LENGTH = 100, 1000, 6000, 36
"""MLflow's own limits (mlflow.utils.validation)."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The tag of an experiment by which MLflow's page shows models that are trained, and not prompts."""


@dataclass(frozen=True)
class About:
    """What MLflow's page lists of a run beside its user. `source`: the command; `git_commit`: None outside git."""

    name: str
    source: str
    git_commit: str | None = None


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
        embedded = settings.is_embedded(home)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # MLflow's own, of SQLAlchemy
            from mlflow import MlflowClient

            for name in ("alembic", "mlflow"):  # which log every table that they make; MLflow's import sets its own level
                logging.getLogger(name).setLevel(logging.WARNING)
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks of what is told in a sentence
            if embedded and not (home / settings.MLFLOW_DATABASE).exists():
                logger.info("making %s, MLflow's store", home / settings.MLFLOW_DATABASE)
            # Two processes that make the embedded store's tables at the same time would both fail.
            with exclusive(home / ".mlflow.lock") if embedded else nullcontext(), reported(_public(uri)):
                client = MlflowClient(uri, uri)
                if embedded:
                    client.search_experiments(max_results=1)
                    client.search_registered_models(max_results=1)
        return cls(client, uri, (home / "mlartifacts").resolve() if embedded else None)

    @classmethod
    def find(cls, home: Path) -> "Tracker | None":
        """Open the store as `open` does where there is one; None where the embedded one was never made."""
        return None if settings.is_embedded(home) and not (home / settings.MLFLOW_DATABASE).exists() else cls.open(home)

    @property
    def public_uri(self) -> str:
        """The URI without user name and password: what may be written into files."""
        return _public(self.uri)

    @property
    def look(self) -> str:
        """What to type or open to see the runs."""
        return settings.ui_command(self.uri) if self.artifacts else self.public_uri

    def reach(self, wait_s: float = 0.0, experiment: str | None = None) -> None:
        """Find out whether the store answers, and takes runs of an experiment; a server that is starting is waited for.

        Raises TrackingUnreachable, TrackingDeleted (the experiment was deleted), RunError.
        """
        if self.uri.startswith(("http://", "https://")):
            knock(self.public_uri, wait_s)
        with reported(self.public_uri):
            self.client.search_experiments(max_results=1)
            if experiment is not None:
                self._find(experiment)

    @contextmanager
    def running(self, experiment: str, run_id: str | None = None, about: About | None = None) -> Iterator[str]:
        """Resume a run, or start one where there is none, and yield its id. The run ends as FINISHED, FAILED or KILLED."""
        started = self._start(experiment, run_id, about or About(experiment, "visor"))
        try:
            yield started
        except BaseException as err:
            with suppress(VisorError):  # the block's own error is the one to tell
                self._finish(started, "KILLED" if isinstance(err, KeyboardInterrupt) else "FAILED")
            raise
        self._finish(started, "FINISHED")

    def log_parameters(self, run_id: str, tree: Mapping[str, Any]) -> None:
        """Log a nested config as parameters `a.b.c`; logging the same again changes nothing."""
        from mlflow.entities import Param

        leaves = dict(flatten(tree))
        keys = keys_of(leaves)
        parameters = [Param(keys[name], str(value)[:PARAMETER_LENGTH]) for name, value in leaves.items()]
        with reported(self.public_uri):
            for start in range(0, len(parameters), PARAMETERS_A_CALL):
                self.client.log_batch(run_id, params=parameters[start : start + PARAMETERS_A_CALL])

    def log_metrics(self, run_id: str, tree: Mapping[str, Any], step: int = 0) -> None:
        """Log the numbers of a nested dict as metrics `a.b.c`; whatever is not a number is left out."""
        from mlflow.entities import Metric

        now = int(settings.now().timestamp() * 1000)
        numbers = {name: float(value) for name, value in flatten(tree) if isinstance(value, int | float)}
        keys = keys_of(numbers)
        metrics = [Metric(keys[name], value, now, step) for name, value in numbers.items()]
        with reported(self.public_uri):
            for start in range(0, len(metrics), METRICS_A_CALL):
                self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])

    def log_data(self, run_id: str, name: str, digest: str, place: str, counts: Mapping[str, int]) -> None:
        """Log the data set that is learnt from; logging the same again changes nothing. `counts`: images, by split."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source, profile = json.dumps({"uri": place}), json.dumps({"images": sum(counts.values()), **counts})
        data = Dataset(name, digest[:DATA_DIGEST_LENGTH], "local", source, profile=profile)
        with reported(self.public_uri):
            self.client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def log_files(self, run_id: str, files: Iterable[Path], folder: str | None = None) -> None:
        """Copy files into the run's artifacts, under `folder`."""
        with reported(self.public_uri):
            for path in files:
                self.client.log_artifact(run_id, str(path), folder)

    def log_text(self, run_id: str, text: str, name: str) -> None:
        """Write a text file into the run's artifacts."""
        with reported(self.public_uri):
            self.client.log_text(run_id, text, name)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with reported(self.public_uri):
            for name, value in tags.items():
                self.client.set_tag(run_id, name, value)

    def register(self, name: str, run_id: str, tags: Mapping[str, str], alias: str) -> str:
        """Make the run's artifacts a version of the registered model `name`, once, and move the alias to it."""
        with reported(self.public_uri):
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
        with reported(self.public_uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(name, version, key, value)
            self.client.set_registered_model_alias(name, alias, version)

    def version_of(self, name: str, run_id: str) -> str | None:
        """Return the version of a registered model that was made from a run; None without one."""
        with reported(self.public_uri):
            found = self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
            return str(found[0].version) if found else None

    def aliased(self, name: str, alias: str) -> tuple[str, str] | None:
        """Return (version, run id) that an alias of a registered model points to; None without such a model or alias."""
        with reported(self.public_uri):
            found = self.client.search_registered_models(f"name = '{name}'")
            version = dict(found[0].aliases).get(alias) if found else None
            if version is None:
                return None
            return str(version), str(self.client.get_model_version(name, str(version)).run_id)

    def models(self) -> list[str]:
        """List the names of the registered models."""
        with reported(self.public_uri):
            return sorted(str(one.name) for one in self.client.search_registered_models())

    def challengers(self, name: str, champion: str, version: str) -> int:
        """Count the versions that had their chance against a champion: those registered since, and `version` itself."""
        with reported(self.public_uri):
            found = {int(one.version) for one in self.client.search_model_versions(f"name = '{name}'")}
        return len({one for one in found if one > int(champion)} | {int(version)})

    def run_of(self, name: str, version: str) -> str:
        """Return the run that a version of a registered model was made from. Raises RunError."""
        with reported(self.public_uri):
            found = {str(one.version): str(one.run_id) for one in self.client.search_model_versions(f"name = '{name}'")}
        if not found:
            known = f" (it has {', '.join(models)})" if (models := self.models()) else ""
            raise RunError(
                f"{self.public_uri} has no version of {name}{known}; name a model whose run `visor train` has finished"
            )
        if version not in found:
            newest = sorted(map(int, found))[-NAMED:]
            earlier = f", and {counted(len(found) - NAMED, 'older version')}" if len(found) > NAMED else ""
            raise RunError(
                f"{self.public_uri} has no version {version!r} of {name}; it has {', '.join(map(str, newest))}{earlier}"
            )
        return found[version]

    def runs_of(self, experiment: str) -> list[str]:
        """Return the ids of an experiment's finished runs, oldest first. Raises RunError without such an experiment."""
        with reported(self.public_uri):
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                raise RunError(f"{self.public_uri} has no experiment {experiment!r}")
            pages = self.client.search_runs(
                [found.experiment_id], "attributes.status = 'FINISHED'", order_by=["attributes.start_time"]
            )
            return [str(run.info.run_id) for run in pages]

    def describe(self, run_id: str) -> tuple[str, dict[str, str]]:
        """Return a run's name and its parameters."""
        with reported(self.public_uri):
            run = self.client.get_run(run_id)
            return str(run.info.run_name or run_id), dict(run.data.params)

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        """Copy one of a run's files below `folder`, and return its path."""
        with reported(self.public_uri):
            (folder / run_id).mkdir(parents=True, exist_ok=True)
            return Path(self.client.download_artifacts(run_id, name, str(folder / run_id)))

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made where there is none. Two processes must not make it at the same time."""
        with reported(self.public_uri):
            if found := self._find(name):
                return found
            place = self.artifacts.as_uri() if self.artifacts else None
            return str(self.client.create_experiment(name, artifact_location=place, tags=KIND))

    def _find(self, experiment: str) -> str | None:
        """The experiment's id, None where there is none yet. Raises TrackingDeleted."""
        found = self.client.get_experiment_by_name(experiment)
        if found and found.lifecycle_stage != "active":
            raise TrackingDeleted(
                f"the experiment {experiment!r} was deleted in {self.public_uri}, which keeps its name; restore it by "
                f"`MLFLOW_TRACKING_URI={self.public_uri} mlflow experiments restore --experiment-id {found.experiment_id}`, or "
                "give the config another name"
            )
        return str(found.experiment_id) if found else None

    def _start(self, experiment: str, run_id: str | None, about: About) -> str:
        with reported(self.public_uri):
            if run_id and self._exists(run_id):
                self.client.update_run(run_id, status="RUNNING")
                return run_id
            tags = {"mlflow.source.name": about.source, "mlflow.source.type": "LOCAL"}
            with suppress(OSError, KeyError):  # a user without a name, as containers have
                tags["mlflow.user"] = getpass.getuser()
            if about.git_commit:
                tags["mlflow.source.git.commit"] = about.git_commit
            started = self.client.create_run(self.experiment(experiment), tags=tags, run_name=about.name)
            return str(started.info.run_id)

    def _finish(self, run_id: str, status: str) -> None:
        with reported(self.public_uri):
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


def _public(uri: str) -> str:
    """An address without user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri
