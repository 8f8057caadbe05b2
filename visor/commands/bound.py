"""`visor bound`: try a bound on missed images on random splits of a run's own images."""

import argparse
from pathlib import Path

from visor.commands.arguments import Commands, add_command, inner_share, positive, seed


def add(commands: Commands) -> None:
    """Declare the command."""
    bound = add_command(
        commands,
        "bound",
        run,
        "Try how well a run's bound on missed positive images holds on random splits into calibration and test images. Reads "
        "the answers that the run saved, repeats the choice of the threshold on each split, writes bound.md and bound.png, and "
        "prints a table of the shares of positive images that were missed.",
    )
    bound.add_argument(
        "folder", type=Path, metavar="RUN", help="folder of an evaluated run whose config names decision.positive labels"
    )
    bound.add_argument(
        "--level",
        type=inner_share,
        metavar="SHARE",
        help="largest share of positive images that may be missed, between 0 and 1 "
        "(default: the run's decision.max_fnr, otherwise 0.05)",
    )
    bound.add_argument(
        "--confidence",
        type=inner_share,
        metavar="PROBABILITY",
        help="probability, over the draw of the calibration images, with which the bound is to hold, between 0 and 1 "
        "(default: the run's decision.max_fnr_confidence, or none with --level: the bound holds on average)",
    )
    bound.add_argument("--splits", type=positive, default=1000, help="number of random splits to draw (default: %(default)s)")
    bound.add_argument("--seed", type=seed, default=0, help="seed of the random splits (default: %(default)s)")
    bound.add_argument("--out", type=Path, metavar="FOLDER", help="folder for bound.md and bound.png (default: the run's folder)")


def run(args: argparse.Namespace) -> int:
    """Try the bound, and print the table."""
    from training.jobs.bound import bound
    from visor.outputs import check_folder

    if args.out:
        check_folder(args.out)
    print(bound(args.folder, args.level, args.splits, args.seed, args.out or args.folder, args.confidence), end="")
    return 0
