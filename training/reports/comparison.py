"""A comparison as text, Markdown, JSON and one HTML page with plots."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import quote

from matplotlib.ticker import MaxNLocator

from archives import files
from handlers.errors import counted
from training import runs
from training.reports.drawing import BLUE, ORANGE, SIZE, blank_figure, dress, png, short
from training.reports.pages import UNDEFINED, Picture, environment
from training.selection.comparison import MEASURES, Audits, Comparison, Interval, Row, Sealed

NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1", "fnr": "FNR", "ece": "ECE", "expected_cost": "expected cost"}


@dataclass(frozen=True)
class Group:
    """Columns that belong together. `rows`: by run, the cells under `head`."""

    title: str
    head: list[str]
    rows: list[tuple[str, list[str]]]


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write compare.json, compare.md and compare.html into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "compare.json": json.dumps(to_json(comparison), indent=2, ensure_ascii=False) + "\n",
        "compare.md": markdown(comparison),
        "compare.html": html(comparison, folder),
    }
    for name, text in texts.items():
        with files.replacing(folder / name) as temporary:
            temporary.write_text(text)
    return [folder / name for name in texts]


def groups(comparison: Comparison) -> list[Group]:
    """Return the runs' cells in groups: what decides, the figures with their 95 % intervals, the settings that differ."""
    archives = [row.candidate.archive for row in comparison.rows]
    backends = sorted({name for archive in archives if archive for name in archive.latency_ms})
    tested = ["cost less champion's", "no cheaper, p", "labels, p"] if comparison.champion is not None else []
    deciding = [NAMES["expected_cost"], *tested, *(f"{name}, ms" for name in backends), "archive, MB", "answers by"]
    measured = [name for name in measures(comparison) if name != "expected_cost"]
    told = comparison.differing
    made = [
        Group("What decides", deciding, [_row(row, _deciding(comparison, row, backends)) for row in comparison.rows]),
        Group(
            "Figures",
            [NAMES[name] for name in measured],
            [_row(row, [_interval(row.figures[name]) for name in measured]) for row in comparison.rows],
        ),
        Group(
            "Settings that differ",
            told,
            [_row(row, [row.candidate.parameters.get(name, UNDEFINED) for name in told]) for row in comparison.rows],
        ),
    ]
    return [group for group in made if group.head]


def measures(comparison: Comparison) -> list[str]:
    """List the measures that any run has: without positive labels there is no rate of missed ones."""
    return [name for name in MEASURES if any(not math.isnan(row.figures[name].value) for row in comparison.rows)]


def table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return (head, rows) of all groups beside each other: a row for each run, its name and marks first."""
    made, said = groups(comparison), marks(comparison)
    head = ["run", *(cell for group in made for cell in group.head)]
    rows = []
    for n, row in enumerate(comparison.rows):
        name = row.candidate.name
        rows.append([f"{name}{said[name]}", *(cell for group in made for cell in group.rows[n][1])])
    return head, rows


def text(comparison: Comparison, width: int) -> list[str]:
    """Write the table for a terminal: a line for each figure, the runs beside each other, as many as `width` columns hold."""
    head, rows = table(comparison)
    wide = [max(map(len, cells)) for cells in (head, *rows)]
    lines, left = list[str](), list(range(len(rows)))
    while left:
        many = 1
        while many < len(left) and wide[0] + sum(2 + wide[1 + row] for row in left[: many + 1]) <= width:
            many += 1
        columns = [(wide[0], head), *((wide[1 + row], rows[row]) for row in left[:many])]
        lines += ["  ".join(f"{cells[n]:{across}}" for across, cells in columns).rstrip() for n in range(len(head))]
        left = left[many:]
        lines += [""] if left else []
    return lines


def marks(comparison: Comparison) -> dict[str, str]:
    """Say by run whether it is the champion or the rule's choice: " (champion, chosen)", or nothing."""
    told = {"champion": comparison.champion, "chosen": comparison.chosen}
    found = {row.candidate.name: [mark for mark, name in told.items() if name == row.candidate.name] for row in comparison.rows}
    return {name: f" ({', '.join(said)})" if said else "" for name, said in found.items()}


def _row(row: Row, cells: list[str]) -> tuple[str, list[str]]:
    return row.candidate.name, cells


def _deciding(comparison: Comparison, row: Row, backends: Sequence[str]) -> list[str]:
    archive, cells = row.candidate.archive, [_interval(row.figures["expected_cost"])]
    if comparison.champion is not None:
        tested = row.versus
        cells += [_interval(tested.cost), f"{tested.cheaper_p:.3g}", f"{tested.labels_p:.3g}"] if tested else [UNDEFINED] * 3
    latencies = archive.latency_ms if archive else {}
    cells += [f"{latencies[name]:.2f}" if name in latencies else UNDEFINED for name in backends]
    return [*cells, f"{archive.bytes / 1e6:.1f}" if archive else UNDEFINED, row.candidate.spec.backend]


