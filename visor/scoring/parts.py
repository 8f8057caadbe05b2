"""Write and read a scoring's parts: Parquet files of consecutive rows, each complete or absent, and the one file made of them.

There is no journal. What is to be done stands in `_scoring.json`, what is done in the parts: one that is there, belongs to
this scoring, whose pages' checksums hold and all of whose images were read is done. How many there are depends on the number
of images alone, so that the same folder may be filled by any number of processes and shards.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from archives.files import FULL, replacing
from handlers.decision import Promise
from handlers.spec import Frozen
from visor.errors import ImageChanged, ImageUnreadable, ScoreError

DESCRIPTION = "_scoring.json"
"""Readers of Parquet folders leave out what begins with an underscore."""
SCORING, NUMBER = b"visor.scoring", b"visor.part"
SMALLEST, LARGEST, PARTS = 32, 1024, 256
UNREAD = (ImageUnreadable.code, ImageChanged.code)
"""Errors of rows whose picture does not lie where it was looked for: another root, or a mended disk, has it perhaps."""
ROWS_A_GROUP = 1 << 15
STALE_S = 3600.0

COLUMNS = pa.schema(
    [
        ("path", pa.string()),
        ("digest", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("decision", pa.string()),
        ("score", pa.float32()),
        ("prediction_set", pa.list_(pa.string())),
        ("review_from", pa.float32()),
        ("review_to", pa.float32()),
        ("promise", pa.string()),
        ("drift", pa.list_(pa.uint8())),
        ("error", pa.string()),
    ]
)
"""`digest`: SHA-256 of the file's bytes, null where it could not be read. Of the answer, `error` (a stable code) and the
others, one is null, but for `decision` where the archive has one about pictures that fail. `probabilities` are in the order of
the scoring's labels. `prediction_set` is null in an archive without sets, `promise` in one without a bound, `drift`, the bins of
`handlers.drift.Reference`, in one without a reference."""


class Scoring(Frozen):
    """Identifies a scoring: two are the same with the same archive, the same images in one order, and the same options."""

    format: int = Field(default=3, ge=3, le=3)
    name: str
    version: str
    archive_digest: str
    labels: tuple[str, ...]
    threshold: float
    threshold_overridden: bool
    review_from: float
    review_to: float
    group: str | None
    promise: Promise | None
    explain: bool
    images: int
    listing_digest: str

    @property
    def part_rows(self) -> int:
        """Return how many rows a part has, but for the last: about PARTS parts, none so large that losing it costs much."""
        return min(LARGEST, max(SMALLEST, math.ceil(self.images / PARTS)))

    @property
    def parts(self) -> int:
        """Return how many parts there are."""
        return math.ceil(self.images / self.part_rows)

    def rows(self, number: int) -> range:
        """Return the rows of a part."""
        return range(number * self.part_rows, min((number + 1) * self.part_rows, self.images))

    def of_shard(self, index: int, count: int) -> range:
        """Return the consecutive parts of shard `index` of `count`; shards differ by one part at most."""
        return range(index * self.parts // count, (index + 1) * self.parts // count)


@dataclass
class Counts:
    """Counts rows by decision, and those with an error by its code."""

    decisions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table) -> "Counts":
        """Add a table's rows to the counts."""
        self.decisions.update(value for value in table["decision"].to_pylist() if value)
        self.errors.update(value for value in table["error"].to_pylist() if value)
        return self


def unread(counts: Counts) -> int:
    """Count the rows whose images were not there, which the same command asks about again."""
    return sum(counts.errors[code] for code in UNREAD)


def path_of(folder: Path, number: int) -> Path:
    """Return the path of a part, which may not exist yet; names sort as rows do."""
    return folder / f"part-{number:06}.parquet"


