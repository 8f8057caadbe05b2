"""A comparison as text, Markdown, JSON and one HTML page with plots."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archives import files
from training.reports.drawing import BLUE, GRID, INK, ORANGE, blank_figure, png, verbatim
from training.reports.pages import UNDEFINED, Picture, environment
from training.selection.comparison import MEASURES, Comparison, Interval, Row, Sealed

NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1", "fnr": "FNR", "ece": "ECE", "expected_cost": "expected cost"}


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write compare.json, compare.md and compare.html into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "compare.json": json.dumps(to_json(comparison), indent=2, ensure_ascii=False) + "\n",
        "compare.md": markdown(comparison),
        "compare.html": html(comparison),
    }
    for name, text in texts.items():
        with files.replacing(folder / name) as temporary:
            temporary.write_text(text)
    return [folder / name for name in texts]


def table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return (head, rows): a row for each run, its figures with their 95 % intervals."""
    parameters = comparison.differing
    beside = comparison.champion is not None
    backends = sorted(
        {name for row in comparison.rows for name in (row.candidate.archive.latency_ms if row.candidate.archive else {})}
    )
    head = ["run", *(NAMES[name] for name in MEASURES)]
    head += ["cost less champion's", "no cheaper, p", "labels, p"] if beside else []
    head += [*(f"{name}, ms" for name in backends), "archive, MB", "answers by", *parameters]
    return head, [_cells(comparison, row, backends, parameters) for row in comparison.rows]


def _cells(comparison: Comparison, row: Row, backends: Sequence[str], parameters: Sequence[str]) -> list[str]:
    candidate, archive = row.candidate, row.candidate.archive
    marks = [mark for mark, name in (("champion", comparison.champion), ("chosen", comparison.chosen)) if candidate.name == name]
    cells = [
        f"{candidate.name} ({', '.join(marks)})" if marks else candidate.name,
        *(_interval(row.figures[name]) for name in MEASURES),
    ]
    if comparison.champion is not None:
        tested = row.versus
        cells += [_interval(tested.cost), f"{tested.cheaper_p:.3g}", f"{tested.labels_p:.3g}"] if tested else [UNDEFINED] * 3
    latencies = archive.latency_ms if archive else {}
    cells += [f"{latencies[name]:.2f}" if name in latencies else UNDEFINED for name in backends]
    cells += [f"{archive.bytes / 1e6:.1f}" if archive else UNDEFINED, candidate.spec.backend]
    return cells + [candidate.parameters.get(name, UNDEFINED) for name in parameters]


def _interval(figure: Interval) -> str:
    if math.isnan(figure.value):
        return UNDEFINED
    return f"{figure.value:.4f}" + ("" if math.isnan(figure.low) else f" [{figure.low:.4f}, {figure.high:.4f}]")


def summary(comparison: Comparison) -> list[str]:
    """Write what the rule says, in sentences."""
    said = [comparison.rule.describe()]
    said.append(f"That is {comparison.chosen}." if comparison.chosen else "No run keeps them.")
    said += [f"{row.candidate.name} {' and '.join(row.objections)}." for row in comparison.rows if row.objections]
    first = comparison.rows[0].candidate
    groups = next((row.candidate.groups for row in comparison.rows if row.candidate.groups is not None), None)
    together = "" if groups is None else f" in {len(set(groups))} groups, which are what is drawn and tested"
    said.append(
        f"{len(first.truth)} test images{together}, the same for all. In brackets intervals of 95 %: Wilson's for accuracy and "
        f"FNR, percentiles of {comparison.resamples} bootstrap samples (seed {comparison.seed}) for macro F1 and costs."
    )
    challengers = sum(row.versus is not None for row in comparison.rows)
    if challengers:
        said.append(
            f"The p-values are adjusted for {challengers} challengers (Holm): a run is cheaper than the champion where its p is "
            "at most 0.025, which happens to none of equally good ones in 97.5 % of such comparisons."
        )
    if comparison.sealed:
        said += _sealed(comparison.sealed, comparison)
    elif comparison.chosen and len(comparison.rows) > 1:
        said.append("The figures flatter the run that was chosen by them; a sealed split (data.splits.sealed) would not.")
    return said


def _sealed(sealed: Sealed, comparison: Comparison) -> list[str]:
    told = "; ".join(
        f"{NAMES[name]} {_interval(figure)}" for name, figure in sealed.figures.items() if not math.isnan(figure.value)
    )
    among = f"which neither the fits nor this choice among {len(comparison.rows)} runs has seen"
    said = [f"On {sealed.images} sealed images, {among}, {comparison.chosen} served by {sealed.backend} has: {told}."]
    if sealed.before:
        said.append(f"They were opened before, for {', '.join(sealed.before)}: what was learnt then may have led to this choice.")
    return said


def markdown(comparison: Comparison) -> str:
    """Render the table and what the rule says as Markdown."""
    head, rows = table(comparison)
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    lines = [f"| {' | '.join(line)} |" for line in cells]
    lines.insert(1, f"| --- {'| ---: ' * (len(head) - 1)}|")
    return "\n".join([*summary(comparison), "", *lines, ""])


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return all figures, null for what is not defined."""
    rows = []
    for row in comparison.rows:
        candidate, archive = row.candidate, row.candidate.archive
        rows.append(
            {
                "run": candidate.name,
                "mlflow_run_id": candidate.run_id,
                "backend": candidate.spec.backend,
                "figures": {name: _plain(figure) for name, figure in row.figures.items()},
                "versus_champion": None if row.versus is None else vars(row.versus) | {"cost": _plain(row.versus.cost)},
                "objections": row.objections,
                "archive": None if archive is None else vars(archive),
                "parameters": {name: candidate.parameters.get(name) for name in comparison.differing},
            }
        )
    head: dict[str, Any] = {"rule": comparison.rule.describe(), "champion": comparison.champion, "chosen": comparison.chosen}
    if sealed := comparison.sealed:
        head["sealed"] = vars(sealed) | {"figures": {name: _plain(figure) for name, figure in sealed.figures.items()}}
    return head | {"seed": comparison.seed, "resamples": comparison.resamples, "runs": rows}


def _plain(figure: Interval) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 6) for name, value in vars(figure).items()}


def html(comparison: Comparison) -> str:
    """Render one page that needs nothing beside it."""
    head, rows = table(comparison)
    picture = Picture(plot(comparison), "Each run's figures with their 95 % intervals; the rule's choice is marked")
    template = environment().get_template("comparison.html.j2")
    return template.render(summary=summary(comparison), head=head, rows=rows, picture=picture)


def plot(comparison: Comparison) -> bytes:
    """Draw a panel for each measure: the runs' figures and intervals, the chosen run in orange. PNG."""
    rows = comparison.rows
    figure = blank_figure((12.0, 1.6 + 0.35 * len(rows)))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(MEASURES), sharey=True)
    for axes, name in zip(panels, MEASURES, strict=True):
        axes.set_title(NAMES[name], loc="left", color=INK, fontsize=10)
        for place, row in enumerate(rows):
            found = row.figures[name]
            if not math.isnan(found.value):
                colour = ORANGE if row.candidate.name == comparison.chosen else BLUE
                if not math.isnan(found.low):
                    axes.plot([found.low, found.high], [place, place], color=colour)
                axes.plot(found.value, place, "o", color=colour, markersize=5)
        axes.grid(visible=True, color=GRID, linewidth=0.8)
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=INK, length=0, labelsize=8)
    panels[0].set_yticks(range(len(rows)), [verbatim(row.candidate.name) for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return png(figure)
