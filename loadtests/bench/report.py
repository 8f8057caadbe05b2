"""A run's results as JSON, as Markdown and as pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.bench import plots
from loadtests.bench.figures import Round, ratio
from loadtests.bench.growth import AXES, Curve
from loadtests.bench.rounds import BARE

COLUMNS: Mapping[str, tuple[str, str]] = {
    "p50_ms": ("p50 ms", ".2f"),
    "p95_ms": ("p95 ms", ".2f"),
    "p99_ms": ("p99 ms", ".2f"),
    "throughput_per_s": ("images/s", ".1f"),
    "cpu_s_per_request": ("CPU ms/image", ".1f"),
    "open_p50_ms": ("open p50 ms", ".1f"),
    "open_p95_ms": ("open p95 ms", ".1f"),
    "open_p99_ms": ("open p99 ms", ".1f"),
    "memory_mb": ("memory MB", ".0f"),
    "start_s": ("start s", ".1f"),
}
SCALE = {"cpu_s_per_request": 1e3}


@dataclass(frozen=True)
class Results:
    """All of a run. `rounds`: of each row; `failed`: why a row has none."""

    settings: Mapping[str, Any]
    machine: Mapping[str, str]
    rounds: Mapping[str, Sequence[Round]]
    failed: Mapping[str, str]
    curves: Sequence[Curve]

    def best(self) -> dict[str, Round]:
        """Each row's best."""
        return {row: Round.best(rounds) for row, rounds in self.rounds.items()}


def save(results: Results, folder: Path) -> None:
    """Write results.json, results.md and the plots into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(to_json(results))
    (folder / "results.md").write_text(to_markdown(results))
    best = results.best()
    (folder / "latency.png").write_bytes(plots.latency(best))
    (folder / "cost.png").write_bytes(plots.cost(best))
    for axis, label in AXES.items():
        if curves := [curve for curve in results.curves if curve.axis == axis]:
            (folder / f"growth-{axis}.png").write_bytes(plots.growth(curves, label))


def to_json(results: Results) -> str:
    """Every round's figures, and the best."""
    rows = {
        row: {"best": Round.best(rounds).as_dict(), "rounds": [one.as_dict() for one in rounds]}
        for row, rounds in results.rounds.items()
    }
    document = {
        "settings": results.settings,
        "machine": results.machine,
        "rows": rows,
        "failed": results.failed,
        "growth": [asdict(curve) for curve in results.curves],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def to_markdown(results: Results) -> str:
    """The settings, the table of the best rounds, what failed, and growth."""
    lines = [f"- {key}: {value}" for key, value in {**results.settings, **results.machine}.items()]
    best = results.best()
    lines += ["", *_table(best)]
    lines += [f"\n{row} has no figures: {why}" for row, why in results.failed.items()]
    for axis, label in AXES.items():
        if curves := [curve for curve in results.curves if curve.axis == axis]:
            lines += ["", f"p50 ms (images/s) by {label}", "", *_growth(curves)]
    return "\n".join(lines) + "\n"


def _table(best: Mapping[str, Round]) -> list[str]:
    names = [name for name, _ in COLUMNS.values()]
    head = ["server", *names, "throughput / bare", "p50 - bare ms", "failures", "open failures"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row, figures in best.items():
        cells = [row, *(_cell(getattr(figures, key), form, SCALE.get(key, 1.0)) for key, (_, form) in COLUMNS.items())]
        over = None if BARE not in best or figures.p50_ms is None else figures.p50_ms - (best[BARE].p50_ms or 0.0)
        cells += [
            _cell(ratio(best, row, BARE, "throughput_per_s"), ".2f"),
            _cell(over, ".2f"),
            str(figures.failures),
            str(figures.open_failures),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _growth(curves: Sequence[Curve]) -> list[str]:
    xs = sorted({x for curve in curves for x in curve.x})
    lines = [f"| server | {' | '.join(map(str, xs))} |", f"|{' --- |' * (len(xs) + 1)}"]
    for curve in curves:
        points = {x: f"{p50:.1f} ({rate:.1f})" for x, p50, rate in zip(curve.x, curve.p50_ms, curve.images_per_s, strict=True)}
        lines.append(f"| {curve.row} | {' | '.join(points.get(x, '') for x in xs)} |")
    return lines


def _cell(value: float | None, form: str, scale: float = 1.0) -> str:
    return "" if value is None else format(value * scale, form)
