"""`visor register`: move an alias of MLflow's registry to an archive's version."""

import argparse

from visor.commands.arguments import ARCHIVE, Commands, add_alias, add_command, add_home, add_store


def add(commands: Commands) -> None:
    """Declare the command."""
    register = add_command(
        commands,
        "register",
        run,
        "Record an archive in MLflow's model registry and move an alias to it, whatever held the alias before. Tags the "
        "registry's version of the archive's run with the archive's digest and prints the model's MLflow address; "
        "the archive's signature is not checked. `visor promote` moves the champion by a rule instead.",
    )
    register.add_argument("archive", metavar="NAME|FILE", help=ARCHIVE)
    add_alias(register)
    add_store(register)
    add_home(register)


def run(args: argparse.Namespace) -> int:
    """Register, and print the model's MLflow address."""
    from archives import store
    from archives.contents import read
    from training.jobs.register import register

    print(register(read(store.find(args.store, args.archive)), args.alias, args.home))
    return 0
