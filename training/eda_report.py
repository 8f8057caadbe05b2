"""The data set's report: one HTML file that needs nothing beside it, in the style of the evaluation's."""

import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from PIL import Image

from handlers.decode import decode
from handlers.spec import Limits, Preprocessing
from training import eda_plots
from training.data.duplicates import Near, is_leak
from training.data.manifest import Sample
from training.data.tree import SPLITS
from training.eda import OUTLIER, Findings, Look, Outlier
from training.errors import FolderError
from training.report import Picture, environment
from training.runs import replacing

THUMBNAIL = 160
PER_LABEL, LABELS, PAIRS, OUTLIERS, UNREADABLE = 6, 24, 12, 8, 20
IMBALANCE = 10
"""The largest label's images for each of the smallest one, from which on the report says so."""


@dataclass(frozen=True)
class Shown:
    """Pictures side by side, and what they show."""

    caption: str
    pictures: tuple[Picture, ...]


def render(findings: Findings) -> str:
    """The report as HTML. Raises DataError where an image is gone since it was measured."""
    templates = environment()
    counts = findings.counts()
    return templates.get_template("eda.html.j2").render(
        findings=findings,
        style=_style(templates),
        notes=notes(findings),
        figures=figures(findings),
        splits=SPLITS if findings.split else (),
        counts=counts,
        table=_table(findings.looks),
        kinds=", ".join(f"{kind} {n:,}" for kind, n in Counter(look.kind for look in findings.looks).most_common()),
        plots=_plots(findings, counts),
        near=_pairs(findings),
        sections=_sections(findings),
        samples=_samples(findings),
        hidden_labels=max(0, len(findings.labels) - LABELS),
        shown_unreadable=findings.unreadable[:UNREADABLE],
        limit=OUTLIER,
    )


def write(findings: Findings, path: Path) -> None:
    """Write the report, whole or not at all. Raises FolderError."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(render(findings))
    except OSError as err:
        raise FolderError(f"{path} cannot be written: {err.strerror}; name another file with --out") from err


def _style(environment: Environment) -> Markup:
    """The evaluation's style sheet, so that there is one."""
    source, *_ = environment.loader.get_source(environment, "report.html.j2")  # type: ignore[union-attr]
    [style] = re.findall(r"<style>.*?</style>", source, re.DOTALL)
    return Markup(style)


def notes(findings: Findings) -> list[str]:
    """What the reader must know first."""
    said = []
    if findings.refusal:
        said.append(f"Training would refuse this data set: {findings.refusal}")
    if leaks := findings.leaks:
        said.append(
            f"{len(leaks)} pairs of near-duplicates lie in two splits: what a test shares with training makes it easier "
            "than the world is. Keep such images together with data.group_pattern, or remove them."
        )
    if findings.unreadable:
        said.append(f"{len(findings.unreadable)} files cannot be decoded; training would stop at them.")
    sizes = [sum(held.values()) for held in findings.counts().values()]
    if (ratio := max(sizes) / max(min(sizes), 1)) >= IMBALANCE:
        said.append(f"The largest label has {ratio:.0f} times the images of the smallest: look at the smallest one's recall.")
    return said


def figures(findings: Findings) -> list[tuple[str, str, str]]:
    """The summary: (name, value, meaning)."""
    sizes = {label: sum(held.values()) for label, held in findings.counts().items()}
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    looks = findings.looks
    width, height = (np.median([getattr(look, side) for look in looks] or [0]) for side in ("width", "height"))
    megabytes = sum(look.sample.size for look in looks) / 1e6
    leaks = f"{len(findings.leaks)} of them in two splits" if findings.split else "the splits are not known"
    return [
        ("Images", f"{len(looks):,}", f"of {len(findings.labels)} labels, {megabytes:,.1f} MB"),
        ("Smallest label", f"{sizes[least]:,}", f"images of {least}, of {most} {sizes[most]:,}"),
        ("Median size", f"{width:.0f} x {height:.0f}", "pixels, width and height each for itself"),
        ("Near-duplicates", str(len(findings.near)), f"pairs at most {findings.bits} of 256 bits apart; {leaks}"),
        ("Brightness", str(len(findings.brightness)), "images much darker or brighter than the others"),
        ("Sharpness", str(len(findings.sharpness)), "images much more blurred or sharper than the others"),
        ("Unreadable", str(len(findings.unreadable)), "files that cannot be decoded"),
    ]


