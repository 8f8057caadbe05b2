"""Runs beside each other and beside the registry's champion; and that alias, moved where the rule says so."""

import logging
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from archives.names import close_to
from training import runs, settings
from training.errors import CompareError, RunError
from training.jobs.audits import answer_audits
from training.jobs.fresh import settle
from training.jobs.sealed import open_sealed
from training.progress import show_progress
from training.selection import comparison
from training.selection.candidates import from_folder, from_mlflow, with_archives
from training.selection.comparison import Candidate, Comparison, Row, Rule, Versus
from training.tracking import CANDIDATE, CHAMPION, Tracker

logger = logging.getLogger(__name__)

MLFLOW_ID = re.compile("[0-9a-f]{32}")
"""How MLflow names a run."""
NO_STORE = "it is not there, and the first `visor train` makes it; name the folder that has it by --home"


@dataclass(frozen=True)
class ComparePaths:
    """Where a comparison reads: the home of the embedded MLflow store, the model store (None: no archives) and the public key."""

    home: Path
    store: Path | None
    public_key: Path


def compare(
    runs: Sequence[str],
    experiment: str | None,
    places: ComparePaths,
    rule: Rule,
    seed: int,
    resamples: int = comparison.RESAMPLES,
    sealed: bool = False,
    audits: bool = False,
) -> Comparison:
    """Compare runs, by folder or MLflow id, all of an experiment, and the champion of their name in the registry.

    `sealed`: whether the chosen run answers the sealed split, too; `audits`: whether all answer the audits. Raises RunError (no
    such run, or none with predictions), CompareError (they cannot be compared), ArchiveRefused, DataError (images of the sealed
    split that are gone or changed).
    """
    with tempfile.TemporaryDirectory(prefix="visor-compare-") as scratch:
        tracker = Tracker.find(places.home)
        if experiment and tracker is None:
            raise RunError(f"{settings.embedded_uri(places.home)} has no experiment {experiment!r}; {NO_STORE}")
        wanted = [*runs, *(tracker.runs_of(experiment) if experiment and tracker else [])]
        found: dict[str, Candidate] = {}
        for what in wanted:
            one = _candidate(what, tracker, Path(scratch), places.home)
            found.setdefault(one.run_id, one)
        if not found:
            raise CompareError("nothing to compare: name runs by folder or MLflow id, or an --experiment")
        name = next(iter(found.values())).spec.name
        champion = _champion(tracker, name, found, Path(scratch)) if tracker else None
    candidates = list(found.values())
    comparison.check_comparable(candidates)
    if places.store is not None:
        candidates = with_archives(candidates, places.store, places.public_key)
    drawn = comparison.resamples(len(candidates[0].truth), resamples, seed, comparison.groups_of(candidates))
    reference = next((one for one in candidates if one.run_id == champion), None)
    challengers = [one for one in candidates if reference is not None and one is not reference]
    level = comparison.FAMILY / max(1, len(challengers))
    figures, beside = {}, list[Versus]()
    for one in show_progress(candidates, len(candidates), "resampling"):
        figures[one.run_id] = comparison.intervals(one, drawn)
        if reference is not None and one is not reference:
            beside.append(comparison.versus(one, reference, drawn, level, seed))
    tested = dict(zip((one.run_id for one in challengers), comparison.family(beside), strict=True))
    rows = [Row(one, figures[one.run_id], tested.get(one.run_id), rule.objections(one)) for one in candidates]
    chosen = rule.choose(candidates)
    made = Comparison(rule, rows, reference.name if reference else None, chosen.name if chosen else None, seed, resamples)
    made = replace(made, audits=answer_audits(made)) if audits else made
    return replace(made, sealed=open_sealed(made)) if sealed else made


