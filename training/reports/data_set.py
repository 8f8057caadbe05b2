"""The data set's report: one HTML file that needs nothing beside it, in the style of the evaluation's."""

import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from archives.files import replacing
from handlers.decode import decode, opened
from handlers.errors import counted
from handlers.spec import Limits, Preprocessing
from training.data.duplicates import Near, is_leak, say_blank, under_two_labels
from training.data.eda import OUTLIER, Findings, ImageFacts, Outlier
from training.data.manifest import Sample
from training.data.splits import evenly_spaced
from training.data.tree import SPLITS
from training.errors import DataLeak, FolderError
from training.reports import eda_plots, links
from training.reports.pages import Picture, environment, share
from training.reports.tables import Table

THUMBNAIL = 160
PER_LABEL, LABELS, PAIRS, OUTLIERS, UNREADABLE = 6, 24, 12, 8, 20
NAMED = 5
IMBALANCE = 10
"""The largest label's images for each of the smallest one, from which on the report says so."""


@dataclass(frozen=True)
class PictureRow:
    """Pictures that are shown side by side, under one caption."""

    caption: str
    pictures: tuple[Picture, ...]


def render(findings: Findings) -> str:
    """Render the report as HTML. Raises DataError where an image is gone since it was measured."""
    counts = findings.counts()
    return (
        environment()
        .get_template("eda.html.j2")
        .render(
            findings=findings,
            notes=notes(findings),
            figures=figures(findings),
            digest=findings.digest,
            labels=_labels(findings, counts),
            measures=_measures(findings.images),
            plots=_plots(findings, counts),
            near=_pairs(findings),
            paths=_paths(findings),
            sections=_sections(findings),
            samples=_samples(findings),
            hidden_labels=max(0, len(findings.labels) - LABELS),
            shown_unreadable=findings.unreadable[:UNREADABLE],
            limit=OUTLIER,
        )
    )


def write(findings: Findings, path: Path) -> None:
    """Write the report, whole or not at all, and links to and from what lies beside it. Raises FolderError."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(render(findings))
        links.refresh(path.parent)
    except OSError as err:
        raise FolderError(f"{path} cannot be written: {err.strerror}; name another file with --out") from err


def notes(findings: Findings) -> list[str]:
    """Write what the reader must know first."""
    said = [f"Training would refuse this data set: {refusal}" for refusal in findings.refusals]
    if (leaks := findings.leaks) and not any(refusal.startswith(DataLeak.code) for refusal in findings.refusals):
        said.append(
            f"{counted(len(leaks), 'pair of near-duplicates lies', 'pairs of near-duplicates lie')} in two splits: what a test "
            "shares with training makes it easier than the world is. Keep such images together with data.group_pattern, or "
            "remove them. Training does not stop there, by data.leaks."
        )
    if twice := under_two_labels(findings.near):
        said.append(f"{twice[0].upper()}{twice[1:]}. A picture has one label: remove one of the two, or merge the labels.")
    if blank := say_blank(findings.blank):
        said.append(f"{blank}.")
    if dim := [image.brightest for image in findings.images if image.brightest and 2 * image.brightest[0] < image.brightest[1]]:
        sample, white = max(dim)
        said.append(
            f"{counted(len(dim), 'grey image has', 'grey images have')} 16 bits, brightest value {sample} of {white}: seen "
            "darker than half of white. If their samples have fewer bits, their files must say so (docs/guide.md, Pictures)."
        )
    sizes = {label: held.total() for label, held in findings.counts().items()}
    if empty := [label for label, size in sizes.items() if not size]:
        named = ", ".join(empty[:NAMED]) + (f" and {len(empty) - NAMED} more" if len(empty) > NAMED else "")
        said.append(f"{counted(len(empty), 'label has', 'labels have')} no image that can be shown: {named}.")
    some = [size for size in sizes.values() if size]
    if some and (ratio := max(some) / min(some)) >= IMBALANCE:
        said.append(f"The largest label has {ratio:.0f} times the images of the smallest: look at the smallest one's recall.")
    return said


def figures(findings: Findings) -> list[tuple[str, str, str]]:
    """List the summary's figures: (name, value, meaning)."""
    sizes = {label: sum(held.values()) for label, held in findings.counts().items()}
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    images = findings.images
    width, height = (np.median([getattr(image, side) for image in images] or [0]) for side in ("width", "height"))
    megabytes = sum(image.sample.size for image in images) / 1e6
    leaks = f"{len(findings.leaks)} of them in two splits" if findings.split else "the splits are not known"
    pairs = "pair" if len(findings.near) == 1 else "pairs"
    return [
        ("Images", f"{len(images):,}", f"of {len(findings.labels)} labels, {megabytes:,.1f} MB"),
        ("Smallest label", f"{sizes[least]:,}", f"images of {least}, of {most} {sizes[most]:,}")
        if sizes[least] < sizes[most]
        else ("Each label", f"{sizes[least]:,}", "images: all labels have as many"),
        ("Median size", f"{width:.0f} x {height:.0f}", "pixels, width and height each for itself"),
        ("Near-duplicates", str(len(findings.near)), f"{pairs} at most {findings.bits} of 256 bits apart; {leaks}"),
        ("Brightness", str(len(findings.brightness)), "images much darker or brighter than the others"),
        ("Sharpness", str(len(findings.sharpness)), "images much more blurred or sharper than the others"),
        ("Unreadable", str(len(findings.unreadable)), "files that cannot be decoded"),
    ]


