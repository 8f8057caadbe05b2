"""`visor pretrain`: learn a backbone from images without their labels."""

import argparse
import logging
from pathlib import Path

from visor.commands.arguments import CONFIG, Commands, add_command, add_fresh, add_home, add_set

logger = logging.getLogger(__name__)


def add(commands: Commands) -> None:
    """Declare the command."""
    pretrain = add_command(
        commands,
        "pretrain",
        run,
        "Learn features from the training images without their labels. Reads the config and its images, writes a backbone into "
        "the run's folder, and prints the backbone's path, which another config names as model.pretrained; an interrupted run "
        "resumes from its last checkpoint.",
        resumes=True,
    )
    pretrain.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG)
    pretrain.add_argument(
        "--out", type=Path, metavar="RUN", help="folder of the run to write (default: HOME/NAME-pretrain, NAME from the config)"
    )
    add_fresh(pretrain)
    add_set(pretrain)
    add_home(pretrain)


def run(args: argparse.Namespace) -> int:
    """Pretrain, and print the backbone's path."""
    from training import config
    from visor.outputs import check_run_apart

    settings = config.load(args.config, args.set)
    check_run_apart(args.out, args.home, settings.data.path)
    args.begun = True
    out = args.out or args.home / f"{settings.name}-pretrain"
    logger.info("pretraining %s, in %s: reading the images comes first", settings.name, out)
    from training.jobs.pretrain import pretrain  # seconds of import, which a mistyped config need not wait for

    print(pretrain(settings, out, args.home, fresh=args.fresh))
    return 0
