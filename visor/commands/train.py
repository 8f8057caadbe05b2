"""`visor train`: fit and evaluate a network by a config."""

import argparse
import logging
import shlex
from pathlib import Path

from training.settings import private_key, rank
from visor.commands.arguments import CONFIG, Commands, add_command, add_fresh, add_home, add_set

logger = logging.getLogger(__name__)


def add(commands: Commands) -> None:
    """Declare the command."""
    train = add_command(
        commands,
        "train",
        run,
        "Train a network by a config: fit, calibrate, choose the threshold, evaluate and track in MLflow. Reads the config "
        "and its images, writes weights, metrics.json and report.html into the run's folder, registers the weights in "
        "MLflow's registry as a new version with the alias candidate, and prints the folder. An interrupted run resumes from "
        "its last checkpoint; a finished one is left as it is.",
        resumes=True,
    )
    train.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG)
    train.add_argument("--out", type=Path, metavar="RUN", help="folder of the run to write (default: HOME/NAME of the config)")
    add_fresh(train)
    add_set(train)
    add_home(train)


def run(args: argparse.Namespace) -> int:
    """Train, and print the run's folder."""
    from training import config
    from visor.outputs import check_run_apart

    settings = config.load(args.config, args.set)
    check_run_apart(args.out, args.home, settings.data.path)
    args.begun = True
    out = args.out or args.home / settings.name
    if not rank():
        logger.info("training %s, in %s: reading the images comes first", settings.name, out)
    from training.jobs.train import train  # seconds of import, which a mistyped config need not wait for

    folder = train(settings, out, args.home, fresh=args.fresh)
    if not rank():  # the first of torchrun's processes has written the run
        if folder.name != settings.name:
            logger.info("archives of it are called %s, by the config's name, and not %s", settings.name, folder.name)
        keys = "" if private_key().is_file() else "visor keys; "
        logger.info("%-8s %svisor archive %s", "next", keys, shlex.quote(str(folder)))
        print(folder)
    return 0
