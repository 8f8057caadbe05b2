"""`visor inspect`: show what an archive holds, and whether its signature and its provenance hold."""

import argparse

from visor.commands.arguments import ARCHIVE, Commands, add_command, add_public_key, add_store


def add(commands: Commands) -> None:
    """Declare the command."""
    inspect = add_command(
        commands,
        "inspect",
        run,
        "Print what an archive holds, where it came from and whether its signature holds, and the provenance statement beside "
        "it if there is one. Reads the archive without running anything in it and prints its digest, size, backend, spec and "
        "lineage.",
        exits="Exit codes: 0 the signature holds, and so does the provenance statement if there is one; 1 one of them does not, "
        "or the archive cannot be read; 2 a mistyped command line.",
    )
    inspect.add_argument("archive", metavar="NAME|FILE", help=ARCHIVE)
    form = inspect.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object (default: text to read)")
    form.add_argument(
        "--sbom",
        action="store_true",
        help="print the archive's software bill of materials, if its signature holds: CycloneDX 1.6 in JSON "
        "(default: text to read)",
    )
    add_public_key(inspect, more="")
    add_store(inspect)


def run(args: argparse.Namespace) -> int:
    """Print the archive's facts; 0 when its signature and its provenance hold, 1 when not."""
    from archives import store
    from visor.inspect import show, show_sbom

    if args.sbom:
        return show_sbom(store.find(args.store, args.archive), args.public_key)
    return show(store.find(args.store, args.archive), args.public_key, as_json=args.json)
