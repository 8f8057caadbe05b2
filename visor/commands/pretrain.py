"""`visor pretrain`: a backbone from images without their labels."""

import argparse
from pathlib import Path

from visor.commands.arguments import Commands, add_home, add_set


def add(commands: Commands) -> None:
    """Declare the command."""
    pretrain = commands.add_parser(
        "pretrain", help="learn features from the training images without labels, for model.pretrained"
    )
    pretrain.add_argument("config", type=Path, help="such as training/configs/roofs-pretrain.yaml")
    pretrain.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (default: HOME/NAME-pretrain)")
    pretrain.add_argument("--fresh", action="store_true", help="start over, even where a checkpoint could be resumed")
    add_set(pretrain)
    add_home(pretrain)
    pretrain.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from training import config
    from training.jobs.pretrain import pretrain

    settings = config.load(args.config, args.set)
    print(pretrain(settings, args.out or args.home / f"{settings.name}-pretrain", args.home, fresh=args.fresh))
    return 0
