"""`visor pipeline`: every step from images to a registered archive, in one command that may be repeated."""

import argparse
from pathlib import Path

from transformer.flags import seconds
from visor.commands.arguments import (
    CONFIG,
    Commands,
    add_alias,
    add_backend,
    add_command,
    add_home,
    add_passphrase,
    add_private_key,
    add_set,
    add_store,
    read_passphrase,
)


def add(commands: Commands) -> None:
    """Declare the command."""
    pipeline = add_command(
        commands,
        "pipeline",
        run,
        "Fetch the images, train, archive, copy and register in one command, as a Kubernetes Job does. Given again after an "
        "interruption it resumes, and given again after success it does nothing. Prints where the archive is.",
        resumes=True,
    )
    pipeline.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG)
    pipeline.add_argument(
        "--data-uri",
        metavar="s3://...|PATH",
        help="S3 address or folder of the images, in place of the config's data.path (default: the images that the config names)",
    )
    pipeline.add_argument(
        "--store-uri",
        metavar="s3://...",
        help="S3 address of a second model store, to which the archive is copied as NAME/VERSION (default: no copy)",
    )
    pipeline.add_argument(
        "--mlflow-wait-s",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="seconds to wait for the MLflow server that MLFLOW_TRACKING_URI names while it does not answer "
        "(default: %(default)g)",
    )
    pipeline.add_argument(
        "--step",
        choices=("check", "train", "deliver"),
        help="one step alone: check tries key, folders, S3 and MLflow; train fetches and trains without the key; "
        "deliver archives, copies and registers the run that train finished, and decodes no image (default: all of them)",
    )
    pipeline.add_argument(
        "--run-file",
        type=Path,
        metavar="FILE",
        help="file in which --step train names its run to --step deliver; deliver needs it (default: no file)",
    )
    pipeline.add_argument(
        "--run-wait-s",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="seconds for which --step deliver waits for --run-file (default: %(default)g)",
    )
    add_private_key(pipeline)
    add_passphrase(pipeline)
    add_alias(pipeline, more="; none moves no alias")
    add_backend(pipeline, "the config's backend")
    add_set(pipeline)
    add_store(pipeline)
    add_home(pipeline)


def run(args: argparse.Namespace) -> int:
    """Do what is left to do, and print where the archive is."""
    from training.jobs.pipeline import PipelinePaths, pipeline
    from visor.outputs import check_output

    if args.run_file and args.step != "deliver":
        check_output(args.run_file, [args.config, args.key])
    passphrase = None if args.step == "train" else read_passphrase(args)
    places = PipelinePaths(args.home, args.store, args.key, args.data_uri, args.store_uri, passphrase, args.run_file)
    alias = None if args.alias == "none" else args.alias
    args.begun = True
    if place := pipeline(args.config, args.set, places, alias, args.backend, args.mlflow_wait_s, args.step, args.run_wait_s):
        print(place)
    return 0
