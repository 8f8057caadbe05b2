"""Read what `visor audit` joins: answers, from a request log or from what `visor score` wrote, and labels; write its metrics."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from archives.files import replacing
from archives.names import close_to, composed
from handlers.decision import Outcome
from handlers.errors import undecoded
from handlers.spec import Spec
from visor.errors import AnswersUnreadable, LabelsUnreadable, ScoreError
from visor.scoring import parts
from watch.audit import Answer, Answers, Audit, Reason

Key = Literal["request_id", "digest"]
"""What an image is named by: its request's id, or the SHA-256 of its bytes."""
COLUMNS = (*get_args(Key), "label")
DIVIDERS = (",", ";", "\t")
"""What may stand between the columns of a CSV: what its first line has decides, and spreadsheets write each of them."""
OUTCOMES = get_args(Outcome)
ANSWERED = ("confidence", "decision")
"""Columns of an archive's answers, as `visor score` writes them, which a table of true labels has not."""


@dataclass(frozen=True)
class Labels:
    """A table of labels: what it names images by, and (id, label) of each row in order."""

    key: Key
    rows: Sequence[tuple[str, str]]


def read_labels(file: Path) -> Labels:
    """Read a table with the column `label` and either `request_id` or `digest`: Parquet by its suffix, else CSV.

    The columns of a CSV are divided by commas, semicolons or tabs. Blanks around ids and labels do not count, and a digest's
    case does not. Raises LabelsUnreadable.
    """
    if not file.exists():
        raise LabelsUnreadable(f"{file} is not there; name a table with the columns label and one of request_id and digest")
    try:
        names, rows = _read_parquet(file) if file.suffix == ".parquet" else _read_csv(file)
        if set(ANSWERED) <= set(names):
            raise _own(file)
        keys = [key for key in get_args(Key) if key in names]
        if len(keys) != 1 or names.count("label") != 1:
            raise LabelsUnreadable(f"{file} {_columns(names)}; it needs label and one of request_id and digest{_meant(names)}")
        where, what = names.index(keys[0]), names.index("label")
        spelt = str.lower if keys[0] == "digest" else str
        found = [(spelt(_cell(row, where)), _cell(row, what)) for row in rows]
    except UnicodeDecodeError as err:
        raise LabelsUnreadable(f"{file} {undecoded(err)}") from err
    except (OSError, ValueError, csv.Error, pa.ArrowException) as err:
        raise LabelsUnreadable(f"{file} cannot be read as a table of labels: {err}") from err
    if not found:
        raise LabelsUnreadable(f"{file} has no label; it needs a row for each image")
    return Labels(keys[0], found)


def _columns(names: Sequence[str]) -> str:
    return f"has the columns {', '.join(map(str, names))[:200]!r}" if names else "is empty"


def _meant(names: Sequence[str]) -> str:
    """The columns that may be meant by those that are not read, for the end of a sentence."""
    wanted = [name for name in COLUMNS if name not in names]
    slips = {name: close for name in names if name not in COLUMNS and (close := close_to(str(name), wanted))}
    return f"; did you mean {', '.join(f'{close} by {name!r}' for name, close in slips.items())}?" if slips else ""


def _own(file: Path) -> LabelsUnreadable:
    return LabelsUnreadable(
        f"{file} is what `visor score` wrote, or part of it, and its labels are an archive's own answers; name a table of "
        f"labels that people gave, without the columns {' and '.join(ANSWERED)}"
    )


def _cell(row: Sequence[Any], at: int) -> str:
    return composed(str(row[at])).strip() if at < len(row) and row[at] is not None else ""


