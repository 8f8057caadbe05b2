"""`visor archive`: pack and sign a finished run."""

import argparse
from pathlib import Path

from visor.commands.arguments import (
    Commands,
    add_backend,
    add_command,
    add_home,
    add_passphrase,
    add_private_key,
    add_store,
    read_passphrase,
)


def add(commands: Commands) -> None:
    """Declare the command."""
    archive = add_command(
        commands,
        "archive",
        run,
        "Pack and sign a finished run as the next version in the model store. Reads the run, writes NAME/VERSION/NAME.mar with "
        "its signature and its signed provenance statement beside it, and prints the path. Where --backend names another backend "
        "than the run's, the run is calibrated and evaluated again on its answers, which needs the images.",
    )
    archive.add_argument("folder", type=Path, metavar="RUN", help="folder of the finished run, such as runs/roofs")
    archive.add_argument(
        "--onnx",
        action="store_true",
        help="also write the network as NAME.onnx beside the archive and into its MLflow run; serving does not read it "
        "(default: no ONNX file)",
    )
    add_private_key(archive)
    add_passphrase(archive)
    add_backend(archive, "the one that the run was evaluated on, or for a run of before 0.3 its config's")
    add_store(archive)
    add_home(archive, more="; read with --onnx alone")


def run(args: argparse.Namespace) -> int:
    """Archive, and print the paths that were written."""
    from training.jobs.archive import archive

    passphrase = read_passphrase(args)
    path = archive(args.folder, args.store, args.key, args.backend, passphrase)
    print(path)
    if args.onnx:
        from training.jobs.export_onnx import export_onnx

        print(export_onnx(args.folder, path, args.key, args.home, passphrase))
    return 0