def claim(folder: Path, scoring: Scoring) -> None:
    """Mark the folder as this scoring's. Raises ScoreError where it belongs to another scoring or cannot be written.

    A full disk is left to who calls, as it is everywhere.
    """
    file = folder / DESCRIPTION
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Listed before it is looked for: another shard may write it, and then its first part, at any moment.
        others = [path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        if not file.exists():
            if others:
                raise ScoreError(f"{folder} holds other files, such as {others[0]}; choose another --out, or empty it")
            with replacing(file) as temporary:
                temporary.write_text(scoring.model_dump_json(indent=2) + "\n")
        found = Scoring.model_validate_json(file.read_bytes())
        for left in folder.glob(".*.tmp"):  # of killed writers
            if time.time() - left.stat().st_mtime > STALE_S:
                left.unlink(missing_ok=True)
    except OSError as err:
        if err.errno in FULL:
            raise
        raise ScoreError(f"{folder} cannot be written: {err.strerror}; choose another --out") from err
    except ValidationError as err:
        raise ScoreError(f"{file} does not describe a scoring: {err}; choose another --out") from err
    refuse_other(folder, found, scoring)


def refuse_other(place: Path, found: Scoring, scoring: Scoring) -> None:
    """Raise ScoreError, naming what differs, unless both scorings are the same."""
    differ = [name for name in Scoring.model_fields if getattr(found, name) != getattr(scoring, name)]
    if differ:
        what = ", ".join(f"{name} {_short(getattr(found, name))} and not {_short(getattr(scoring, name))}" for name in differ)
        raise ScoreError(f"{place} holds another scoring ({what}); choose another --out, or delete it")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def write(folder: Path, scoring: Scoring, number: int, rows: Sequence[Mapping[str, Any]]) -> Counts:
    """Write a part, which appears at its path when it is complete, and count its rows."""
    metadata = {SCORING: scoring.model_dump_json(), NUMBER: str(number)}
    table = pa.Table.from_pylist(list(rows), schema=COLUMNS.with_metadata(metadata))
    with replacing(path_of(folder, number)) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)
    return Counts().add(table)


def read(folder: Path, scoring: Scoring, number: int) -> pa.Table | None:
    """Read a part; None where it is absent or damaged and must be written again. Raises ScoreError for another scoring's part."""
    path = path_of(folder, number)
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (OSError, pa.ArrowInvalid):  # not there, or no end, or pages that are not what was written
        return None
    metadata = table.schema.metadata or {}
    refuse_other(path, parse(path, metadata), scoring)
    if metadata.get(NUMBER) != str(number).encode() or table.num_rows != len(scoring.rows(number)):
        return None
    return table


def parse(path: Path, metadata: Mapping[bytes, bytes]) -> Scoring:
    """Parse the scoring that a Parquet file's metadata names. Raises ScoreError."""
    try:
        return Scoring.model_validate_json(metadata.get(SCORING, b""))
    except ValidationError as err:
        raise ScoreError(f"{path} was not written by `visor score`; choose another --out") from err


def unread_file(err: Exception) -> str:
    """Say of a Parquet file, behind its name, why it was not read; Arrow's own words are for programmers, or end in a stop."""
    if isinstance(err, OSError) and err.errno:
        return f"cannot be read: {os.strerror(err.errno)}"
    return "is no Parquet file, or a damaged one"


def files(place: Path) -> list[Path]:
    """List the Parquet files of what `visor score` wrote, in order."""
    return sorted(place.glob("part-*.parquet")) if place.is_dir() else [place]


def cut(folder: Path, scoring: Scoring, table: pa.Table) -> None:
    """Make parts again of all rows, but those parts that are there, and those of which images were not read."""
    for number in range(scoring.parts):
        rows = table.slice(scoring.rows(number).start, scoring.part_rows)
        if not unread(Counts().add(rows)) and read(folder, scoring, number) is None:
            write(folder, scoring, number, rows.to_pylist())


def merge(folder: Path, scoring: Scoring, target: Path) -> None:
    """Write one file of all parts in order, which appears when it is complete. Raises ScoreError where a part is missing."""
    schema = COLUMNS.with_metadata({SCORING: scoring.model_dump_json()})
    with replacing(target) as temporary, pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer:
        waiting: list[pa.Table] = []
        for number in range(scoring.parts):
            table = read(folder, scoring, number)
            if table is None:
                raise ScoreError(f"{path_of(folder, number)} is gone or damaged; give the same command again")
            waiting.append(table.cast(schema))
            if sum(one.num_rows for one in waiting) >= ROWS_A_GROUP or number == scoring.parts - 1:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
