"""An export of reviews: what people said of pictures that a server had answered. docs/reviews-export.md has its form.

One label is made of a picture's reviews: each reviewer's last one counts, and most of them decide; of a tie, the label that was
given last. No picture is left out for being disputed, as audits without the hard pictures would be too easy.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, field_validator, model_validator

from handlers.errors import unread
from handlers.spec import Frozen, Label
from training.data.manifest import Sha256
from training.errors import ReviewsInvalid

REVIEWS, PICTURES = "reviews.jsonl", "pictures"
"""The file of an export, and its folder."""
Why = Literal["audit", "review", "drift", "upload"]


class Review(Frozen):
    """A line of an export: one review of one picture. `label`: None where it was passed on; `digest`: of the picture's bytes."""

    format: Literal[1]
    digest: Sha256
    label: Label | None
    why: Why
    probability: Annotated[float, Field(gt=0, le=1)] | None
    reviewer: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    time: AwareDatetime
    model: str
    version: str
    archive: Sha256 | None

    @field_validator("time")
    @classmethod
    def _in_utc(cls, time: datetime) -> datetime:
        return time.astimezone(UTC)

    @model_validator(mode="after")
    def _audits_are_drawn(self) -> Self:
        if self.why == "audit" and self.probability is None:
            raise ValueError("an audit has the probability with which it was drawn")
        return self


@dataclass(frozen=True)
class Reviewed:
    """A picture with the label that its reviews make. `audit`: whether it was drawn at random of all answers.

    `reviews`: those with a label, in the order in which they were given.
    """

    digest: str
    label: str
    audit: bool
    reviews: tuple[Review, ...]


@dataclass(frozen=True)
class Export:
    """An export's reviews, in the order of its file. `digest`: SHA-256 of the file."""

    folder: Path
    digest: str
    reviews: tuple[Review, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read an export. Raises ReviewsInvalid, which names the line."""
        file = folder / REVIEWS
        try:
            content = file.read_bytes()
        except OSError as err:
            raise ReviewsInvalid(
                f"{file} {unread(err)}; name the folder of an export, as docs/reviews-export.md describes it"
            ) from err
        lines = [(number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
        return cls(folder, hashlib.sha256(content).hexdigest(), tuple(_review(file, number, line) for number, line in lines))

    def picture(self, digest: str) -> bytes | None:
        """Read a picture's bytes; None where its file is not there. Raises ReviewsInvalid for other bytes than were reviewed."""
        file = self.folder / PICTURES / digest
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as err:
            raise ReviewsInvalid(f"{file} {unread(err)}") from err
        if hashlib.sha256(content).hexdigest() != digest:
            raise ReviewsInvalid(f"{file} does not hold the bytes whose SHA-256 it is named by; export again")
        return content


def settle(reviews: Iterable[Review], labels: Sequence[str]) -> tuple[list[Reviewed], Counter[str]]:
    """Make one label of each picture's reviews, and count the pictures without one by the reason.

    "skipped": nobody gave them a label; "unknown_label": only such as are none of `labels`.
    """
    of_picture = defaultdict[str, list[Review]](list)
    for review in sorted(reviews, key=lambda review: review.time):  # stable: of one time, as they stand in the file
        of_picture[review.digest].append(review)
    settled, left_out = [], Counter[str]()
    for digest, given in sorted(of_picture.items()):
        labelled = tuple(review for review in given if review.label in labels)
        if labelled:
            audit = any(review.why == "audit" for review in given)
            settled.append(Reviewed(digest, _decide(labelled), audit, labelled))
        else:
            left_out["unknown_label" if any(review.label for review in given) else "skipped"] += 1
    return settled, left_out


REASONS = {
    "skipped": "without a label",
    "unknown_label": "with none of the data set's labels",
    "missing": "whose file is not there",
    "unreadable": "that cannot be decoded",
    "in_parent": "that the data set has already",
    "like_held_out": "nearly the same as one that the data set holds out",
    "like_audit": "nearly the same as an audit",
    "audit_like_parent": "of the audit, nearly the same as one of the data set",
}
"""Why a picture is left out, in words."""


def _decide(labelled: Sequence[Review]) -> str:
    """The label of most reviewers' last reviews. labelled: as they were given."""
    last: dict[str, str] = {}
    for review in labelled:
        last.pop(review.reviewer, None)  # so that the order is that of last reviews
        last[review.reviewer] = str(review.label)
    votes = Counter(last.values())
    return next(label for label in reversed(last.values()) if votes[label] == max(votes.values()))


def _review(file: Path, number: int, line: bytes) -> Review:
    try:
        return Review.model_validate_json(line)
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if where == "format" and first["type"] == "literal_error":
            raise ReviewsInvalid(
                f"line {number} of {file} is of an export in format {first['input']!r}, and this version of visor reads format "
                f"{first['ctx']['expected']}: export again by `visor console export` of this version, or use the version that "
                "exported it"
            ) from err
        said = f"{where}: {first['msg']}" if where else first["msg"]
        raise ReviewsInvalid(f"line {number} of {file} is no review: {said}; docs/reviews-export.md has the form") from err
