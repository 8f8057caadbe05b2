"""Make docs/config.md and docs/edge.md of the code that they describe: the config's models and the edge's parser."""

import argparse
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from training import keys
from training.config import Config
from transformer.__main__ import make_parser
from visor.commands import serve
from visor.commands.arguments import Commands

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 120
"""Columns of the pages, as of all pages in docs/."""

CONFIG = """\
# Config: every key

Made from `training/config/` by `make pages`; change the models there, not this page.

A config is one YAML file, and only what differs from the defaults stands in it. An unknown key or a value outside its
range is an error that names the key. `--set KEY=VALUE` sets any key from the command line, such as
`--set fit.batch_size=16` or, in a list, `--set fit.phases.0.epochs=2`. `visor config` prints this page's keys in a
terminal, and `visor config CONFIG` what a config makes of them. [training.md](training.md),
[decisions.md](decisions.md), [data.md](data.md) and [pretraining.md](pretraining.md) explain what the keys are for;
`training/configs` has examples.
"""
EDGE = """\
# Edge: every flag

Made from `transformer/settings.py` by `make pages`; change the fields there, not this page.

`python -m transformer` runs the edge alone, beside a TorchServe that runs already, as in a pod's container. The
[chart](../charts/visor/README.md) sets some of them, by `edge.*`, `hangSeconds`, `protocol` and its grace periods, and
names the pod's own archive, worker sockets and track; the others keep their defaults in a release. `visor serve` starts
an edge, too, and has those flags that say so below; where its default is another one, `visor serve --help` says which.
"""


def main(argv: list[str] | None = None) -> int:
    """Write both pages anew."""
    argparse.ArgumentParser(description="Make docs/config.md and docs/edge.md from the code.").parse_args(argv)
    for name, page in (("config.md", config_page(Config)), ("edge.md", edge_page(make_parser()))):
        (DOCS / name).write_text(page)
    return 0


def config_page(config: type[BaseModel]) -> str:
    """Describe every key of a config: single keys first, then a section for each model in it, in the models' order."""
    try:
        return "\n".join([CONFIG, *_keys(config), ""])
    except TypeError as err:
        raise SystemExit(f"pages: {err}") from err


def edge_page(parser: argparse.ArgumentParser) -> str:
    """Describe every flag of the edge's parser, in its order, and whether `visor serve` has it."""
    of_serve = _serve_flags()
    items = []
    for action in parser._actions:  # argparse has no public list of them
        if isinstance(action, argparse._HelpAction):
            continue
        [name] = action.option_strings
        if not action.help:
            raise SystemExit(f"pages: the edge's flag {name} has no help text")
        value = "" if action.nargs == 0 else action.metavar or " | ".join(action.choices or ()) or action.dest.upper()
        marks = ["required"] * action.required + ["also of `visor serve`"] * (name in of_serve)
        text = action.help % {**vars(action), "prog": parser.prog}
        text = text[0].upper() + text[1:].rstrip(".") + "."
        items.append(_item(f"`{name} {value}".rstrip() + "`" + (f" ({', '.join(marks)})" if marks else ""), text))
    return "\n".join([EDGE, *items, ""])


def _serve_flags() -> set[str]:
    commands: Commands = argparse.ArgumentParser().add_subparsers()
    serve.add(commands)
    [parser] = commands.choices.values()
    return set(parser._option_string_actions)


def _keys(model: type[BaseModel]) -> Iterator[str]:
    """The lines of a model's keys, in their order."""
    for key in keys.keys_of(model):
        if key.is_section:
            yield f"\n{'#' * (2 + key.path.count('.'))} `{key.path}`\n"
            yield _wrap(key.about + " Required." * key.required) + "\n"
        else:
            yield _item(f"`{key.path}` ({key.head})", key.about)


def _item(head: str, text: str) -> str:
    return _wrap(f"- **{head}**: {inspect.cleandoc(text)}".replace("\n", " "), "  ")


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text.replace("\n", " "), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main())
