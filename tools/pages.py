"""Make docs/config.md and docs/edge.md of the code that they describe: the config's models and the edge's parser."""

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from training.config import Config
from transformer.__main__ import make_parser
from visor.commands import serve
from visor.commands.arguments import Commands

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 120
"""Columns of the pages, as of all pages in docs/."""

CONFIG = """\
# Config: every key

Made from `training/config.py` by `make pages`; change the models there, not this page.

A config is one YAML file, and only what differs from the defaults stands in it. An unknown key or a value outside its
range is an error that names the key. `--set KEY=VALUE` sets any key from the command line, such as
`--set fit.batch_size=16`. [training.md](training.md), [decisions.md](decisions.md), [data.md](data.md) and
[pretraining.md](pretraining.md) explain what the keys are for; `training/configs` has examples.
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
    return "\n".join([CONFIG, *_keys(config, ""), ""])


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


def _keys(model: type[BaseModel], path: str) -> Iterator[str]:
    """The lines of a model's own keys, and after them those of the models in it."""
    schemas = model.model_json_schema()["properties"]
    inner: list[tuple[str, str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        key = f"{path}{name}"
        if not field.description:
            raise SystemExit(f"pages: the config key {key} has no description; write a string literal below it")
        contained = _model_in(field.annotation)
        if contained is None:
            default = "required" if field.is_required() else f"default {_value(field.get_default())}"
            yield _item(f"`{key}` ({_kind(schemas[name])}; {default})", field.description)
        else:
            heading = f"{key}[]" if get_origin(field.annotation) is tuple else key
            inner.append((heading, field.description + " Required." * field.is_required(), contained))
    for heading, about, contained in inner:
        yield f"\n{'#' * (2 + heading.count('.'))} `{heading}`\n"
        yield _wrap(about) + "\n"
        yield from _keys(contained, f"{heading}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a key holds one of, many of, or none of; None where the key holds single values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, UnionType):
        for part in get_args(annotation):
            if (found := _model_in(part)) is not None:
                return found
    return None


def _kind(schema: dict[str, Any]) -> str:
    """What values a JSON schema allows, in words; that a value may be left out is its default's to say."""
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    match schema["type"]:
        case "array":
            items = schema.get("prefixItems")
            return f"list of {len(items)} {_plural(items[0])}" if items else f"list of {_plural(schema['items'])}"
        case "object":
            return f"mapping of names to {_plural(schema['additionalProperties'])}"
        case "boolean":
            return "`true` or `false`"
        case "string":
            return "path" if schema.get("format") == "path" else "text"
        case "integer" | "number" as kind:
            signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
            limits = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
            return " ".join(["whole number" if kind == "integer" else "number", ", ".join(limits)]).strip()
    raise SystemExit(f"pages: no words for a value of the schema {schema}")


def _plural(schema: dict[str, Any]) -> str:
    """What a list holds, in words."""
    word, *more = _kind(schema).split(" ", 1)
    return " ".join([f"{word}s", *more])


def _value(value: Any) -> str:
    """A default as YAML has it; none where a key may be left out."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else json.dumps(value)
    return f"`{text}`"


def _item(head: str, text: str) -> str:
    return _wrap(f"- **{head}**: {inspect.cleandoc(text)}".replace("\n", " "), "  ")


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text.replace("\n", " "), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main())