def _read_csv(file: Path) -> tuple[list[str], list[list[str]]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        first = text.readline()
        text.seek(0)
        divider = next((sign for sign in DIVIDERS if sign in first), ",")
        rows = [row for row in csv.reader(text, delimiter=divider, strict=True) if row]
    return (rows[0], rows[1:]) if rows else ([], [])


def _read_parquet(file: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    schema = pq.read_schema(file)
    if parts.SCORING in (schema.metadata or {}):
        raise _own(file)
    names = list(schema.names)
    wanted = [name for name in (*COLUMNS, *ANSWERED) if name in names]
    if "label" not in names or not set(get_args(Key)) & set(names):
        return names, []  # which is an error, whatever the rows hold
    columns = pq.read_table(file, columns=wanted, page_checksum_verification=True).to_pydict()
    return wanted, list(zip(*columns.values(), strict=True))


def read_answers(places: Sequence[Path], labels: Labels, spec: Spec, digest: str) -> Answers:
    """Read the first answer to each labelled image, and count those to all images. places: files or folders of `visor score`, or
    request logs, older ones first.

    `digest`: the archive's. Raises AnswersUnreadable where there is no answer, or none that labels of this kind can name.
    """
    wanted = {key for key, _ in labels.rows}
    found: dict[str, Answer | Reason] = {}
    seen: dict[str, object] = {}
    answered, again = set[str](), set[str]()
    images = Counter[Answer]()
    for place in places:
        if not place.exists():
            raise AnswersUnreadable(f"{place} is not there; name a request log, or what `visor score` wrote")
        if place.is_dir() and not parts.files(place):
            raise AnswersUnreadable(
                f"{place} is a folder in which `visor score` wrote no answers; name that of a scoring, or request logs by file"
            )
        scored = place.is_dir() or place.suffix == ".parquet"
        if scored != (labels.key == "digest"):
            if not scored and next(_logged(place, spec), None) is None:
                raise AnswersUnreadable(
                    f"{place} has no answers, neither of a request log nor of `visor score`; the labels name images by digest, "
                    "as `visor score` does: name what it wrote"
                )
            names = "digests, as `visor score` writes them" if scored else "request ids, as a request log has them"
            raise AnswersUnreadable(f"{place} names images by {names}, and the labels by {labels.key}")
        for key, what, answer in _scored(place, digest) if scored else _logged(place, spec):
            if not isinstance(answer, Answer):
                if key in wanted:
                    found.setdefault(key, answer)
            elif key not in answered:
                answered.add(key)
                images[answer] += 1
                if key in wanted:
                    found[key], seen[key] = answer, what
            elif key in wanted and (answer, what) != (found[key], seen[key]):
                again.add(key)
    if not images:
        raise AnswersUnreadable(
            f"{', '.join(map(str, places))} has no answer of version {spec.version} of {spec.name}; name what "
            "`visor score` wrote, or a request log of that server with --request-log all"
        )
    return Answers(found, images, len(again))


def _scored(place: Path, digest: str) -> Iterator[tuple[str, object, Answer | Reason]]:
    """Each image's digest and answer; the same picture twice has one answer."""
    for file in parts.files(place):
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            scoring = parts.parse(file, parquet.schema_arrow.metadata or {})
            for batch in parquet.iter_batches(columns=["digest", "decision"]):
                for row in batch.to_pylist():
                    if row["digest"] is None:
                        continue
                    answer: Answer | Reason = "unanswered"
                    if scoring.archive_digest != digest:
                        answer = "other_archive"
                    elif scoring.threshold_overridden:
                        answer = "other_threshold"
                    elif row["decision"] in OUTCOMES:
                        answer = Answer(row["decision"], scoring.group)
                    yield row["digest"], None, answer
        except (OSError, ValueError, KeyError, pa.ArrowException, ScoreError) as err:
            raise AnswersUnreadable(f"{file} cannot be read as answers of `visor score`: {err}") from err


def _logged(file: Path, spec: Spec) -> Iterator[tuple[str, object, Answer | Reason]]:
    """Each request's id, how many bytes it brought (by which ids that clients give twice are told apart), and its answer.

    Other lines are passed over: a container's output has those of other programs, and `kubectl logs --prefix` names the pod. So
    are those of a shadow, whose answers nobody got, under the id of the request that somebody sent.
    """
    try:
        with file.open("rb") as lines:
            for line in lines:
                try:
                    fields = json.loads(line[line.find(b"{") :])
                except ValueError:
                    continue
                answered = isinstance(fields, dict) and fields.get("event") == "request" and not fields.get("shadow")
                if answered and isinstance(fields.get("decisions"), dict):
                    yield composed(str(fields.get("request_id", ""))), fields.get("bytes"), _answer(fields, spec)
    except OSError as err:
        raise AnswersUnreadable(f"{file} cannot be read as a request log: {err}") from err


def _answer(fields: Mapping[str, Any], spec: Spec) -> Answer | Reason:
    if (fields.get("model"), fields.get("version")) != (spec.name, spec.version):
        return "other_archive"
    if fields.get("code"):
        return "unanswered"
    if "threshold" in fields:
        return "other_threshold"
    if fields.get("images") != 1:
        return "several_images"
    # A picture that failed is in no count, and was answered only by what the archive has for such.
    decision = next(iter(fields["decisions"]), spec.decision.on_error)
    if decision not in OUTCOMES:
        return "unanswered"
    group = fields.get("group")
    return Answer(cast(Outcome, decision), None if group is None else str(group))


def to_json(found: Audit, spec: Spec, digest: str) -> dict[str, Any]:
    """Convert an audit to plain values."""
    promises = [
        {
            "group": one.promise.group,
            "promised": one.promise.level,
            "labels": one.labels,
            "missed": one.missed,
            "reviewed": one.reviewed,
            "missed_share": one.share,
            "lower": one.lower,
            "upper": one.upper,
            "alpha": one.alpha,
            "alarm_at": one.alarm_at,
            "verdict": one.verdict,
        }
        for one in found.followed
    ]
    archive = {"name": spec.name, "version": spec.version, "archive_digest": digest}
    counts = {"rows": found.rows, "used": found.used, "left_out": found.left_out}
    by_decision = {"labelled": found.labelled, "answered": found.decisions}
    return {**archive, "alarm": found.alarm, "promises": promises, **counts, **by_decision, "notes": found.notes}


METRICS: Mapping[str, tuple[str, str]] = {
    "visor_audit_labels_total": ("counter", "Labels of positive images that came back and were joined with an answer."),
    "visor_audit_missed_share": ("gauge", "Share of the labelled positive images that were missed."),
    "visor_audit_lower": ("gauge", "Highest lower bound of the missed share so far; above visor_audit_promised is an alarm."),
    "visor_audit_upper": ("gauge", "Upper bound of the missed share now; 1 where labels were seen not to be drawn at random."),
    "visor_audit_promised": ("gauge", "Largest share of positive images that the archive promises to miss."),
}
"""Names of the metrics, their types and help; a series of each for every promise, that of a group with its name."""


def write_metrics(found: Audit, spec: Spec, file: Path) -> None:
    """Write the metrics in Prometheus' text format, whole or not at all, as the node exporter's textfile collector wants it."""
    lines = []
    for name, (kind, text) in METRICS.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        for one in found.followed:
            labels = {"model": spec.name, "version": spec.version, "group": one.promise.group or ""}
            said = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
            values = (one.labels, one.share, one.lower, one.upper, one.promise.level)
            value = dict(zip(METRICS, values, strict=True))[name]
            lines.append(f"{name}{{{said}}} {'NaN' if value is None else repr(value)}")
    with replacing(file) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
        temporary.chmod(0o644)  # another user's exporter reads it


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
