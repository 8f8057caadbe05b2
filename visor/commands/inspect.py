"""`visor inspect`: show what an archive holds and whether its signature holds."""

import argparse

from visor.commands.arguments import ARCHIVE, Commands, add_command, add_digest, add_public_key, add_store


def add(commands: Commands) -> None:
    """Declare the command."""
    inspect = add_command(
        commands,
        "inspect",
        run,
        "Print what an archive holds, where it came from and whether it would be served. Reads the archive without running "
        "anything in it and prints its digest, size, backend, spec and lineage, whether its signature holds, and whether its "
        "name and version are those of its place in the store.",
        exits="Exit codes: 0 the signature holds and the archive is the one of its place and --digest; 1 one of them is not so, "
        "or the archive cannot be read; 2 a mistyped command line.",
    )
    inspect.add_argument("archive", metavar="NAME|FILE", help=ARCHIVE)
    inspect.add_argument("--json", action="store_true", help="print one JSON object (default: text to read)")
    add_public_key(inspect, more="")
    add_digest(inspect)
    add_store(inspect)


def run(args: argparse.Namespace) -> int:
    """Print the archive's facts; 0 when it would be served, 1 when it would be refused."""
    from archives import store
    from visor.inspect import show

    return show(store.find(args.store, args.archive), args.public_key, args.digest, as_json=args.json)
