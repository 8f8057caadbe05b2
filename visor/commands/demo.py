"""`visor demo`: the whole way on this machine, from images to answers."""

import argparse

from visor.commands.arguments import Commands, add_command, add_home, add_private_key, add_public_key, add_set, add_store


def add(commands: Commands) -> None:
    """Declare the command."""
    demo = add_command(
        commands,
        "demo",
        run,
        "Go the whole way on this machine: make data, train, archive, register, serve, and ask over REST and gRPC. Each step "
        "is one visor command, which is shown as it runs; prints tables of answers and timings, and stops the server again. "
        "After an interruption the same command goes on.",
        resumes=True,
    )
    demo.add_argument(
        "--data",
        default="roofs",
        metavar="NAME|FOLDER",
        help="images to learn: the built-in sets roofs or digits, or a folder with a folder of images for each label "
        "(JPEG, PNG, HEIC, WebP, BMP or TIFF; default: %(default)s)",
    )
    add_private_key(
        demo, more="; where it is missing, visor.key and visor.pub are made in its folder, so FILE must be named visor.key"
    )
    add_set(demo)
    add_public_key(demo, more="; it must belong to --key, so name both or neither")
    add_store(demo)
    add_home(demo)


def run(args: argparse.Namespace) -> int:
    """Run the demo, which prints its steps."""
    from visor.demo import DemoPaths, demo

    args.begun = True
    demo(args.data, DemoPaths(args.home, args.store, args.key, args.public_key), args.set)
    return 0
