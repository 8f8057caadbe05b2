"""`python -m console`, the same as `visor console serve`."""

import argparse
import sys
from collections.abc import Sequence

from console.errors import ConsoleError
from console.flags import add_flags, given
from console.serve import serve


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; 0 then, 1 with a sentence where the console does not start."""
    parser = argparse.ArgumentParser(prog="python -m console", description=__doc__)
    add_flags(parser)
    try:
        serve(given(parser.parse_args(argv)), _say)
    except ConsoleError as err:
        sys.stderr.write(f"console: {err}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
