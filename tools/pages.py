"""Make the reference pages of docs/ of the code that they describe: models, parsers, declarations, docstrings."""

import argparse
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from tools import promises
from tools.reference import console_api, errors, python_api
from tools.reference.text import code, wrap
from training import keys
from training.config import Config
from transformer import declared
from transformer.__main__ import make_parser
from transformer.declared import Declared, Label
from visor.commands import serve
from visor.commands.arguments import Commands

DOCS = Path(__file__).parents[1] / "docs"

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
an edge, too, and has those flags that say so below, some with a default of its own.
"""
METRICS = """\
# Metrics: every one

Made from `transformer/declared.py` by `make pages`; change the declarations there, not this page.

Each edge, of a pod or of `visor serve`, has them at `/metrics` of its REST port, in Prometheus' text format, and keeps
them from its start to its end. Counters are plain sums, so replicas add up, and a restart is what Prometheus' `rate`
and `increase` expect. They count what has ended, at most 0.05 s later, and no request waits for it.
[kubernetes.md](kubernetes.md#metrics) has queries. An info has the value 1; a histogram's series end in `_bucket`,
`_sum` and `_count`.

TorchServe, the pod's other container, has no port for Prometheus: its own metrics stay on loopback, and what its
workers do for an image is `visor_stage_seconds`.
"""

BUCKETS = """\
Upper bounds: seconds, by a factor of 1.25 and, as buckets of their own, the bounds of `loadtests/slo.yaml`, so that a
share within one of them is counted and not estimated; of `visor_confidence` a probability, and of
`visor_shadow_score_difference` one minus another.
"""
SERIES = """\
No label takes its values from clients, so that a pod has a bounded number of series: at most {two:,} with an archive of two
labels and {hundred:,} with one of a hundred, if every error there is were answered over both protocols. What never happened
has none; but images by drift bin and drawn images are there from the start, at 0, as an increase needs a value before it.
"""


def main(argv: list[str] | None = None) -> int:
    """Write all pages anew."""
    argparse.ArgumentParser(description="Make the reference pages of docs/ from the code.").parse_args(argv)
    for name, page in make_all().items():
        (DOCS / name).write_text(page)
    return 0


def make_all() -> dict[str, str]:
    """Make each page, by its name in docs/."""
    return {
        "config.md": config_page(Config),
        "edge.md": edge_page(make_parser()),
        "metrics.md": metrics_page(declared.ALL),
        "promises.md": promises.promises_page(promises.read(promises.SOURCE.read_text())),
        "errors.md": errors.page(),
        "console-api.md": console_api.page(),
        "python-api.md": python_api.page(),
    }


def config_page(config: type[BaseModel]) -> str:
    """Describe every key of a config: single keys first, then a section for each model in it, in the models' order."""
    try:
        return "\n".join([CONFIG, *_keys(config), ""])
    except TypeError as err:
        raise SystemExit(f"pages: {err}") from err


def edge_page(parser: argparse.ArgumentParser) -> str:
    """Describe every flag of the edge's parser, in its order, and whether `visor serve` has it."""
    of_serve = _serve_defaults()
    items = []
    for action in parser._actions:  # argparse has no public list of them
        if isinstance(action, argparse._HelpAction):
            continue
        [name] = action.option_strings
        if not action.help:
            raise SystemExit(f"pages: the edge's flag {name} has no help text")
        value = "" if action.nargs == 0 else action.metavar or " | ".join(action.choices or ()) or action.dest.upper()
        marks = ["required"] * action.required + ["also of `visor serve`"] * (name in of_serve)
        if of_serve.get(name) not in (None, action.default):  # None: said by the help text
            marks.append(f"whose default is `{of_serve[name]}`")
        text = action.help % {**vars(action), "prog": parser.prog}
        text = text[0].upper() + text[1:].rstrip(".") + "."
        items.append(_item(f"`{name} {value}".rstrip() + "`" + (f" ({', '.join(marks)})" if marks else ""), text))
    return "\n".join([EDGE, *items, ""])


def metrics_page(metrics: Sequence[Declared]) -> str:
    """Describe every metric, in their order, then every label, the buckets, and how many series they come to."""
    for metric in metrics:
        if not metric.about:
            raise SystemExit(f"pages: the metric {metric.name} has no description")
    labels: dict[Label, list[str]] = {}
    for metric in metrics:
        for label in metric.labels:
            labels.setdefault(label, []).append(metric.name)
    most = {count: sum(metric.series(count) for metric in metrics) for count in (2, 100)}
    return "\n".join(
        [
            METRICS,
            "| metric | type | meaning | labels |",
            "| --- | --- | --- | --- |",
            *(f"| `{one.name}` | {one.kind} | {one.about} | {code(one.label_names)} |" for one in metrics),
            "\n## Labels\n",
            "| label | values | of |",
            "| --- | --- | --- |",
            *(
                f"| `{label.name}` | {label.about} | {'most' if label in declared.MODEL else code(names)} |"
                for label, names in labels.items()
            ),
            "\n## Buckets\n",
            wrap(BUCKETS) + "\n",
            *(wrap(f"- `{one.name}`: {', '.join(map(str, one.buckets))}.", "  ") for one in metrics if one.buckets),
            "\n## Series\n",
            wrap(SERIES.format(two=most[2], hundred=most[100])),
            "",
        ]
    )


def _serve_defaults() -> dict[str, object]:
    """What each flag of `visor serve` is where it is not given."""
    commands: Commands = argparse.ArgumentParser().add_subparsers()
    serve.add(commands)
    [parser] = commands.choices.values()
    return {name: action.default for name, action in parser._option_string_actions.items()}


def _keys(model: type[BaseModel]) -> Iterator[str]:
    """The lines of a model's keys, in their order."""
    for key in keys.keys_of(model):
        if key.is_section:
            yield f"\n{'#' * (2 + key.path.count('.'))} `{key.path}`\n"
            yield wrap(key.about + " Required." * key.required) + "\n"
        else:
            yield _item(f"`{key.path}` ({key.head})", key.about)


def _item(head: str, text: str) -> str:
    return wrap(f"- **{head}**: {inspect.cleandoc(text)}".replace("\n", " "), "  ")


if __name__ == "__main__":
    sys.exit(main())
