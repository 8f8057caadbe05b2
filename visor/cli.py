"""`visor`: parses the command line and hands over to one job; prints results, and errors as `visor: CODE: sentence`."""

import argparse
import difflib
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import takewhile
from typing import Any, NoReturn

from handlers.errors import VisorError
from visor.commands import (
    archive,
    audit,
    bound,
    compare,
    config,
    console,
    data,
    demo,
    drift,
    evaluate,
    inspect,
    keys,
    pipeline,
    predict,
    pretrain,
    promote,
    register,
    rollout,
    score,
    search,
    serve,
    train,
)
from visor.commands import list as listing
from visor.commands.arguments import EXITS, Run, list_commands
from visor.system import of_system

FAILED, INTERRUPTED = 1, 130
GROUPS = (
    ("see everything once", (demo,)),
    ("data and configs", (data, config)),
    ("train and search", (train, evaluate, bound, pretrain, search)),
    ("archive and keys", (keys, archive, inspect, listing)),
    ("serve and ask", (serve, predict, score, console)),
    ("watch", (audit, drift)),
    ("compare and promote", (register, compare, promote)),
    ("release in a cluster", (rollout,)),
    ("automate", (pipeline,)),
)
"""The commands' modules by group, in the order in which users meet them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 with a sentence on the errors that visor raises, 2 on a mistyped command."""
    args = parse_args(argv)
    # One line an event, progress and results apart: results alone go to standard output.
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.INFO, format="%(message)s", stream=sys.stderr)
    # The commands log better sentences of their own on what these libraries report.
    for name in ("uvicorn", "botocore", "matplotlib", "onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run: Run = args.run
        return run(args)
    except VisorError as err:
        print(f"visor: {err}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # The reader has seen enough (`| head`). Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as err:
        if (told := of_system(err)) is None:
            raise
        logging.getLogger(__name__).debug("", exc_info=err)
        print(f"visor: {told}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        resumes = args.resumes and args.begun
        print(f"visor: interrupted{'; the same command goes on from here' if resumes else ''}", file=sys.stderr)
        return INTERRUPTED


def _interrupt(_number: int, _frame: object) -> None:
    """Treat SIGTERM, a pod's end, like Ctrl-C: what is under way is closed in order."""
    raise KeyboardInterrupt


class _Parser(argparse.ArgumentParser):
    """A parser that refuses what it does not know by itself: argparse leaves that to the first one, which shows its own usage."""

    given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse as argparse does, and end the process with this command's usage where something is left over."""
        self.given = sys.argv[1:] if args is None else args
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unrecognized(unknown))
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """End the process with status 2. A mistyped flag is told first, not what is missing beside it, as argparse has it."""
        if message.startswith("the following arguments are required") and (unknown := self._unknown_flags()):
            message = self._unrecognized(unknown)
        if (slip := re.search(r"invalid choice: '(.+)' \(choose from (.+)\)$", message)) is not None:
            close = difflib.get_close_matches(slip[1], re.findall(r"'([^']+)'", slip[2]), 1)
            message += f"; did you mean {close[0]}?" if close else ""
        # argparse names the function that parses; those of visor are called as what they parse.
        super().error(
            re.sub(r"invalid _?(\w+) value: (.+)$", lambda kind: f"{kind[2]} is no {kind[1].replace('_', ' ')}", message)
        )

    def _unknown_flags(self) -> list[str]:
        """List the flags given that are none of this command's, nor the beginning of one, nor a negative number."""
        flags = [text for text in takewhile(lambda text: text != "--", self.given) if re.match(r"--?[a-zA-Z]\S*$", text)]
        known = self._option_string_actions
        return [text for text in flags if not any(name.startswith(text.partition("=")[0]) for name in known)]

    def _unrecognized(self, unknown: Sequence[str]) -> str:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        close = difflib.get_close_matches(unknown[0].partition("=")[0], known, 1)
        return f"unrecognized arguments: {' '.join(unknown)}" + (f"; did you mean {close[0]}?" if close else "")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of every command; its help lists the commands by group."""
    parser = _Parser(prog="visor", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.description = "Turn a folder of labelled images into a calibrated, explained and signed classifier, and serve it."
    parser.add_argument("--version", action="version", version=f"visor {version('visor')}", help="print visor's version and exit")
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="log messages of level debug, too, to standard error; stands before COMMAND (default: level info and above)",
    )
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", help="the command to run, one of those below; `visor COMMAND --help` describes it"
    )
    groups = []
    for title, modules in GROUPS:
        known = len(commands.choices)
        for module in modules:
            module.add(commands)
        groups.append(list_commands(title, list(commands.choices.items())[known:]))
    parser.epilog = "\n\n".join((*groups, EXITS))
    return parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; `run` of the result is the function to call with it."""
    return make_parser().parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
