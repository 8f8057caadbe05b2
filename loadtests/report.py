"""Write a run's result for a terminal, for programs, and for a browser: one HTML file that needs nothing beside it."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from loadtests import plots
from loadtests.capacity import Capacity
from loadtests.overload import OverloadFigures
from loadtests.samples import Sample, write
from loadtests.slo import Slo
from loadtests.soak import MIB, SoakFigures
from loadtests.verdict import ALL, PERCENTS, Figures, Violation, by_protocol, offers_enough, show, summarise

LATE_MS = 20.0
"""Above this the reader is told that the generator itself was late."""


@dataclass(frozen=True)
class Run:
    """Holds a run and its verdict. `settings`: what was asked for, in words; `overload`: only for a run above the capacity.

    `offered_per_s`: requests a second of an open loop, None where each answer brought the next request. `capacity`: where it was
    searched; `samples` are then those at it. `soak`: only for a soak.
    """

    settings: Mapping[str, str]
    samples: Sequence[Sample]
    slo: Slo
    violations: Sequence[Violation]
    overload: OverloadFigures | None = None
    offered_per_s: float | None = None
    capacity: Capacity | None = None
    soak: SoakFigures | None = None

    @property
    def figures(self) -> dict[str, Figures]:
        """Summarise each protocol and, where there are several, all together."""
        own = by_protocol(self.samples)
        groups = {**own, ALL: self.samples} if len(own) > 1 else own
        return {name: summarise(samples) for name, samples in groups.items()}

    @property
    def notes(self) -> list[str]:
        """List the warnings that a reader must know first."""
        notes = []
        late = max((figures.late_p99_ms for figures in self.figures.values()), default=0.0)
        if late > LATE_MS:
            notes.append(
                f"1 request in 100 left {late:.0f} ms late or later: the generator or its bound on requests in flight was reached"
            )
        if self.offered_per_s is not None and not offers_enough(self.slo, self.offered_per_s):
            notes.append(
                f"throughput is not judged: {self.offered_per_s:g} requests a second were offered, no more than the bound of "
                f"{self.slo.throughput_per_s:g}"
            )
        if self.soak and not self.soak.memory:
            notes.append("memory is not judged: the server's processes are not known here; name its process with --pid")
        elif self.soak and self.soak.growth and math.isinf(self.soak.growth.high):
            notes.append("memory is judged by its slope alone: the run is too short for an interval")
        return notes


def save(run: Run, folder: Path) -> Path:
    """Write report.html, report.json and samples.csv into the folder; return the first's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write(run.samples, folder / "samples.csv")
    (folder / "report.json").write_text(json.dumps(to_json(run), indent=2, allow_nan=False) + "\n")
    path = folder / "report.html"
    path.write_text(to_html(run))
    return path


def to_json(run: Run) -> dict[str, Any]:
    """Convert the run to plain values for JSON; null stands for a latency that was never reached."""
    tree = {
        "met": not run.violations,
        "notes": run.notes,
        "violations": [asdict(violation) for violation in run.violations],
        "settings": dict(run.settings),
        "figures": {name: {**asdict(f), "failed": f.failed, "error_rate": f.error_rate} for name, f in run.figures.items()},
        "capacity": asdict(run.capacity) | {"busy": run.capacity.busy} if run.capacity else None,
        "soak": asdict(run.soak) if run.soak else None,
        "overload": asdict(run.overload) | {"goodput": run.overload.goodput} if run.overload else None,
        "slo": run.slo.model_dump(),
    }
    return dict(_finite(tree))


