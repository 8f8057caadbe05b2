"""`visor list`: the runs and archives that are there."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visor.commands.arguments import Commands, add_command, add_home, add_store

if TYPE_CHECKING:
    from visor.overview import Listed

LABELS = 40
"""Characters of the labels in a line, at most."""


def add(commands: Commands) -> None:
    """Declare the command."""
    listed = add_command(
        commands,
        "list",
        run,
        "List the runs in --home and the archives in --store with their state, date, labels and key figures. COST is the "
        "expected cost of an image, a reviewed one at the price of a look, as `visor compare` has it. The aliases that the "
        "embedded registry gave to a run's version stand beside the run, and beside the newest of its archives; a tracking "
        "server is not asked, and no signature is verified, which `visor inspect` does.",
    )
    listed.add_argument("--json", action="store_true", help="print one JSON list with every label (default: text to read)")
    add_home(listed)
    add_store(listed)


def run(args: argparse.Namespace) -> int:
    """List, one run or archive a line."""
    from archives.errors import StoreError
    from training.errors import RunError
    from visor.overview import overview

    # Those that nobody named are made by the first training.
    if not args.home.is_dir() and args.home != Path("runs"):
        raise RunError(f"{args.home} is no folder; name another by --home or VISOR_HOME")
    if not args.store.is_dir() and args.store != Path("model-store"):
        raise StoreError(f"{args.store} is no folder; name another by --store or VISOR_STORE")
    found = overview(args.home, args.store)
    if args.json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
        return 0
    rows = [("RUN OR ARCHIVE", "WHEN (UTC)", "STATE", "ACCURACY", "FNR", "COST", "LABELS", ""), *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows if found else ():
        print("  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip())
    if not found:
        print(f"no run in {args.home.absolute()}, no archive in {args.store.absolute()}; `visor train` makes a run")
    return 0


def _row(one: "Listed") -> Sequence[str]:
    names = ("accuracy", "fnr", "expected_cost_with_review")
    figures = [f"{one.figures[name]:.4f}" if name in one.figures else "" for name in names]
    labels = f"{len(one.labels)}: {', '.join(one.labels)}" if one.labels else ""
    labels = labels if len(labels) <= LABELS else f"{labels[: LABELS - 3]}..."
    what = " ".join([*(f"@{alias}" for alias in one.aliases), one.what.partition("\n")[0]])
    return one.path, one.when[:16].replace("T", " "), one.state, *figures, labels, what
