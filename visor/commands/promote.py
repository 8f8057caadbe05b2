"""`visor promote`: move the champion's alias to a version if the rule says so."""

import argparse

from visor.commands.arguments import Commands, add_command
from visor.commands.compare import add_rule, paths_of, rule_of


def add(commands: Commands) -> None:
    """Declare the command."""
    promote = add_command(
        commands,
        "promote",
        run,
        "Move the alias champion of MLflow's registry to a version if the rule says so. The version must be shown to be within "
        "--max-fnr and --max-latency-ms, and to cost less than the champion, the more surely the more versions were registered "
        "since the champion. Where there is no champion, the limits are enough; where the champion is shown to break a limit, "
        "the version must not be shown to cost more. Prints what the rule says and why.",
        exits="Exit codes: 0 the version is the champion now (or was, or with --dry-run would be); 1 it is not, or an error; "
        "2 a mistyped command line; 130 interrupted.",
    )
    promote.add_argument("name", metavar="NAME", help="name of the registered model, which is the name in its config")
    promote.add_argument("--version", help="version of the registered model (default: the version with the alias candidate)")
    promote.add_argument("--dry-run", action="store_true", help="say what the rule says, and move no alias (default: move it)")
    add_rule(promote)


def run(args: argparse.Namespace) -> int:
    """Promote, and print the rule's verdict; 0 when the version is the champion, 1 when it does not become so."""
    from training.jobs.compare import promote

    found = promote(args.name, args.version, paths_of(args), rule_of(args), args.seed, args.dry_run)
    said = "is the champion now" if not args.dry_run else "would be the champion"
    if found.version == found.champion:
        print(found.reason)
        return 0
    print(f"{args.name} version {found.version} {said if found.promoted else 'does not become the champion'}: {found.reason}")
    return 0 if found.promoted else 1
