"""`visor inspect`: show what an archive holds, and whether its signature and its provenance hold."""

import argparse

from visor.commands.arguments import ARCHIVE, Commands, add_command, add_digest, add_public_key, add_store


def add(commands: Commands) -> None:
    """Declare the command."""
    inspect = add_command(
        commands,
        "inspect",
        run,
        "Print what an archive holds, where it came from and whether it would be served. Reads the archive without running "
        "anything in it and prints its digest, size, backend, spec and lineage, whether its signature holds, whether its name "
        "and version are those of its place in the store, and what the provenance statement beside it says, if there is one.",
        exits="Exit codes: 0 the signature holds, the archive is the one of its place and --digest, and the provenance statement "
        "holds if there is one, at which --sbom does not look; 1 one of them is not so, or the archive cannot be read; "
        "2 a mistyped command line; 130 interrupted.",
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
    add_digest(inspect)
    add_store(inspect)


def run(args: argparse.Namespace) -> int:
    """Print the archive's facts; 0 when it would be served and its provenance holds, 1 when not."""
    from archives import store
    from visor.inspect import show, show_sbom

    archive = store.find(args.store, args.archive)
    if args.sbom:
        return show_sbom(archive, args.public_key, args.digest)
    return show(archive, args.public_key, args.digest, as_json=args.json)
