"""`visor config`: every key of a config with its default and meaning, and what a config makes of it."""

import argparse
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visor.commands.arguments import CONFIG, Commands, add_command, add_set

if TYPE_CHECKING:
    from training.keys import Key

WIDTH = 100
"""Columns of the text, at most."""


def add(commands: Commands) -> None:
    """Declare the command."""
    config = add_command(
        commands,
        "config",
        run,
        "Print every key of a training config with its kind, default and meaning. With a CONFIG, each key's value in it is "
        "printed, too, whether it stands in the file, comes from --set or is the default; with --yaml these values alone, as a "
        "config that says everything.",
    )
    config.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help=f"{CONFIG} (default: none, the keys alone)")
    config.add_argument(
        "--yaml", action="store_true", help="print the values of CONFIG alone, as YAML that `visor train` takes (default: text)"
    )
    add_set(config, more=", with a CONFIG")


def run(args: argparse.Namespace) -> int:
    """Print the keys, or the values."""
    import yaml

    from training.config import Config, load
    from training.errors import ConfigError
    from training.keys import keys_of

    if args.config is None and (args.yaml or args.set):
        raise ConfigError("--yaml and --set say something of a CONFIG; name one, such as training/configs/roofs.yaml")
    values = load(args.config, args.set).model_dump(mode="json") if args.config else None
    if args.yaml:
        print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")
        return 0
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    for key in keys_of(Config):
        print("\n".join(_lines(key, values, width)))
    return 0


def _lines(key: "Key", values: dict[str, Any] | None, width: int) -> Iterator[str]:
    """A key, what may stand there, its value where there are values, and what it means."""
    from training.keys import show

    if key.is_section:
        yield f"\n{key.path}{'  (required)' if key.required else ''}"
        yield from _wrap(key.about, width, "  ")
        return
    yield f"{key.path}  ({key.head})".replace("`", "")
    if values is not None:
        found = ", ".join(show(value) for value in _at(values, key.path.replace("[]", ".[]").split("."))) or "none"
        yield f"    = {found}".replace("`", "")
    yield from _wrap(key.about, width, "    ")


def _wrap(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _at(tree: Any, parts: list[str]) -> Iterator[Any]:
    """What stands at a path: one value, one for each entry of a list, or none where a section is left out."""
    if not parts:
        yield tree
    elif parts[0] == "[]":
        for entry in tree:
            yield from _at(entry, parts[1:])
    elif tree is not None:
        yield from _at(tree[parts[0]], parts[1:])
