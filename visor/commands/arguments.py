"""Flags that several commands have."""

import argparse
from pathlib import Path
from typing import TypeAlias

from training.settings import home

KEYS = Path("keys")

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_set(parser: argparse.ArgumentParser) -> None:
    """`--set KEY=VALUE`."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value; repeatable")


def add_home(parser: argparse.ArgumentParser) -> None:
    """`--home FOLDER`."""
    parser.add_argument("--home", type=Path, default=home(), help="where runs are kept (default: %(default)s)")


def add_store(parser: argparse.ArgumentParser) -> None:
    """`--store FOLDER`."""
    parser.add_argument("--store", type=Path, default=Path("model-store"), help="the model store (default: %(default)s)")


def add_public_key(parser: argparse.ArgumentParser) -> None:
    """`--public-key FILE`."""
    parser.add_argument("--public-key", type=Path, default=KEYS / "visor.pub", help="who must have signed (default: %(default)s)")


def positive(text: str) -> int:
    """A whole number from 1, for `type=`."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
