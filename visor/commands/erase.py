"""`visor data erase`: one picture out of runs, caches, MLflow and reports, and what archives have of it."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from visor.commands.arguments import Commands, add_command, add_home, add_store

if TYPE_CHECKING:
    from training.jobs.erase import Erasure

DONE = {"remove": "removed", "rewrite": "rewritten", "left": "left", "learnt": "learnt", "alike": "alike"}
TO_DO = {**DONE, "remove": "remove", "rewrite": "rewrite"}
"""What the first column says of each action, after it and before it."""


def add(verbs: Commands) -> None:
    """Declare the verb."""
    erase = add_command(
        verbs,
        "erase",
        run,
        "Remove a picture from all that trainings have left of it: files, caches, pages, answers, manifests, MLflow. Says what "
        "goes, what only another training takes away (weights, and signed archives, which are not changed), and which pictures "
        "look alike. Without --yes nothing is changed; interrupted, the same command goes on.",
        resumes=True,
    )
    erase.add_argument(
        "pictures",
        nargs="+",
        metavar="FILE|SHA256",
        help="the picture: a file with the same bytes, or its SHA-256 as manifests list it, of which 8 digits are enough",
    )
    erase.add_argument("--yes", action="store_true", help="do it (default: say what would be done)")
    erase.add_argument(
        "--also",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder beside HOME that is searched and cleaned, too, such as one of reports, scores or drawings; may be given "
        "several times (default: none)",
    )
    erase.add_argument(
        "--originals",
        action="store_true",
        help="remove the picture from data sets outside of HOME, too, and its mask (default: their files are named and left)",
    )
    erase.add_argument("--json", action="store_true", help="print JSON (default: lines for people)")
    add_store(erase, "; archives are read and never changed")
    add_home(erase)


def run(args: argparse.Namespace) -> int:
    """Erase, or say what would be erased."""
    from training.jobs.erase import ErasurePlaces, erase

    def begin(what: str, sha256: str) -> None:
        if args.yes:
            print(f"erasing {what}, SHA-256 {sha256}", file=sys.stderr, flush=True)

    args.begun = args.yes  # without it nothing is changed
    erased = erase(args.pictures, ErasurePlaces(args.home, args.store, tuple(args.also), args.originals), args.yes, begin)
    if args.json:
        print(json.dumps({"done": args.yes, "pictures": [asdict(one) for one in erased]}, indent=1))
        return 0
    for one in erased:
        _show(one, args.yes)
    if not args.yes and any(finding.action in {"remove", "rewrite"} for one in erased for finding in one.findings):
        print("nothing was changed; the same command with --yes does it", file=sys.stderr)
    return 0


def _show(erased: "Erasure", done: bool) -> None:
    names = f" ({', '.join(erased.paths)})" if erased.paths else ""
    print(f"{erased.sha256}{names}")
    words = DONE if done else TO_DO
    for finding in sorted(erased.findings, key=lambda finding: list(DONE).index(finding.action)):
        print(f"  {words[finding.action]:9}  {finding.place}  {finding.what}")
    if not erased.findings:
        print("  nothing of it was found")
