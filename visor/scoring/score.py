"""Score images in batch: an archive answers for many of them on all cores, into Parquet; a killed scoring resumes.

Each process has one thread and asks `handlers.predictor` about one image after the other, as a server's worker does, so
that the rows are the answers that a client gets. A part is written when all of its images are answered (`visor.scoring.parts`).
"""

import hashlib
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from archives.opening import Opened, opened
from handlers import decision
from handlers.backends import Backend, load_backend
from handlers.drift import REFERENCE, Reference
from handlers.errors import ImageError, ImageTooLarge, VisorError, counted
from handlers.predictor import Answer, Item, predict
from handlers.spec import Spec
from training.progress import show_progress
from visor.errors import ImageChanged, ImageUnreadable, ScoreError
from visor.model import heatmap_of, set_of
from visor.outputs import check_apart, check_folder
from visor.scoring import listing, parts
from visor.scoring.listing import ListedImage, Listing
from visor.scoring.parts import Counts, Scoring
from visor.serving.cgroup import cpu_limit

logger = logging.getLogger(__name__)

Row = dict[str, Any]
"""Values by the names of `parts.COLUMNS`; an absent name is null."""


@dataclass(frozen=True)
class Options:
    """Say which images to score and where to write.

    `images`, `root`: see `listing.read`. `out`: a folder of parts, or one file, which ends in .parquet. `threshold`: replaces
    the archive's. `group`: the archive's group of images whose threshold decides. `overlays`: folder that heat maps are drawn
    into. `shard`: (index, count); only these parts are written. `digest`: that the archive must have, None for any.
    """

    images: Path
    out: Path
    root: Path | None = None
    threshold: float | None = None
    group: str | None = None
    overlays: Path | None = None
    shard: tuple[int, int] = (0, 1)
    workers: int = field(default_factory=cpu_limit)
    digest: str | None = None


@dataclass(frozen=True)
class Scored:
    """Summarises a scoring.

    `root`: the folder that the images' paths are relative to; `rows`: rows of this shard; `answered`: rows that this call and not
    an earlier one answered; `seconds`: time of the workers for the answered rows, from the first image to the last; `cpu_s`: CPU
    seconds of all workers for them.
    """

    out: Path
    root: Path
    rows: int
    answered: int
    seconds: float
    cpu_s: float
    counts: Counts


def score(archive: Path, public_key: Path, options: Options) -> Scored:
    """Answer for all images, or all of this shard, that have no row in a part yet; parts with images not read are made anew.

    Raises what `archives.opening.opened` raises, OptionError (a threshold), GroupUnknown, DataError (nothing to score),
    OutputRefused (a folder to write into that lies among the images) and ScoreError.
    """
    with opened(archive, public_key, options.digest) as verified:
        return score_by(verified, options)


def score_by(archive: Opened, options: Options) -> Scored:
    """Answer as `score` does, by an archive that is open already; `options.digest` is not looked at."""
    listed = listing.read(options.images, options.root)
    for flag, folder in (("--out", options.out), ("--explain", options.overlays)):
        if folder is not None:
            check_apart(flag, folder, listed.folders(options.images))
    if options.overlays is not None:
        check_folder(options.overlays)
    rule = decision.rule_of(archive.spec, options.threshold, options.group)
    scoring = Scoring(
        name=archive.spec.name,
        version=archive.spec.version,
        archive_digest=archive.digest,
        labels=archive.spec.labels,
        threshold=rule.threshold,
        threshold_overridden=options.threshold is not None,
        review_from=rule.review_from,
        review_to=rule.review_to,
        group=options.group,
        promise=rule.promise,
        explain=options.overlays is not None,
        images=len(listed.images),
        listing_digest=listed.digest,
    )
    single = options.out.suffix == ".parquet"
    if single and options.shard[1] > 1:
        raise ScoreError("shards write parts beside each other; let --out be a folder, without .parquet")
    earlier = _read_finished(options.out, scoring) if single and options.out.exists() else None
    if earlier is not None and not parts.unread(counts := Counts().add(earlier)):
        logger.info("%s is finished, with this archive and these images", options.out)
        return Scored(options.out, listed.root, earlier.num_rows, 0, 0.0, 0.0, counts)
    folder = options.out.with_name(f"{options.out.name}.parts") if single else options.out
    parts.claim(folder, scoring)
    if earlier is not None:
        parts.cut(folder, scoring, earlier)
    with archive.unpacked() as members:
        reference = Reference.read(members / REFERENCE)
        job = _ScoringJob(members, archive.spec, listed.root, folder, scoring, options.overlays, reference)
        scored = _score(job, listed, options)
    if single:
        parts.merge(folder, scoring, options.out)
        shutil.rmtree(folder)
    if unread := parts.unread(scored.counts):
        logger.warning(
            "%s below %s could not be read or changed since the manifest; the same command, or another --root, does them again",
            counted(unread, "image"),
            listed.root,
        )
    return scored


