"""`visor bound`: a bound on missed images, tried on random splits of a run's own images."""

import argparse
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add(commands: Commands) -> None:
    """Declare the command."""
    bound = commands.add_parser("bound", help="try a run's bound on missed images on random calibration and test splits")
    bound.add_argument("folder", type=Path, metavar="RUN", help="the run's folder; its config names decision.positive")
    bound.add_argument("--level", type=_level, help="share that may be missed (default: the run's decision.max_fnr, else 0.05)")
    bound.add_argument("--splits", type=int, default=1000, help="how many splits to draw (default: %(default)s)")
    bound.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    bound.add_argument("--out", type=Path, help="folder for bound.md and bound.png (default: the run's)")
    bound.set_defaults(run=_bound)


def _bound(args: argparse.Namespace) -> int:
    from training.jobs.bound import bound

    print(bound(args.folder, args.level, args.splits, args.seed, args.out or args.folder), end="")
    return 0


def _level(text: str) -> float:
    level = float(text)
    if not 0 < level < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return level