def _interval(figure: Interval) -> str:
    if math.isnan(figure.value):
        return UNDEFINED
    return f"{figure.value:.4f}" + ("" if math.isnan(figure.low) else f" [{figure.low:.4f}, {figure.high:.4f}]")


def summary(comparison: Comparison) -> list[str]:
    """Write what the rule says, in sentences."""
    said = [comparison.rule.describe()]
    said.append(f"That is {comparison.chosen}." if comparison.chosen else "No run keeps them.")
    if comparison.chosen and len(comparison.rows) > 1 and not comparison.sealed:
        said.append(
            "The same test images chose it and judge it, so that its figures flatter it; those of a sealed split "
            "(data.splits.sealed), or of images that no run was compared on, would not."
        )
    said += [f"{row.candidate.name} {' and '.join(row.objections)}." for row in comparison.rows if row.objections]
    first = comparison.rows[0].candidate
    groups = next((row.candidate.groups for row in comparison.rows if row.candidate.groups is not None), None)
    together = "" if groups is None else f" in {counted(len(set(groups)), 'group')}, which are what is drawn and tested"
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
    if comparison.audits:
        said += _audits(comparison.audits)
    if comparison.sealed:
        said += _sealed(comparison.sealed, comparison)
    return said


def _audits(audits: Audits) -> list[str]:
    said = [
        f"On {counted(audits.images, 'audit')}, drawn at random of what a server was asked and learnt from by none, {name} has: "
        f"{_told(figures)}."
        for name, figures in audits.figures.items()
    ]
    said += [
        f"There, beside {audits.reference}, {name} alone is right on {versus.only_it} and wrong on {versus.only_champion} "
        f"(p {versus.labels_p:.4f}); its cost less that of {audits.reference} is {_interval(versus.cost)}, p of being no cheaper "
        f"{versus.cheaper_p:.4f}."
        for name, versus in audits.versus.items()
    ]
    said += [f"{name} was not asked, as it is known from MLflow alone; name its folder." for name in audits.not_asked]
    return said


def _told(figures: Mapping[str, Interval]) -> str:
    return "; ".join(f"{NAMES[name]} {_interval(figure)}" for name, figure in figures.items() if not math.isnan(figure.value))


def _sealed(sealed: Sealed, comparison: Comparison) -> list[str]:
    told = _told(sealed.figures)
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
    if audits := comparison.audits:
        head["audits"] = {
            "images": audits.images,
            "reference": audits.reference,
            "figures": {run: {name: _plain(one) for name, one in figures.items()} for run, figures in audits.figures.items()},
            "versus": {run: vars(one) | {"cost": _plain(one.cost)} for run, one in audits.versus.items()},
            "not_asked": audits.not_asked,
        }
    return head | {"seed": comparison.seed, "resamples": comparison.resamples, "runs": rows}


def _plain(figure: Interval) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 6) for name, value in vars(figure).items()}


def html(comparison: Comparison, folder: Path | None = None) -> str:
    """Render one page that needs nothing beside it. `folder`: where it will lie, from which runs' reports are linked."""
    picture = Picture(plot(comparison), "Each run's figures with their 95 % intervals; the rule's choice is orange")
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            summary=summary(comparison),
            images=len(comparison.rows[0].candidate.truth),
            groups=groups(comparison),
            marks=marks(comparison),
            hrefs=_reports(comparison, folder) if folder else {},
            pictures=[picture],
        )
    )


def _reports(comparison: Comparison, folder: Path) -> dict[str, str]:
    """The addresses of the runs' own reports, as seen from a folder, of those that are there."""
    found = {row.candidate.name: row.candidate.folder / runs.REPORT for row in comparison.rows if row.candidate.folder}
    return {name: quote(relpath(path, folder)) for name, path in found.items() if path.is_file()}


def plot(comparison: Comparison) -> bytes:
    """Draw a panel for each measure below each other: the runs' figures and intervals, the chosen run in orange. PNG."""
    rows, names = comparison.rows, measures(comparison)
    figure = blank_figure((SIZE[0], 0.6 + len(names) * (0.55 + 0.2 * len(rows))))
    for axes, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        dress(axes, "", NAMES[name], "")
        for place, row in enumerate(rows):
            found = row.figures[name]
            if not math.isnan(found.value):
                colour = ORANGE if row.candidate.name == comparison.chosen else BLUE
                if not math.isnan(found.low):
                    axes.plot([found.low, found.high], [place, place], color=colour)
                axes.plot(found.value, place, "o", color=colour, markersize=5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_yticks(range(len(rows)), [short(Path(row.candidate.name).name) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
    return png(figure)