def _read_finished(file: Path, scoring: Scoring) -> pa.Table:
    """Read a file that an earlier call finished. Raises ScoreError where it belongs to another scoring."""
    try:
        table = pq.read_table(file, page_checksum_verification=True)
    except (OSError, ValueError) as err:
        raise ScoreError(f"{file} {parts.unread_file(err)}; choose another --out, or delete it") from err
    parts.refuse_other(file, parts.parse(file, table.schema.metadata or {}), scoring)
    return table


@dataclass(frozen=True)
class _ScoringJob:
    """Holds what every worker needs. `model`, `root`, `folder`: folders of the unpacked archive, the images and the parts.

    `reference`: the archive's for drift, None where it has none.
    """

    model: Path
    spec: Spec
    root: Path
    folder: Path
    scoring: Scoring
    overlays: Path | None
    reference: Reference | None = None


@dataclass(frozen=True)
class _WrittenPart:
    """Describes a part that was written. `begun`, `ended`: seconds of the monotonic clock; `cpu_s`: CPU seconds it took."""

    counts: Counts
    rows: int
    begun: float
    ended: float
    cpu_s: float


def _score(job: _ScoringJob, listed: Listing, options: Options) -> Scored:
    counts, missing, rows = Counts(), [], 0
    numbers = job.scoring.of_shard(*options.shard)
    for number in show_progress(numbers, len(numbers), "looking for parts that are done"):
        rows += len(job.scoring.rows(number))
        table = parts.read(job.folder, job.scoring, number)
        if table is None or parts.unread(Counts().add(table)):
            missing.append(number)
        else:
            counts.add(table)
    if len(missing) < len(numbers):
        logger.info("%d of %d parts are done already", len(numbers) - len(missing), len(numbers))
    done = list(_write_parts(job, listed, missing, options.workers)) if missing else []
    for part in done:
        counts.decisions += part.counts.decisions
        counts.errors += part.counts.errors
    seconds = max(part.ended for part in done) - min(part.begun for part in done) if done else 0.0
    cpu_s = sum(part.cpu_s for part in done)
    return Scored(options.out, listed.root, rows, sum(part.rows for part in done), seconds, cpu_s, counts)


def _write_parts(job: _ScoringJob, listed: Listing, numbers: Sequence[int], workers: int) -> Iterator[_WrittenPart]:
    """Let processes write the parts, and yield each when it is written. Raises ScoreError, ArchiveBroken."""
    context = multiprocessing.get_context("spawn")  # no thread of OpenVINO's or torch's to be forked in the middle
    stop = context.Event()
    count = min(workers, len(numbers))
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin_process, initargs=(job, stop)) as pool:
        try:
            futures = {
                pool.submit(_write_part, number, [listed.images[row] for row in job.scoring.rows(number)]): number
                for number in numbers
            }
            total = sum(len(job.scoring.rows(number)) for number in numbers)
            for part in show_progress(_by_row(as_completed(futures)), total, "scoring"):
                if part:
                    yield part
        except BrokenProcessPool as err:
            raise ScoreError("a worker was killed, perhaps for memory; give the same command again, or fewer --workers") from err
        finally:
            stop.set()  # the parts that are under way end at their next image
            pool.shutdown(cancel_futures=True)


def _by_row(done: Iterator["Future[_WrittenPart]"]) -> Iterator[_WrittenPart | None]:
    """Yield each part once, and None for the rest of its rows, as progress is counted in images."""
    for future in done:
        part = future.result()
        yield part
        yield from (None for _ in range(part.rows - 1))


