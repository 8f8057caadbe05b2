"""`visor compare`: set runs beside each other; and the rule's flags, which `visor promote` shares."""

import argparse
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from visor.commands.arguments import Commands, add_command, add_home, add_public_key, add_store, seed, share

if TYPE_CHECKING:
    from training.jobs.compare import ComparePaths
    from training.selection.comparison import Rule

WIDTH = 120
"""Columns where no terminal says how many there are."""


def add(commands: Commands) -> None:
    """Declare the command."""
    compare = add_command(
        commands,
        "compare",
        run,
        "Compare runs on the same test images, with the registry's champion among them. Reads the runs' saved answers and their "
        "newest archives, and prints each run's figures with 95 % intervals and tests against the champion, then the run that "
        "the rule chooses: of those shown to be within --max-fnr and --max-latency-ms, the one with the least expected cost, "
        "a reviewed image at the price of a look.",
    )
    compare.add_argument(
        "runs", nargs="*", metavar="RUN", help="folder of a run, or its MLflow run id; name one at least, or --experiment"
    )
    compare.add_argument(
        "--experiment", metavar="NAME", help="MLflow experiment all of whose finished runs are compared, too (default: none)"
    )
    compare.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for compare.html, compare.md and compare.json (default: no files are written)",
    )
    compare.add_argument(
        "--sealed",
        action="store_true",
        help="have the chosen run answer the sealed split of its data set (data.splits.sealed), whose figures no choice has "
        "flattered, and write them into sealed.json in its folder; once it is opened, it is sealed no more (default: leave it)",
    )
    compare.add_argument(
        "--audits",
        action="store_true",
        help="have every run whose folder is named answer the audits that `visor data from-reviews` put into a run's data set, "
        "labelled pictures of a random share of what a server was asked, and print their figures beside each other "
        "(default: leave them)",
    )
    add_rule(compare)


def add_rule(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `paths_of` and `rule_of` read."""
    parser.add_argument(
        "--max-fnr",
        type=share,
        metavar="SHARE",
        help="largest share of positive images, from 0 to 1, that a run may miss (false negative rate); the upper limit of "
        "confidence (95 %%) of its rate on the test images must be within it, so that 59 positive images without a miss are "
        "needed for 0.05; a run without positive labels breaks the limit (default: no limit)",
    )
    parser.add_argument(
        "--max-latency-ms",
        type=_duration,
        metavar="MS",
        help="largest median latency of one answer in milliseconds, measured on this machine by one thread with the inference "
        "library that the run's archive is served with; the interval of the median must be within it, and a run without an "
        "archive breaks the limit (default: no limit)",
    )
    parser.add_argument(
        "--no-archives",
        action="store_true",
        help="leave the archives out, and with them size and latency; every run then breaks --max-latency-ms "
        "(default: read each run's newest archive)",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, help="seed of the bootstrap that draws the intervals (default: %(default)s)"
    )
    add_public_key(parser)
    add_store(parser)
    add_home(parser)


def _duration(text: str) -> float:
    duration = float(text)
    if not 0 < duration < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return duration


def paths_of(args: argparse.Namespace) -> "ComparePaths":
    """Take from the command line where runs and archives are."""
    from training.jobs.compare import ComparePaths

    return ComparePaths(args.home, None if args.no_archives else args.store, args.public_key)


def rule_of(args: argparse.Namespace) -> "Rule":
    """Take the rule's limits from the command line."""
    from training.selection.comparison import Rule

    return Rule(args.max_fnr, args.max_latency_ms)


def run(args: argparse.Namespace) -> int:
    """Compare, print the figures and the choice, and write the pages that --out asks for."""
    from training.jobs.compare import compare
    from training.reports import comparison
    from visor.outputs import check_folder

    if args.out:
        check_folder(args.out)
    found = compare(args.runs, args.experiment, paths_of(args), rule_of(args), args.seed, sealed=args.sealed, audits=args.audits)
    for line in comparison.text(found, shutil.get_terminal_size((WIDTH, 24)).columns):
        print(line)
    for sentence in comparison.summary(found):
        print(sentence)
    for path in comparison.write(found, args.out) if args.out else []:
        print(path)
    return 0
