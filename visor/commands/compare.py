"""`visor compare` and `visor promote`: runs beside each other, and the champion's alias by the same rule."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from visor.commands.arguments import Commands, add_home, add_public_key, add_store

if TYPE_CHECKING:
    from training.comparison import Rule
    from training.jobs.compare import Places


def add(commands: Commands) -> None:
    """Declare the commands."""
    compare = commands.add_parser(
        "compare", help="runs on the same test images: figures, intervals, tests, and the rule's choice"
    )
    compare.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder or its MLflow id")
    compare.add_argument("--experiment", help="all finished runs of this MLflow experiment, too")
    compare.add_argument("--out", type=Path, metavar="DIR", help="write compare.html, compare.md and compare.json into DIR")
    _add_rule(compare)
    compare.set_defaults(run=_compare)

    promote = commands.add_parser("promote", help="move the alias champion to a version, if the rule says so; else 1 and why not")
    promote.add_argument("name", help="the registered model's name")
    promote.add_argument("--version", help="of the registry (default: the one with the alias candidate)")
    promote.add_argument("--dry-run", action="store_true", help="say what the rule says and move nothing")
    _add_rule(promote)
    promote.set_defaults(run=_promote)


def _add_rule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-fnr", type=float, metavar="SHARE", help="of the positives that may be missed")
    parser.add_argument("--max-latency-ms", type=float, metavar="MS", help="of the archive's own backend, one thread, here")
    parser.add_argument("--no-archives", action="store_true", help="look at no archives, neither for size nor for latency")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    add_public_key(parser)
    add_store(parser)
    add_home(parser)


def _places(args: argparse.Namespace) -> "Places":
    from training.jobs.compare import Places

    return Places(args.home, None if args.no_archives else args.store, args.public_key)


def _rule(args: argparse.Namespace) -> "Rule":
    from training.comparison import Rule

    return Rule(args.max_fnr, args.max_latency_ms)


def _compare(args: argparse.Namespace) -> int:
    from training import comparison_report
    from training.jobs.compare import compare

    found = compare(args.runs, args.experiment, _places(args), _rule(args), args.seed)
    head, rows = comparison_report.table(found)
    for row in rows:
        print(row[0])
        for name, cell in zip(head[1:], row[1:], strict=True):
            print(f"  {name:24}{cell}")
    for sentence in comparison_report.summary(found):
        print(sentence)
    for path in comparison_report.write(found, args.out) if args.out else []:
        print(path)
    return 0


def _promote(args: argparse.Namespace) -> int:
    from training.jobs.compare import promote

    found = promote(args.name, args.version, _places(args), _rule(args), args.seed, args.dry_run)
    said = "is the champion now" if not args.dry_run else "would be the champion"
    if found.version == found.champion:
        print(found.reason)
        return 0
    print(f"{args.name} version {found.version} {said if found.promoted else 'does not become the champion'}: {found.reason}")
    return 0 if found.promoted else 1
