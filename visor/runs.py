"""Training from Python: a config to a finished run, and a run to a signed archive, as `visor train` and `visor archive` do."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training import config as configs
from training import runs, settings
from visor.outputs import check_run_apart


@dataclass(frozen=True)
class Run:
    """A finished run. `folder`: where its weights, metrics and pages lie."""

    folder: Path

    @property
    def name(self) -> str:
        """The name of the model, as the config has it. Raises RunError."""
        return runs.read_config(self.folder).name

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured on the test split, as metrics.json has it. Raises RunError."""
        return runs.read_finished(self.folder)[1]

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.folder / runs.REPORT

    def archive(
        self,
        private_key: str | os.PathLike[str] | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
        passphrase: str | None = None,
    ) -> Path:
        """Pack and sign the run as the next version in the model store `store`, and return the archive's path.

        `private_key`: the file that `visor keys` writes, by default the environment's VISOR_KEY, else `keys/visor.key`. `store`:
        by default VISOR_STORE, else `model-store`. `passphrase`: the key's own, by default VISOR_KEY_PASSPHRASE. Raises RunError,
        KeyFileError, KeyLocked, ConfigError, DataError.
        """
        from training.jobs.archive import archive

        place = settings.store() if store is None else Path(store)
        key = settings.private_key() if private_key is None else Path(private_key)
        return archive(self.folder, place, key, passphrase=passphrase or settings.key_passphrase())


def train(
    config: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    **overrides: Any,
) -> Run:
    """Train a network by a config and return its run, which goes on where it was interrupted and is left as it is once finished.

    `config`: a YAML file. `overrides`: the config's keys with other values, those of a section as a mapping, such as
    `name="mine", data={"path": "/data/roofs"}`; keys that a mapping leaves out keep their values. `out`: the run's folder, by
    default `home`/NAME; `home`: where runs share data sets, caches and the MLflow store, by default the environment's
    VISOR_HOME, else `runs`. `fresh`: starts over. Raises ConfigError, DataError, RunError, and OutputRefused where `out` or
    `home` lies among the images.
    """
    from training.jobs.train import train as fit  # imports torch

    wanted = configs.load(Path(config), [f"{key}={json.dumps(value, default=str)}" for key, value in flat(overrides)])
    place, folder = settings.home() if home is None else Path(home), None if out is None else Path(out)
    check_run_apart(folder, place, wanted.data.path)
    return Run(fit(wanted, folder or place / wanted.name, place, fresh=fresh))


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value with its key's path, the parts of which a dot joins."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
