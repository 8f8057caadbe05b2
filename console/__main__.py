"""`python -m console`, the same as `visor console serve`; and `python -m console migrate`, which the chart runs before it."""

import argparse
import sys
from collections.abc import Sequence

from console.errors import ConsoleError
from console.flags import add_flags, given
from console.reviews.database import Database
from console.serve import serve
from console.settings import read_settings


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C, or migrate; 0 then, 1 with a sentence where the console does not start."""
    parser = argparse.ArgumentParser(prog="python -m console", description=__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        default="serve",
        choices=("serve", "migrate"),
        help="serve, or bring the database's tables to this version and end; a console that starts does so, too, but with a "
        "time limit where something waits for it to be ready (default: %(default)s)",
    )
    add_flags(parser)
    args = parser.parse_args(argv)
    try:
        if args.command == "migrate":
            Database.open(read_settings(given(args)).database_url).close()
        else:
            serve(given(args), _say)
    except ConsoleError as err:
        sys.stderr.write(f"console: {err}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
