"""Compare a window of images with an archive's drift reference: a folder, which is scored first, or what `visor score` wrote."""

import shlex
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from archives.opening import opened
from handlers.drift import REFERENCE, Reference
from handlers.errors import counted
from training.reports.drift import Window
from visor.errors import DriftError, ReferenceMissing, WindowTooSmall
from visor.scoring import parts
from visor.scoring.listing import check_root
from visor.scoring.score import Options as ScoreOptions
from visor.scoring.score import score_by
from watch.verdict import count, judge, unusual

LEAST = 30
"""Images that are needed at least; so few show great changes alone, and the answer says how great."""
SCORED = ["path", "drift", "error"]


@dataclass(frozen=True)
class Options:
    """Say which images to compare. `images`, `root`: as `visor drift --help` has them; `digest`: that the archive must have."""

    images: Path
    root: Path | None
    workers: int
    digest: str | None = None


def compare(archive: Path, public_key: Path, options: Options) -> Window:
    """Compare images with the archive's reference.

    Raises what `archives.opening.opened` raises, DataError (nothing to look at), ScoreError, ReferenceMissing, WindowTooSmall and
    DriftError (a Parquet that is not the archive's).
    """
    if options.root is not None:
        check_root(options.root)
    with opened(archive, public_key, options.digest) as verified, verified.unpacked() as folder:
        reference = Reference.read(folder / REFERENCE)
        if reference is None:
            raise ReferenceMissing(
                f"{archive} has no bins that this version of visor can compare with: older versions wrote none, newer ones may "
                "have other formulas; `visor evaluate` its run and archive it again, or use the version that built it"
            )
        if _is_scored(options.images):
            table, root = read_scored(options.images, verified.digest, archive), options.root
        else:
            with tempfile.TemporaryDirectory(prefix="visor-drift-") as scratch:
                out = Path(scratch) / "scores.parquet"
                root = score_by(verified, ScoreOptions(options.images, out, options.root, workers=options.workers)).root
                table = read_scored(out, verified.digest, archive)
        rows = [row for row in table.to_pylist() if row["drift"] is not None]
        if len(rows) < LEAST:
            raise WindowTooSmall(f"{options.images} has {counted(len(rows), 'image')} with an answer; give {LEAST} or more")
        decision = verified.spec.decision
        bins = np.array([row["drift"] for row in rows])
        verdict = judge(reference, count(bins, reference))
        order = np.argsort(-unusual(bins, reference, verdict), kind="stable")
        return Window(
            archive=f"{verified.spec.name} version {verified.spec.version}",
            digest=verified.digest,
            labels=verified.spec.labels,
            reference_images=reference.images,
            verdict=verdict,
            errors=Counter(error for error in table["error"].to_pylist() if error),
            unusual=tuple(rows[row]["path"] for row in order.tolist()),
            root=root,
            preprocessing=verified.spec.preprocessing,
            limits=verified.spec.limits,
            bounded=decision.fnr_bound is not None or any(group.fnr_bound for group in decision.groups or ()),
        )


def _is_scored(images: Path) -> bool:
    return images.suffix == ".parquet" or (images / parts.DESCRIPTION).is_file()


def read_scored(scored: Path, digest: str, archive: Path) -> pa.Table:
    """Read the columns of what `visor score` wrote with the archive of this digest. Raises DriftError."""
    tables, score = [], f"`visor score {shlex.quote(str(archive))} IMAGES --out"
    for file in parts.files(scored):
        try:
            schema = pq.read_schema(file)
            scoring = parts.parse(file, schema.metadata or {})
            if scoring.archive_digest != digest:
                raise DriftError(
                    f"{file} was scored by the archive {scoring.archive_digest[:12]} and not by {digest[:12]}; name the "
                    "archive that answered, or score the images again"
                )
            tables.append(pq.read_table(file, columns=SCORED))
        except FileNotFoundError as err:
            raise DriftError(
                f"{file} is not there; {score} {shlex.quote(str(file))}` makes it, or name a folder of images"
            ) from err
        except (OSError, pa.ArrowInvalid) as err:
            raise DriftError(f"{file} {parts.unread_file(err)}; score the images again by {score} FILE.parquet`") from err
    if not tables:
        raise DriftError(f"{scored} has no part yet; let `visor score` finish")
    return pa.concat_tables(tables)
