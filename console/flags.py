"""The flags of `visor console serve`: one for each setting, made of `console.settings`."""

import argparse
from typing import Any

from console.settings import PREFIX, Settings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting. What is given goes before the environment; values are checked with the settings."""
    for name, field in Settings.model_fields.items():
        default = f"the environment's {PREFIX}{name.upper()}, otherwise {shown_default(name)}"
        parser.add_argument(
            f"--{name.replace('_', '-')}", dest=name, metavar="VALUE", help=f"{field.description} (default: {default})"
        )


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that a command line gives."""
    return {name: value for name, value in vars(args).items() if name in Settings.model_fields and value is not None}


def shown_default(name: str) -> str:
    """A setting's default, in words."""
    default = Settings.model_fields[name].default
    if name == "servers":
        return ",".join(one.url for one in default)
    return "none" if default in (None, ()) else str(default)