class _Worker:
    """Holds what a worker process has for itself: the job, and the network once it is loaded."""

    def __init__(self, job: _ScoringJob, stop: Any) -> None:
        self.job, self.stop = job, stop
        self._backend: Backend | None = None

    def backend(self) -> Backend:
        """Load the network at the first part, so that an archive that does not load fails that part."""
        if self._backend is None:
            if self.job.spec.backend == "torch":
                import torch

                torch.set_num_threads(1)
            self._backend = load_backend(self.job.model, self.job.spec)
        return self._backend


_worker: _Worker | None = None


def _begin_process(job: _ScoringJob, stop: Any) -> None:
    """Prepare a worker process."""
    global _worker  # the one way that a pool has of giving its processes something of their own
    _worker = _Worker(job, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the parent says what happens
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process with its parent; a pool's processes would otherwise wait for ever after the parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_part(number: int, images: Sequence[ListedImage]) -> _WrittenPart:
    """Answer for a part's images and write the part; an interrupted part is not written."""
    if _worker is None:
        raise RuntimeError("a part is written in a process that _begin_process was called in")
    job, backend = _worker.job, _worker.backend()
    begun, busy, rows = time.monotonic(), time.process_time(), []
    for image in images:
        if _worker.stop.is_set():
            raise ScoreError("interrupted")  # nobody reads it
        rows.append(_row(image, job, backend))
    counts = parts.write(job.folder, job.scoring, number, rows)
    return _WrittenPart(counts, len(rows), begun, time.monotonic(), time.process_time() - busy)


def _row(image: ListedImage, job: _ScoringJob, backend: Backend) -> Row:
    """Make one image's row; whatever is wrong with the image becomes the row's error."""
    row: Row = {"path": image.path}
    try:
        answer = _answer(_read(image, job, row), image, job, backend)
    except VisorError as err:
        decided = job.spec.decision.on_error if isinstance(err, ImageError) else None
        return row | {"error": err.code, **({"decision": decided} if decided else {})}
    except Exception:  # a picture that shows a fault of ours must not keep the others from being answered
        logger.exception("%s cannot be answered", image.path)
        return row | {"error": VisorError.code}
    return (
        row
        | {name: getattr(answer, name) for name in ("label", "confidence", "probabilities", "decision", "drift")}
        | {name: getattr(job.scoring, name) for name in ("review_from", "review_to", "promise")}
        | {
            "score": decision.scores(answer.probabilities[None], job.spec)[0],
            "prediction_set": set_of(answer, job.spec),
        }
    )


def _answer(data: bytes, image: ListedImage, job: _ScoringJob, backend: Backend) -> Answer:
    """Answer as a server would, and draw the heat map where the job asks for it. Raises ImageError."""
    own = job.scoring.threshold if job.scoring.threshold_overridden else None
    item = Item(data, job.scoring.explain, own, job.scoring.group)
    [answer] = predict([item], job.spec, backend, reference=job.reference)
    if isinstance(answer, VisorError):
        raise answer
    if job.overlays is not None and (heatmap := heatmap_of(answer)) is not None:
        from drawing.picture import draw
        from visor.drawing import place_below, save

        said = f"{answer.label} {answer.confidence:.3f}  {answer.decision}"
        drawing = draw(data, heatmap, said, job.spec.limits, job.spec.preprocessing.decoding)
        save(drawing, place_below(job.overlays, image.path))
    return answer


def _read(image: ListedImage, job: _ScoringJob, row: Row) -> bytes:
    """Read the file's bytes and write their digest into the row. Raises ImageUnreadable, ImageTooLarge, ImageChanged."""
    try:
        if not (job.root / image.path).is_file():  # a pipe would be waited for
            raise ImageUnreadable(f"{image.path} is no file")
        with (job.root / image.path).open("rb") as file:
            row["digest"] = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            data = file.read(job.spec.limits.max_bytes + 1)
    except (OSError, ValueError) as err:  # ValueError: a name with a zero byte
        raise ImageUnreadable(f"{image.path} cannot be read: {err}") from err
    if image.sha256 not in (None, row["digest"]):
        raise ImageChanged(f"{image.path} is not the file of the manifest")
    if size > job.spec.limits.max_bytes:  # never held in memory
        raise ImageTooLarge(f"{image.path} has {size} bytes; at most {job.spec.limits.max_bytes} are allowed")
    return data
