"""Make what the chart has of the package `watch`: charts/visor/dashboards/*.json for Grafana and charts/visor/alerts.yaml."""

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from transformer.declared import REQUEST_SECONDS
from watch.alerts import ALERTS
from watch.boards import BOARDS
from watch.dashboards import dashboard

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/visor"
HEAD = """\
# Made from watch/alerts.py by `make chart-watch`; templates/prometheus-rule.yaml fills in the names with a dollar sign.
# `bounds` are those of visor_request_seconds' buckets, one of which each latency of the SLO has to be.
"""


def main(argv: list[str] | None = None) -> int:
    """Write the files anew."""
    argparse.ArgumentParser(description="Make the chart's dashboards and alerts from the package watch.").parse_args(argv)
    written = files()
    for old in (CHART / "dashboards").glob("*.json"):
        old.unlink()
    for name, text in written.items():
        (CHART / name).parent.mkdir(exist_ok=True)
        (CHART / name).write_text(text)
    return 0


def files() -> dict[str, str]:
    """The text of each file, by its path in the chart."""
    boards = {f"dashboards/{board.name}.json": dashboard(board) for board in BOARDS}
    return boards | {"alerts.yaml": "".join((HEAD, *_alerts()))}


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