def to_html(run: Run) -> str:
    """Render the report with its plots inside."""
    environment = Environment(
        loader=PackageLoader("loadtests"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = [
        (plots.latency_over_time(run.samples, run.slo), "Latency of each request over the run"),
        (plots.latency_distribution(run.samples, run.slo), "Share of requests answered right within a latency"),
        (plots.rates(run.samples), "Requests due, answered, refused and failed in each second"),
    ]
    if run.soak and run.soak.memory:
        pictures.append((plots.memory(run.soak), "Memory of the server's processes over the run"))
    return environment.get_template("report.html.j2").render(
        run=run,
        columns=COLUMNS,
        rows=[(name, cells(figures)) for name, figures in run.figures.items()],
        sections=sections(run),
        plots=[(f"data:image/png;base64,{base64.b64encode(data).decode()}", alt) for data, alt in pictures],
    )


COLUMNS = ("requests", "failed", "p50 ms", "p95 ms", "p99 ms", "answers/s")


def cells(figures: Figures) -> list[str]:
    """Format one row of the table, under COLUMNS."""
    latencies = [show(round(value, 2)) for value in figures.latency_ms.values()]
    return [str(figures.requests), str(figures.failed), *latencies, f"{figures.throughput_per_s:.1f}"]


def overload_rows(figures: OverloadFigures) -> list[tuple[str, str]]:
    """List (name, value) of each figure of an overload."""
    return [
        ("capacity", f"{figures.capacity_per_s:.1f} answers/s in a closed loop"),
        ("offered", f"{figures.offered} requests"),
        ("goodput", f"{figures.goodput_per_s:.1f} answers/s, {figures.goodput:.2f} of the capacity"),
        ("refused", f"{figures.refused} requests, p99 {figures.refused_p99_ms:.1f} ms"),
        ("failed otherwise", f"{figures.failed} requests"),
        ("recovery", f"{show(figures.recovery_s)} s"),
    ]


def capacity_rows(found: Capacity) -> list[tuple[str, str]]:
    """List (name, value) of what a search has found."""
    rows = [("capacity", f"{found.per_s:.1f} requests/s within the SLO, of {len(found.steps)} rates that were tried")]
    if (best := found.best) and best.server_cpu_s is not None and found.busy is not None:
        rows.append(("CPU a request", f"server {1e3 * best.server_cpu_s:.1f} ms, client {1e3 * best.client_cpu_s:.1f} ms"))
        rows.append(("capacity x CPU", f"{found.busy:.2f} of {found.cores} cores, server and client together"))
    tried = sorted(found.steps, key=lambda step: step.rate)
    rows += [(f"{s.rate:.1f}/s", "; ".join(s.violated) or f"met, p99 {show(round(s.p99_ms, 1))} ms") for s in tried]
    return rows


def soak_rows(figures: SoakFigures) -> list[tuple[str, str]]:
    """List (name, value) of each figure of a soak."""
    own = [window for _, window in figures.windows]
    rows = [
        ("rate", f"{figures.rate:.1f} requests/s in {len(own)} windows"),
        ("failed", f"{sum(window.failed for window in own)} requests"),
        *[
            (f"p{percent} by window", f"{show(round(min(values), 1))} to {show(round(max(values), 1))} ms")
            for percent in PERCENTS
            if (values := [window.latency_ms[percent] for window in own])
        ],
    ]
    if grown := figures.growth:
        rows.append(("memory", f"{figures.memory[0][1] / MIB:.0f} MiB at first, {figures.memory[-1][1] / MIB:.0f} at last"))
        interval = f"95 % interval {grown.low:+.3f} to {grown.high:+.3f}"
        rows.append(("growth", f"{grown.mib_per_min:+.3f} MiB/min in the last two thirds, {interval}"))
    return rows


def sections(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """List what only some runs have: (title, rows)."""
    found = []
    if run.overload:
        found.append(("Overload", overload_rows(run.overload)))
    if run.capacity:
        found.append(("Capacity", capacity_rows(run.capacity)))
    if run.soak:
        found.append(("Soak", soak_rows(run.soak)))
    return found


def to_text(run: Run) -> str:
    """Format the result for a terminal."""
    width = max(len(name) for name in (*run.figures, ALL))
    lines = ["".join([" " * width, *(f"{name:>11}" for name in COLUMNS)])]
    lines += ["".join([f"{name:{width}}", *(f"{cell:>11}" for cell in cells(f))]) for name, f in run.figures.items()]
    failures = summarise(run.samples).failures if run.samples else {}
    lines += [f"failed: {count} of {code}" for code, count in failures.items()]
    lines += [f"{name:{width}}  {value}" for _, rows in sections(run) for name, value in rows]
    lines += [f"note: {note}" for note in run.notes]
    lines += [f"violated: {violation}" for violation in run.violations]
    lines.append("The SLO is violated." if run.violations else "The SLO is met.")
    return "\n".join(lines)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