def _candidate(what: str, tracker: Tracker | None, scratch: Path, home: Path) -> Candidate:
    """Read a run by its folder, or by its id in MLflow."""
    run = Path(what)
    if not run.is_dir():
        if not MLFLOW_ID.fullmatch(what):
            raise RunError(f"{what} is no run's id in MLflow, and {runs.missing(run, home=home).args[0]}")
        if tracker is None:
            raise RunError(f"{settings.embedded_uri(home)} has no run {what}; {NO_STORE}")
        return from_mlflow(tracker, what, scratch)
    settle(run)
    if not (run / runs.RECORD).is_file():
        raise runs.missing(run, home=home)
    return from_folder(run)


def _champion(tracker: Tracker, name: str, found: dict[str, Candidate], scratch: Path) -> str | None:
    """The run of the registry's champion, which is added where it is not there; None where there is none to compare with."""
    aliased = tracker.aliased(name, CHAMPION)
    if aliased is None:
        return None
    if aliased[1] not in found:
        try:
            found[aliased[1]] = from_mlflow(tracker, aliased[1], scratch)
        except RunError as err:
            logger.warning("%s@%s is left out: %s", name, CHAMPION, err)
            return None
    return aliased[1]


def _unknown(known: Sequence[str], name: str) -> str:
    """Say what a registry of these models has not: a candidate of the model, or the model, and which one may be meant."""
    if name in known:
        return f"{name}@{CANDIDATE}; train one, or name a version"
    if (Path(name) / runs.RECORD).is_file():
        return f"model named {name!r}, which is the folder of a run; its model is {runs.read_config(Path(name)).name}"
    close = close_to(name, known)
    meant = f"; did you mean {close}?" if close else ""
    held = f"it has {', '.join(known)}" if known else "it has none, and `visor train` registers one"
    return f"model named {name!r} ({held}){meant}"


@dataclass(frozen=True)
class Promotion:
    """What the rule says about a version: whether it may take the champion's place, and the reason in words."""

    version: str
    champion: str | None
    promoted: bool
    reason: str
    versus: Versus | None


def promote(name: str, version: str | None, places: ComparePaths, rule: Rule, seed: int, dry_run: bool = False) -> Promotion:
    """Move the alias `champion` of a registered model to a version, by default the candidate's, if the rule says so.

    Each version that was registered since the champion's is a challenger, so that the more were tried the surer the next one
    must be (`comparison.spent`).

    Raises RunError (no such version, runs without predictions), CompareError (they cannot be compared), ArchiveRefused.
    """
    tracker = Tracker.find(places.home)
    if tracker is None:
        raise RunError(f"{settings.embedded_uri(places.home)} has no {_unknown([], name)}")
    challenger = (version, tracker.run_of(name, version)) if version else tracker.aliased(name, CANDIDATE)
    if challenger is None:
        raise RunError(f"{tracker.public_uri} has no {_unknown(tracker.models(), name)}")
    champion = tracker.aliased(name, CHAMPION)
    if champion and champion[0] == challenger[0]:
        return Promotion(challenger[0], champion[0], False, f"version {champion[0]} is the champion already", None)
    with tempfile.TemporaryDirectory(prefix="visor-compare-") as scratch:
        # MLflow's runs of one model may all have its name.
        both = [(from_mlflow(tracker, one[1], Path(scratch)), one[0]) for one in (challenger, champion) if one]
    loaded = [replace(one, name=f"{name} version {number}") for one, number in both]
    if places.store is not None:
        loaded = with_archives(loaded, places.store, places.public_key)
    contender, holder = loaded[0], loaded[1] if champion else None
    level, beside = comparison.FAMILY, None
    if champion and holder:
        level = comparison.spent(tracker.challengers(name, champion[0], challenger[0]))
        drawn = comparison.resamples(len(contender.truth), seed=seed, groups=comparison.groups_of([contender, holder]))
        beside = comparison.versus(contender, holder, drawn, level, seed)
    better, reason = rule.judge(contender, holder, beside, level)
    if better and not dry_run:
        tags = {"promoted": reason}
        if contender.archive:
            tags |= {"archive_digest": contender.archive.digest, "archive_version": contender.archive.version}
        tracker.promote(name, challenger[0], tags, CHAMPION)
    return Promotion(challenger[0], champion[0] if champion else None, better, reason, beside)
