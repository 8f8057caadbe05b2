"""What a home and a model store hold: runs and archives with what they are worth, and the aliases that the registry gave."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from archives import store
from archives.contents import read
from handlers.errors import VisorError, counted
from training import runs, settings
from visor.figures import figures

Aliases = Mapping[str, tuple[str, ...]]
State = Literal["finished", "fitted", "begun", "archived", "unreadable"]


@dataclass(frozen=True)
class Listed:
    """A run or an archive.

    `version`: the registry's of a run, the store's of an archive. `when`: the last change, or the archive's own time. `what`: the
    state in words, or the size. `run_id`: MLflow's, by which an archive and its run know each other, and an alias both.
    """

    kind: Literal["run", "archive"]
    path: str
    name: str
    version: str | None
    when: str
    state: State
    what: str
    labels: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    run_id: str | None = None


def overview(home: Path, model_store: Path) -> list[Listed]:
    """List the runs below `home`, the newest first, then the archives of the store by name and version."""
    aliases = registered_aliases(home / "mlflow.db")
    found = sorted(_runs(home, aliases), key=lambda one: one.when, reverse=True)
    return [*found, *_newest_aliased(list(_archives(model_store, aliases)))]


def _newest_aliased(archives: Sequence[Listed]) -> Iterator[Listed]:
    """Leave a run's aliases to the newest archive of it: `visor archive` may have packed it several times."""
    newest: dict[str | None, str] = {
        one.run_id: one.path for one in archives if one.run_id
    }  # by name and version, the later ones last
    for one in archives:
        yield one if newest.get(one.run_id) == one.path else replace(one, aliases=())


def registered_aliases(database: Path) -> dict[str, tuple[str, ...]]:
    """Return the aliases in the embedded registry by their version's run; none where there is none, or a server has it.

    Read from its tables, as MLflow takes seconds to import.
    """
    found: dict[str, tuple[str, ...]] = {}
    if not database.is_file() or not settings.is_embedded(database.parent):
        return found
    query = (
        "SELECT a.alias, v.run_id FROM registered_model_aliases a JOIN model_versions v "
        "ON v.name = a.name AND v.version = a.version ORDER BY a.alias"
    )
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{_quoted(database)}?mode=ro", uri=True)) as connection:
        for alias, run_id in connection.execute(query):
            found[run_id] = (*found.get(run_id, ()), alias)
    return found


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _runs(home: Path, aliases: Aliases) -> Iterator[Listed]:
    for record in sorted(home.glob(f"*/{runs.RECORD}")):
        yield _run(record.parent, aliases)


def _run(run: Path, aliases: Aliases) -> Listed:
    when = datetime.fromtimestamp((run / runs.RECORD).stat().st_mtime, UTC).isoformat(timespec="seconds")
    try:
        record, epochs = runs.read_record(run), len(runs.read_history(run))
        name = str(yaml.safe_load((run / runs.CONFIG).read_text())["name"])
    except (VisorError, ValueError, OSError, KeyError, TypeError, yaml.YAMLError) as err:
        return Listed("run", str(run), run.name, None, when, "unreadable", str(err))
    state: State
    state, what = "begun", f"{record.job}, not finished; the same command goes on"
    if not runs.has_epoch(run):
        what = f"{record.job}, {runs.UNLEARNT}; the same command begins again, and says why"
    if record.job == "pretrain" and record.weights_digest:
        state, what = "finished", f"pretrained, {counted(epochs, 'epoch')}"
    elif record.job == "train" and runs.is_finished(run):
        state, what = "finished", f"{counted(epochs, 'epoch')}, version {record.model_version} of {name}"
    elif record.weights_digest:
        state, what = "fitted", f"{counted(epochs, 'epoch')}, not evaluated and registered yet; the same command goes on"
    return Listed(
        *("run", str(run), name, record.model_version, when, state, what),
        labels=tuple(_read(run / runs.MANIFEST).get("labels", ())),
        figures=figures(_read(run / runs.METRICS)),
        aliases=aliases.get(record.mlflow_run_id, ()),
        run_id=record.mlflow_run_id,
    )


def _archives(model_store: Path, aliases: Aliases) -> Iterator[Listed]:
    """Each archive as it says itself that it is; whether its signature holds is for `visor inspect` to find out."""
    names = sorted(path.name for path in model_store.iterdir()) if model_store.is_dir() else []
    for name in names:
        for version in store.versions(model_store, name):
            path = store.path_of(model_store, name, version)
            when = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
            try:
                contents = read(path)
            except VisorError as err:
                yield Listed("archive", str(path), name, version, when, "unreadable", str(err))
                continue
            spec, lineage = contents.spec, contents.lineage
            yield Listed(
                *("archive", str(path), name, version, lineage.created.isoformat(timespec="seconds"), "archived"),
                f"{contents.size / 1e6:.1f} MB, answers by {spec.backend}",
                labels=spec.labels,
                figures=figures(lineage.metrics),
                aliases=aliases.get(lineage.mlflow_run_id, ()),
                run_id=lineage.mlflow_run_id,
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
