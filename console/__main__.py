"""`python -m console`, the same as `visor console serve`; `migrate`, `export`, `erase` and `add` are those of `visor console`."""

import argparse
import sys
from collections.abc import Callable, Sequence

from console.errors import ConsoleError, SettingsInvalid
from console.flags import add_flags, given
from console.reviews.commands import add_parts
from console.serve import serve


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _line(part: argparse.ArgumentParser) -> str:
    """A part's first sentence."""
    return (part.description or "").split(". ")[0].rstrip(".")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; 0 then, 1 with a sentence where the console does not start, 2 by a flag."""
    parser = argparse.ArgumentParser(
        prog="python -m console", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(metavar="PART", help="what to do in the place of serving, one of the parts below")

    def add(name: str, run: Callable[[argparse.Namespace], int], description: str) -> argparse.ArgumentParser:
        part = parts.add_parser(name, description=description)
        part.set_defaults(run=run)
        return part

    add_parts(add)
    parser.epilog = "\n".join(["parts:", *(f"    {name:11} {_line(part)}" for name, part in parts.choices.items())])
    parser.set_defaults(run=None)
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0] not in parts.choices:
        add_flags(parser)
    try:
        parsed = parser.parse_args(args)
        if parsed.run:
            return int(parsed.run(parsed))
        serve(given(parsed), _say)
    except ConsoleError as err:
        sys.stderr.write(f"console: {err}\n")
        return 2 if isinstance(err, SettingsInvalid) and err.by_flag else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
