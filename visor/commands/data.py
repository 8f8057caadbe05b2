"""`visor data diff` and `visor data report`."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from handlers.errors import VisorError
from training.settings import home

if TYPE_CHECKING:
    from training.data.versions import Change, Entry

SAME, DIFFERENT, TROUBLE = 0, 1, 2
"""As diff(1) has them."""
SHOWN = 40

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add(verbs: Commands) -> None:
    """Add the verbs to `visor data`."""
    diff = verbs.add_parser("diff", help="tell two versions of a data set apart; exit code 0 for the same, 1 for different")
    diff.add_argument("old", type=Path, metavar="OLD", help="a manifest.json, a run's folder or a folder of images")
    diff.add_argument("new", type=Path, metavar="NEW")
    diff.add_argument("--json", action="store_true", help="print JSON, with every change")
    diff.set_defaults(run=_diff)

    report = verbs.add_parser("report", help="write an HTML page on a data set: balance, sizes, near-duplicates, outliers")
    report.add_argument("source", type=Path, metavar="CONFIG|FOLDER", help="a training config, or a folder of labelled images")
    report.add_argument("--out", type=Path, default=Path("data.html"), metavar="FILE.html", help="(default: %(default)s)")
    report.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value; repeatable")
    report.add_argument("--home", type=Path, default=home(), help="where data and caches are kept (default: %(default)s)")
    report.set_defaults(run=_report)


def _diff(args: argparse.Namespace) -> int:
    from training.data.versions import compare, read_version

    try:
        old, new = read_version(args.old), read_version(args.new)
    except VisorError as err:
        print(f"visor: {err}", file=sys.stderr)
        return TROUBLE
    changes = compare(old, new)
    counts = count(changes)
    if args.json:
        content = {"old_images": len(old), "new_images": len(new), "counts": counts}
        print(json.dumps({**content, "changes": [asdict(change) for change in changes]}, indent=1))
    else:
        _show(changes)
        said = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number) or "no difference"
        print(f"{len(old)} images before, {len(new)} after: {said}")
    return DIFFERENT if changes else SAME


def _report(args: argparse.Namespace) -> int:
    from training.eda import explore
    from training.eda_report import notes, write

    findings = explore(args.source, args.set, args.home)
    write(findings, args.out)
    for note in notes(findings):
        print(note)
    print(args.out)
    return 0


def count(changes: "Sequence[Change]") -> dict[str, int]:
    """How many images each kind of change happened to."""
    from training.data.versions import KINDS

    counted = Counter(kind for change in changes for kind in change.kinds)
    return {kind: counted[kind] for kind in KINDS}


def _show(changes: "Sequence[Change]") -> None:
    if not changes:
        return
    rows = [("what", "before", "after")]
    rows += [(", ".join(change.kinds), _describe(change.old), _describe(change.new)) for change in changes[:SHOWN]]
    what, before = (max(len(row[column]) for row in rows) for column in (0, 1))
    for row in rows:
        print(f"{row[0]:{what}}  {row[1]:{before}}  {row[2]}".rstrip())
    if len(changes) > SHOWN:
        print(f"and {len(changes) - SHOWN} more, which --json lists")


def _describe(entry: "Entry | None") -> str:
    """Path, digest's first digits and split: label is a part of the path."""
    if entry is None:
        return ""
    return f"{entry.path}  {entry.sha256[:8]}" + (f"  {entry.split}" if entry.split else "")
