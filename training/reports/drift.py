"""A window of images beside an archive's reference: as a table, as JSON, and as a page with the most unusual pictures."""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from archives.files import replacing
from handlers.decode import upright
from handlers.errors import ImageError
from handlers.spec import Limits, Preprocessing
from training.reports.pages import Picture, environment
from watch.verdict import Figure, Verdict

SHOWN, SIDE = 24, 240
"""Pictures of a page at most, and their longer side in pixels."""
NAMED = 10
"""Unusual images that JSON and text name."""
MEANINGS = {
    "score": "what the decision is made by",
    "brightness": "mean light",
    "contrast": "spread of light",
    "sharpness": "steps between neighbouring pixels, for their contrast",
    "saturation": "colour, for its light",
    "width": "width in pixels",
    "height": "height in pixels",
}
PROMISE = "The bound on missed images holds for images like the calibration split's"
FITTED = "Calibration and threshold were fitted on images like the calibration split's"
"""What is said in the promise's place of an archive that makes none."""


@dataclass(frozen=True)
class Window:
    """A window of images, judged. `reference_images`: how many it was compared with; `errors`: images without an answer, by code;
    `unusual`: paths of the others, the most unusual first; `root`: what the paths are relative to, None where nobody said;
    `bounded`: whether the archive, or a group of it, has a bound on missed images.
    """

    archive: str
    digest: str
    labels: tuple[str, ...]
    reference_images: int
    verdict: Verdict
    errors: Counter[str]
    unusual: tuple[str, ...]
    root: Path | None
    preprocessing: Preprocessing
    limits: Limits
    bounded: bool


def meaning(figure: str) -> str:
    """Say what a figure is."""
    return MEANINGS.get(figure) or f"principal axis {int(figure.removeprefix('axis_'))} of the network's features"


def sentences(window: Window) -> list[str]:
    """Say the verdict."""
    verdict = window.verdict
    if not verdict.moved:
        least = max(figure.limit for figure in verdict.figures)
        return [
            "Calm: no difference found.",
            f"{verdict.images} images beside {window.reference_images} show changes of PSI above {least:.3f}, and may hide less.",
            f"{PROMISE if window.bounded else FITTED}; nothing here says that these are not.",
        ]
    names = ", ".join(figure.name for figure in verdict.moved[:3]) + (" and others" if len(verdict.moved) > 3 else "")
    meant = f"{PROMISE}; that is over for these." if window.bounded else f"{FITTED}, which these are not."
    said = [f"Drift: {names} moved. {meant}"]
    shares = "; ".join(
        f"{label} {before:.0%} -> {share:.0%}"
        for label, before, share in zip(window.labels, verdict.before.tolist(), verdict.shares.tolist(), strict=True)
    )
    if verdict.word == "labels":
        return [
            *said,
            "Other shares of the labels suffice to explain it.",
            f"They moved towards these, and maybe further ({shares}): label a sample to know them.",
        ]
    if verdict.word == "unclear":
        return [
            *said,
            "Whether the pictures or the labels' shares are others cannot be told.",
            f"The nearest shares ({shares}) are of labels that have few images in the calibration split.",
            "Look at the pictures, and label a sample.",
        ]
    return [*said, f"The pictures themselves are others: no shares of the labels explain it (the nearest: {shares})."]


def text(window: Window) -> str:
    """Write the verdict as text, figure by figure."""
    verdict = window.verdict
    lines = [f"{'figure':<12}{'PSI':>9}{'limit':>9}"]
    lines += [f"{one.name:<12}{one.psi:>9.3f}{one.limit:>9.3f}{'  moved' if one.moved else ''}" for one in verdict.figures]
    lines += [f"\n{verdict.images} images beside {window.reference_images} of the calibration split, {window.archive}"]
    lines += [f"{count} without an answer: {code}" for code, count in sorted(window.errors.items())]
    lines += sentences(window)
    if verdict.moved:
        lines += ["most unusual:", *(f"  {path}" for path in window.unusual[:NAMED])]
    return "\n".join(lines)


def to_json(window: Window) -> dict[str, Any]:
    """Write the verdict as plain values."""
    verdict = window.verdict
    shares = zip(window.labels, verdict.before.tolist(), verdict.shares.tolist(), strict=True)
    return {
        "archive": window.archive,
        "archive_digest": window.digest,
        "images": verdict.images,
        "reference_images": window.reference_images,
        "errors": dict(sorted(window.errors.items())),
        "word": verdict.word,
        "moved": [figure.name for figure in verdict.moved],
        "figures": [_plain(figure) for figure in verdict.figures],
        "class_shares": {label: {"reference": before, "window": share} for label, before, share in shares},
        "unusual": list(window.unusual[:NAMED]),
    }


def _plain(figure: Figure) -> dict[str, Any]:
    return {
        "figure": figure.name,
        "psi": round(figure.psi, 6),
        "limit": round(figure.limit, 6),
        "moved": figure.moved,
        "psi_unexplained_by_labels": round(figure.unexplained, 6),
        "limit_unexplained_by_labels": round(figure.left_limit, 6),
    }


def write(window: Window, file: Path) -> None:
    """Write the page."""
    page = (
        environment()
        .get_template("drift.html.j2")
        .render(
            window=window,
            verdict=window.verdict,
            sentences=sentences(window),
            rows=[
                [one.name, meaning(one.name), f"{one.psi:.3f}", f"{one.limit:.3f}", "moved" if one.moved else ""]
                for one in window.verdict.figures
            ],
            pictures=list(_pictures(window)),
            paths=window.unusual[:SHOWN],
            lineage=[("archive", window.archive), ("archive digest", window.digest)],
        )
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(page)


def _pictures(window: Window) -> Iterator[Picture]:
    """The most unusual pictures, those that can still be read."""
    if window.root is None:
        return
    for path in window.unusual[:SHOWN]:
        try:
            pixels = upright((window.root / path).read_bytes(), SIDE, window.limits, window.preprocessing.decoding)
        except (OSError, ImageError):
            continue
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
        yield Picture(buffer.getvalue(), path, path)
