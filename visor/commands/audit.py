"""`visor audit`: hold the labels that come back against the promise on missed images."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from visor.commands.arguments import ARCHIVE, Commands, add_command, add_digest, add_public_key, add_store, inner_share, output

if TYPE_CHECKING:
    from watch.audit import Audit

ALARM = 3


def add(commands: Commands) -> None:
    """Declare the command."""
    audit = add_command(
        commands,
        "audit",
        run,
        "Audit a release by the labels that come back: tell whether it still misses no more positive images than its archive "
        "promises. Joins labels with answers and prints, for each promise, how many of the labelled positive images were missed, "
        "bounds that hold however often the command runs while labels are added, and a verdict. Labels must come for images that "
        "were drawn at random, whatever was decided about them; a table none of whose negative labels is of an image that passed "
        "is refused unless it shows a broken promise. The first label of an image and its first answer count.",
        exits="Exit codes: 0 no promise is shown to be broken; 3 one is; 1 an error, printed to standard error as "
        "`visor: CODE: sentence`; 2 a mistyped command line; 130 interrupted.",
    )
    audit.add_argument("archive", metavar="NAME|FILE", help=ARCHIVE)
    audit.add_argument(
        "answers",
        type=Path,
        nargs="+",
        metavar="ANSWERS",
        help="request logs of servers (JSON lines), or files (.parquet) and folders that visor score wrote; all since the "
        "first label, older ones first",
    )
    audit.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="FILE",
        help="table of labels, CSV or .parquet, with the column label and either request_id or digest; rows in the order in "
        "which labels came, new ones at the end (required)",
    )
    audit.add_argument(
        "--promise",
        type=inner_share,
        metavar="SHARE",
        help="largest share of positive images that may be missed, above 0 and below 1, in the place of the archive's own "
        "(default: what the archive promises, decision.max_fnr of its config)",
    )
    audit.add_argument("--json", action="store_true", help="print one JSON object (default: text to read)")
    audit.add_argument(
        "--metrics",
        type=output(".prom"),
        metavar="FILE.prom",
        help="file to write the figures to as Prometheus metrics, for the node exporter's textfile collector "
        "(default: no metrics are written)",
    )
    add_public_key(audit)
    add_digest(audit)
    add_store(audit)


def run(args: argparse.Namespace) -> int:
    """Audit, and print what was found; ALARM where a promise is shown to be broken."""
    from archives import store
    from archives.opening import opened
    from visor import auditing
    from visor.errors import LabelsSelected, LabelsUnreadable, PromiseMissing
    from visor.outputs import check_output
    from watch.audit import audit, promises, unknown

    if args.metrics:
        check_output(args.metrics, [*args.answers, args.labels])
    with opened(store.find(args.store, args.archive), args.public_key, args.digest) as archive:
        spec, digest = archive.spec, archive.digest
    if not spec.decision.positive:
        raise PromiseMissing(f"{spec.name} flags no label, so that it misses none; decision.positive of its config names them")
    if not promises(spec, args.promise):
        raise PromiseMissing(
            f"{spec.name} makes no promise on missed images; state one with --promise, or train with decision.max_fnr"
        )
    labels = auditing.read_labels(args.labels)
    found = audit(auditing.read_answers(args.answers, labels, spec, digest), labels.rows, spec, args.promise)
    if found.left_out.get("unknown_label") == found.rows:
        why = unknown(labels.rows, spec) or "all cells are empty"
        why += "" if why.endswith("?") else "."
        raise LabelsUnreadable(f"{args.labels} has no label of {spec.name}: {why} Write the labels as the archive has them")
    if not found.joined:
        raise LabelsUnreadable(
            f"none of the ids in {args.labels}, such as {labels.rows[0][0]!r}, is that of an answer in "
            f"{', '.join(map(str, args.answers))}; {HELP[labels.key]}"
        )
    if found.selected and not found.alarm:  # misses that were seen anyway show what they show
        raise LabelsSelected(
            f"none of the negative labels in {args.labels} is of an image that passed, of which there are "
            f"{found.decisions['pass']}: whoever labels only what was flagged or reviewed sees no miss; label a random share"
        )
    if args.metrics:
        auditing.write_metrics(found, spec, args.metrics)
    if args.json:
        print(json.dumps(auditing.to_json(found, spec, digest), indent=2))
    else:
        _show(found, f"{spec.name} version {spec.version}")
    return ALARM if found.alarm else 0


SENTENCES = {
    "broken": "BROKEN: more are missed than was promised",
    "kept": "kept: no more are missed than was promised",
    "open": "open: the labels do not show yet whether the promise is kept",
}


HELP = {
    "digest": "digest is to be the SHA-256 of the picture's bytes as they were sent, 64 hexadecimal digits",
    "request_id": "request_id is to be the id that the request log has; name the logs in which these requests are",
}
"""What helps where no id is known, by what the table names images by."""


def _show(found: "Audit", what: str) -> None:
    print(f"{what}: {found.rows} labels, {found.used} of them used")
    for reason, count in found.left_out.items():
        print(f"{'left out, ' + reason:32}{count:8}")
    for one in found.followed:
        share = "none labelled" if one.share is None else f"{one.share:.2%}"
        print(f"\npromise{f' for {one.promise.group}' if one.promise.group else ''}: at most {one.promise.level:.2%} missed")
        print(f"{'positive images labelled':32}{one.labels:8}")
        print(f"{'missed':32}{one.missed:8}  {share}; {one.lower:.2%} to {one.upper:.2%}, each with {1 - one.alpha:.3g}")
        print(f"{'reviewed':32}{one.reviewed:8}")
        since = f" (since label {one.alarm_at})" if one.alarm_at else ""
        print(SENTENCES[one.verdict] + since)
    for note in found.notes:
        print(f"note: {note}")
