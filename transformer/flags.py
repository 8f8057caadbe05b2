"""Dataclasses whose fields are command-line flags too, and the values that flags take."""

import argparse
import dataclasses
import math
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Self

MIB = 1 << 20
"""Bytes of a mebibyte; not taken from `handlers.spec`, which would load pydantic for a help text."""


def at_least(least: int) -> Callable[[str], int]:
    """Make a parser of whole numbers from `least` up, for argparse's `type`."""

    def whole_number(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"{text} is not {least} or more")
        return number

    return whole_number


def port(text: str) -> int:
    """Parse a TCP port, 0 for a free one, for argparse's `type`."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 0 to 65535")
    return number


def seconds(text: str) -> float:
    """Parse a finite number of seconds, 0 or more, for argparse's `type`."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds, 0 or more")
    return number


def positive_seconds(text: str) -> float:
    """Parse a finite number of seconds above 0, for argparse's `type`."""
    number = seconds(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return number


def mebibytes(text: str) -> int:
    """Parse a whole number of MiB, 1 or more, to bytes, for argparse's `type`."""
    return at_least(1)(text) * MIB


def http_url(text: str) -> str:
    """Check a URL of the form http://HOST:PORT, and nothing beside that, for argparse's `type`."""
    parts = re.fullmatch(r"http://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?", text)
    if not parts or not 0 < int(parts[1] or 80) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form http://HOST:PORT")
    return text


def flag(name: str, what: str, *, shown: str = "%(default)s", **options: Any) -> dict[str, Any]:
    """The metadata of a dataclass field that is a command-line flag too.

    `what`: the help text, to which the default is added, in the words of `shown`. `options`: of argparse's `add_argument`.
    """
    return {"flag": (name, {"help": f"{what} (default: {shown})", **options})}


class Flags:
    """A frozen dataclass whose fields are flags, and that may contain another one of this kind."""

    @classmethod
    def add_flags(cls, parser: argparse.ArgumentParser, only: Collection[str] | None = None) -> None:
        """Add the flags to a parser. `only`: the names of the wanted ones, such as --max-queue; None for all."""
        for one, contained in cls._fields():
            if contained is not None:
                contained.add_flags(parser, only)
            elif "flag" in one.metadata and (only is None or one.metadata["flag"][0] in only):
                name, options = one.metadata["flag"]
                parser.add_argument(name, dest=one.name, **{"default": one.default, **options})

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Self:
        """Make the settings of a command line whose parser has some of the flags; the other fields keep their defaults."""
        given = vars(args)
        values = {one.name: given[one.name] for one, _ in cls._fields() if one.name in given}
        return cls(**values, **{one.name: contained.from_args(args) for one, contained in cls._fields() if contained is not None})

    @classmethod
    def _fields(cls) -> "Iterator[tuple[dataclasses.Field[Any], type[Flags] | None]]":
        """Each field, with the class of the settings that it contains, None for a single value."""
        for one in dataclasses.fields(cls):  # type: ignore[arg-type]  # each subclass is a dataclass
            contained = one.default_factory
            yield one, contained if isinstance(contained, type) and issubclass(contained, Flags) else None