def _table(looks: Sequence[Look]) -> list[tuple[str, list[str]]]:
    """Rows of least, median and most."""
    if not looks:
        return []
    rows: list[tuple[str, list[float], str]] = [
        ("width, pixels", [look.width for look in looks], ",.0f"),
        ("height, pixels", [look.height for look in looks], ",.0f"),
        ("width / height", [look.width / look.height for look in looks], ".2f"),
        ("file, KB", [look.sample.size / 1e3 for look in looks], ",.1f"),
        ("brightness", [look.brightness for look in looks], ".3f"),
        ("sharpness", [look.sharpness for look in looks], ",.0f"),
    ]
    return [(name, [format(float(at(values)), form) for at in (np.min, np.median, np.max)]) for name, values, form in rows]


def _plots(findings: Findings, counts: dict[str, Counter[str]]) -> list[Picture]:
    looks = findings.looks
    if not looks:
        return []
    columns = {name: np.array([getattr(look, name) for look in looks]) for name in ("width", "height", "brightness", "sharpness")}
    plots = [Picture(eda_plots.balance(counts, findings.split), "bars: how many images each label has, by split")]
    if len(set(zip(columns["width"], columns["height"], strict=True))) > 1:
        plots.append(Picture(eda_plots.sizes(columns["width"], columns["height"]), "dots: width and height of the images"))
    for name, unit in (("brightness", "mean luma, 0 black, 1 white"), ("sharpness", "variance of the Laplacian")):
        outlying = [getattr(outlier.look, name) for outlier in getattr(findings, name)]
        picture = eda_plots.spread(name.capitalize(), unit, columns[name], outlying, logarithmic=name == "sharpness")
        plots.append(Picture(picture, f"histogram of the images' {name}"))
    return plots


def _pairs(findings: Findings) -> list[Shown]:
    """Near-duplicates, those in two splits first."""
    ordered = sorted(findings.near, key=lambda near: not is_leak(near)) if findings.split else findings.near
    return [
        Shown(_relation(near, findings.split), tuple(_picture(findings, sample) for sample in (near.one, near.other)))
        for near in ordered[:PAIRS]
    ]


def _relation(near: Near, split: bool) -> str:
    said = [f"{near.bits} of 256 bits apart"]
    said += ["in two splits"] if split and is_leak(near) else []
    said += ["under two labels"] if near.one.label != near.other.label else []
    return ", ".join(said)


def _sections(findings: Findings) -> list[tuple[str, str, list[Picture]]]:
    """Outliers: (title, meaning, pictures)."""

    def shown(outliers: Iterable[Outlier], above: bool) -> list[Picture]:
        chosen = [outlier for outlier in outliers if (outlier.score > 0) == above][:OUTLIERS]
        return [_picture(findings, one.look.sample, f"{one.score:+.1f}") for one in chosen]

    return [
        ("Dark", "far below the others' brightness", shown(findings.brightness, above=False)),
        ("Bright", "far above the others' brightness", shown(findings.brightness, above=True)),
        ("Blurred", "far below the others' sharpness, by the variance of the Laplacian", shown(findings.sharpness, above=False)),
        ("Sharp", "far above the others' sharpness: noise, print, fine patterns", shown(findings.sharpness, above=True)),
    ]


def _samples(findings: Findings) -> list[Shown]:
    """Some images of each label, taken evenly."""
    shown = []
    for label in findings.labels[:LABELS]:
        held = [look.sample for look in findings.looks if look.sample.label == label]
        rows = sorted({round(row) for row in np.linspace(0, len(held) - 1, PER_LABEL).tolist()}) if held else []
        shown.append(Shown(label, tuple(_picture(findings, held[row]) for row in rows)))
    return shown


def _picture(findings: Findings, sample: Sample, remark: str = "") -> Picture:
    split = f" ({sample.split})" if findings.split else ""
    return Picture(thumbnail(findings.root / sample.path), sample.path, f"{sample.path}{split} {remark}".strip())


def thumbnail(path: Path) -> bytes:
    """The picture in its own proportions as a JPEG, its longer side about THUMBNAIL pixels; small ones with square pixels."""
    data = path.read_bytes()
    with Image.open(path) as image:
        width, height = image.size
    shrink = min(1.0, THUMBNAIL / max(width, height))
    sides = {"height": max(8, round(height * shrink)), "width": max(8, round(width * shrink))}
    view = Preprocessing(**sides, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pixels = decode(data, view, Limits())
    times = max(1, math.floor(THUMBNAIL / max(pixels.shape[:2])))
    buffer = io.BytesIO()
    Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
