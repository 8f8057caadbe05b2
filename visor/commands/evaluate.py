"""`visor evaluate`: calibrate and measure a trained run again."""

import argparse
from pathlib import Path

from visor.commands.arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Declare the command."""
    evaluate = add_command(
        commands,
        "evaluate",
        run,
        "Calibrate a trained run, choose its threshold and measure it again, without fitting. Reads the run's weights, config "
        "and images, writes its metrics.json, predictions and report.html anew, and prints the report's path.",
    )
    evaluate.add_argument("folder", type=Path, metavar="RUN", help="folder of the run, as `visor train` printed it")


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print the report's path."""
    from training import runs
    from training.jobs.evaluate import evaluate_run

    evaluate_run(args.folder)
    print(args.folder / runs.REPORT)
    return 0