def _labels(findings: Findings, counts: dict[str, Counter[str]]) -> Table:
    """Count each label's images by split and all together, with their share of the data set."""
    splits = SPLITS if findings.split else ()
    of = max(1, len(findings.images))
    rows = [
        (label, *(f"{held[split]:,}" for split in splits), f"{held.total():,}", share(held.total() / of))
        for label, held in counts.items()
    ]
    unknown = "" if splits else "; how training would split them is not known"
    return Table(("", *splits, "all", "share"), rows, f"Images of each label{unknown}")


def _measures(images: Sequence[ImageFacts]) -> Table:
    """Write the least, median and most of what is measured of images."""
    columns: list[tuple[str, list[float], str]] = [
        ("width, pixels", [image.width for image in images], ",.0f"),
        ("height, pixels", [image.height for image in images], ",.0f"),
        ("width / height", [image.width / image.height for image in images], ".2f"),
        ("file, KB", [image.sample.size / 1e3 for image in images], ",.1f"),
        ("brightness", [image.brightness for image in images], ".3f"),
        ("sharpness", [image.sharpness for image in images], ",.0f"),
    ]
    rows = [
        (name, *(format(float(at(values)), form) for at in (np.min, np.median, np.max)))
        for name, values, form in columns
        if values
    ]
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in Counter(image.kind for image in images).most_common())
    caption = f"{kinds or 'No images'}. Brightness and sharpness are of the picture as the network sees it."
    return Table(("", "least", "median", "most"), rows, caption, "Measures of the images")


def _plots(findings: Findings, counts: dict[str, Counter[str]]) -> list[Picture]:
    images = findings.images
    if not images:
        return []
    columns = {
        name: np.array([getattr(image, name) for image in images]) for name in ("width", "height", "brightness", "sharpness")
    }
    plots = [Picture(eda_plots.balance(counts, findings.split), "bars: how many images each label has, by split")]
    if len(set(zip(columns["width"], columns["height"], strict=True))) > 1:
        plots.append(Picture(eda_plots.sizes(columns["width"], columns["height"]), "dots: width and height of the images"))
    for name, unit in (("brightness", "mean luma, 0 black, 1 white"), ("sharpness", "variance of the Laplacian")):
        outlying = [getattr(outlier.image, name) for outlier in getattr(findings, name)]
        picture = eda_plots.spread(name.capitalize(), unit, columns[name], outlying, logarithmic=name == "sharpness")
        plots.append(Picture(picture, f"histogram of the images' {name}"))
    return plots


def _pairs(findings: Findings) -> list[PictureRow]:
    """The near-duplicates that are shown, side by side."""
    return [
        PictureRow(_relation(near, findings.split), tuple(_picture(findings, sample) for sample in (near.one, near.other)))
        for near in _ordered(findings)[:PAIRS]
    ]


def _paths(findings: Findings) -> list[tuple[str, str, str]]:
    """All near-duplicates where not all are shown: the two paths, and how they relate."""
    if len(findings.near) <= PAIRS:
        return []
    return [(near.one.path, near.other.path, _relation(near, findings.split)) for near in _ordered(findings)]


def _ordered(findings: Findings) -> Sequence[Near]:
    """Near-duplicates, those in two splits first."""
    return sorted(findings.near, key=lambda near: not is_leak(near)) if findings.split else findings.near


def _relation(near: Near, split: bool) -> str:
    said = [f"{near.bits} of 256 bits apart"]
    said += ["in two splits"] if split and is_leak(near) else []
    said += ["under two labels"] if near.one.label != near.other.label else []
    return ", ".join(said)


def _sections(findings: Findings) -> list[tuple[str, str, list[Picture]]]:
    """Outliers: (title, meaning, pictures)."""

    def shown(outliers: Iterable[Outlier], above: bool) -> list[Picture]:
        chosen = [outlier for outlier in outliers if (outlier.score > 0) == above][:OUTLIERS]
        return [_picture(findings, one.image.sample, f"{one.score:+.1f}") for one in chosen]

    return [
        ("Dark", "far below the others' brightness", shown(findings.brightness, above=False)),
        ("Bright", "far above the others' brightness", shown(findings.brightness, above=True)),
        ("Blurred", "far below the others' sharpness, by the variance of the Laplacian", shown(findings.sharpness, above=False)),
        ("Sharp", "far above the others' sharpness: noise, print, fine patterns", shown(findings.sharpness, above=True)),
    ]


def _samples(findings: Findings) -> list[PictureRow]:
    """Some images of each label, taken evenly."""
    shown = []
    for label in findings.labels[:LABELS]:
        held = [image.sample for image in findings.images if image.sample.label == label]
        rows = evenly_spaced(len(held), PER_LABEL)
        shown.append(PictureRow(label, tuple(_picture(findings, held[row]) for row in rows)))
    return shown


def _picture(findings: Findings, sample: Sample, remark: str = "") -> Picture:
    split = f" ({sample.split})" if findings.split else ""
    return Picture(thumbnail(findings.root / sample.path), sample.path, f"{sample.path}{split} {remark}".strip())


def thumbnail(path: Path) -> bytes:
    """Encode a picture as a JPEG in its own proportions, its longer side about THUMBNAIL pixels. Pixels stay square."""
    data = path.read_bytes()
    with opened(data) as image:
        width, height = image.size
    shrink = min(1.0, THUMBNAIL / max(width, height))
    sides = {"height": max(8, round(height * shrink)), "width": max(8, round(width * shrink))}
    view = Preprocessing(**sides, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pixels = decode(data, view, Limits())
    times = max(1, math.floor(THUMBNAIL / max(pixels.shape[:2])))
    buffer = io.BytesIO()
    Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
