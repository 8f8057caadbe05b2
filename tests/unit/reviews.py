"""Exports of reviews, as docs/reviews-export.md describes them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NAMES = {"model": "trees", "version": "3", "archive": "a" * 64}


def line(picture: bytes | str, label: str | None, **changes: Any) -> dict[str, Any]:
    """A review of a picture, which is named by its bytes or its digest."""
    digest = picture if isinstance(picture, str) else hashlib.sha256(picture).hexdigest()
    said = {"format": 1, "digest": digest, "label": label, "why": "review", "probability": None, "reviewer": "p1"}
    return {**said, "time": "2026-11-30T12:00:00Z", **NAMES, **changes}


def audit(picture: bytes | str, label: str | None, **changes: Any) -> dict[str, Any]:
    """A review of a picture that was drawn at random."""
    return line(picture, label, **{"why": "audit", "probability": 0.02, **changes})


def write_export(folder: Path, lines: Iterable[Mapping[str, Any]], pictures: Iterable[bytes] = ()) -> Path:
    """Write an export."""
    (folder / "pictures").mkdir(parents=True)
    for picture in pictures:
        (folder / "pictures" / hashlib.sha256(picture).hexdigest()).write_bytes(picture)
    (folder / "reviews.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return folder
