"""`visor console`: serve the console on this machine, make its API keys, and look after its review queue."""

import argparse
import sys
from pathlib import Path
from typing import Any

from console.access.scopes import SCOPES
from console.reviews import commands as review_commands
from visor.commands.arguments import Commands, add_command, list_commands, positive

MISTYPED = 2
"""The exit code of a mistyped command line, a value that its flag cannot have among them."""


def add(commands: Commands) -> None:
    """Declare the command."""
    console = commands.add_parser(
        "console",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve the console, a page and an HTTP API in front of V2 servers, and look after its keys and reviews.",
    )
    parts: Commands = console.add_subparsers(
        required=True,
        metavar="PART",
        help="what to do, one of the parts below; `visor console PART --help` describes it",
        parser_class=_with_flags(type(console)),
    )
    add_command(
        parts,
        "serve",
        serve,
        "Serve the console on this machine until Ctrl-C or SIGTERM. Asks the V2 servers that it is given, by default that of "
        "`visor serve`. Each setting is also an environment variable and a line of the file .env; a flag goes before both.",
    )
    key = add_command(
        parts,
        "key",
        make_key,
        "Make an API key of the console. Prints its secret once, as it is kept nowhere.",
    )
    key.add_argument("name", metavar="NAME", help="name of the key, as the log and the limits know it")
    key.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=SCOPES,
        help="what the key may do: ask about pictures, label what waits for review, tell what servers answered, or everything; "
        "may be given several times",
    )
    key.add_argument(
        "--keys-file",
        type=Path,
        default=Path("console-keys.json"),
        metavar="FILE",
        help="file that the key's digest is written into (default: %(default)s)",
    )
    key.add_argument(
        "--requests-per-minute", type=positive, metavar="N", help="largest number of requests of the key a minute (default: 1200)"
    )
    key.add_argument("--mib-per-minute", type=positive, metavar="MIB", help="most MiB of the key a minute (default: 1024)")
    key.add_argument("--replace", action="store_true", help="end the key of that name, if there is one (default: an error)")
    review_commands.add_parts(lambda name, run, description: add_command(parts, name, run, description))
    console.epilog = list_commands("parts", parts.choices.items())


def _with_flags(parser: type[argparse.ArgumentParser]) -> type[argparse.ArgumentParser]:
    """A kind of parser that adds the flags of `serve` once it is used, as the console's settings import pydantic."""

    class Parser(parser):  # type: ignore[valid-type,misc]
        def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
            """Add the flags and parse."""
            if self.get_default("run") is serve and not self.get_default("has_flags"):
                from console.flags import add_flags

                add_flags(self)
                self.set_defaults(has_flags=True)
            found: tuple[Any, list[str]] = super().parse_known_args(args, namespace)
            return found

    return Parser


def serve(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    from console.errors import SettingsInvalid
    from console.flags import given
    from console.serve import serve

    try:
        serve(given(args), lambda line: print(line, flush=True))
    except SettingsInvalid as err:
        if not err.by_flag:
            raise
        print(f"visor: {err}", file=sys.stderr)
        return MISTYPED
    return 0


def make_key(args: argparse.Namespace) -> int:
    """Make a key and print its secret."""
    from console.access.keys import add_key

    print(add_key(args.keys_file, args.name, args.scope, args.requests_per_minute, args.mib_per_minute, replace=args.replace))
    return 0
