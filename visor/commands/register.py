"""`visor register`: move an alias of MLflow's registry to an archive's version."""

import argparse

from visor.commands.arguments import ARCHIVE, Commands, add_alias, add_command, add_digest, add_home, add_public_key, add_store


def add(commands: Commands) -> None:
    """Declare the command."""
    register = add_command(
        commands,
        "register",
        run,
        "Record an archive in MLflow's model registry and move an alias to it, whatever held the alias before. Verifies the "
        "archive's signature, tags the registry's version of the archive's run with the archive's digest and prints the model's "
        "MLflow address. `visor promote` moves the champion by a rule instead.",
    )
    register.add_argument("archive", metavar="NAME|FILE", help=ARCHIVE)
    add_alias(register)
    add_public_key(register)
    add_digest(register)
    add_store(register)
    add_home(register)


def run(args: argparse.Namespace) -> int:
    """Register, and print the model's MLflow address."""
    from archives import store
    from archives.opening import opened
    from training.jobs.register import register

    with opened(store.find(args.store, args.archive), args.public_key, args.digest) as archive:
        print(register(archive.read(), args.alias, args.home))
    return 0
