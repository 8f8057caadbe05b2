"""Make what is made of the package `watch`.

The chart visor's dashboards/*.json for Grafana and alerts.yaml, and docker/prometheus, which the Prometheus of Compose reads.
"""

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.watch import write
from transformer.declared import REQUEST_SECONDS
from watch.alerts import ALERTS
from watch.boards import BOARDS
from watch.dashboards import dashboard

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/visor"
COMPOSED = ROOT / "docker/prometheus"
HEAD = """\
# Made from watch/alerts.py by `make chart-watch`; templates/prometheus-rule.yaml fills in the names with a dollar sign.
# `bounds` are those of visor_request_seconds' buckets, one of which each latency of the SLO has to be.
"""


def main(argv: list[str] | None = None) -> int:
    """Write the files anew."""
    about = "Make the dashboards and alerts of the chart and of Compose from the package watch."
    argparse.ArgumentParser(description=about).parse_args(argv)
    written = files()
    for old in (CHART / "dashboards").glob("*.json"):
        old.unlink()
    for name, text in written.items():
        (CHART / name).parent.mkdir(exist_ok=True)
        (CHART / name).write_text(text)
    write_composed(COMPOSED)
    return 0


def files() -> dict[str, str]:
    """The text of each file, by its path in the chart."""
    boards = {f"dashboards/{board.name}.json": dashboard(board) for board in BOARDS}
    return boards | {"alerts.yaml": "".join((HEAD, *_alerts()))}


def write_composed(folder: Path) -> None:
    """Write what `make watch` gives its Prometheus, for the servers of docker/compose.yaml: by the names of its services."""
    runbooks = yaml.safe_load((CHART / "values.yaml").read_text())["alerts"]["runbooks"]
    write(folder, ["pod:8080"], 15, runbooks, {"console": ["console:8090"]})


def _alerts() -> Iterator[str]:
    yield f"bounds: {list(REQUEST_SECONDS.buckets)}\nalerts:\n"
    for alert in ALERTS:
        rule: dict[str, Any] = {
            "alert": alert.name,
            "expr": alert.expression,
            "for": alert.lasting,
            "labels": {"severity": alert.severity, **alert.labels},
            "summary": alert.summary,
            "description": alert.description,
            "runbook": alert.anchor,
            "needs": alert.needs,
        }
        text = yaml.safe_dump([rule], sort_keys=False, width=float("inf"), allow_unicode=True)
        yield textwrap.indent(text, "  ")


if __name__ == "__main__":
    sys.exit(main())
