"""`visor drift`: whether images are still like those that an archive was calibrated with."""

import argparse
from pathlib import Path

from visor.commands.arguments import ARCHIVE, Commands, add_command, add_digest, add_public_key, add_store, output, positive

DRIFTED = 3
"""The exit code where images have drifted."""


def add(commands: Commands) -> None:
    """Declare the command."""
    drift = add_command(
        commands,
        "drift",
        run,
        "Compare images with those that an archive was calibrated with. Counts each image's figures (score, light, contrast, "
        "sharpness, colour, size, features) into the bins of the archive's reference, prints how far each figure moved (PSI) "
        "beside the limit of what chance explains, and says whether other shares of the labels would explain it. "
        "Calibration, threshold and, where the archive has one, its bound on missed images are for images like the "
        "calibration split's; drift says that this is over.",
        exits="Exit codes: 0 nothing moved; 1 an error, printed to standard error as `visor: CODE: sentence`; 2 a mistyped "
        f"command line; {DRIFTED} images have drifted; 130 interrupted.",
    )
    drift.add_argument("archive", metavar="NAME|FILE", help=ARCHIVE)
    drift.add_argument(
        "images",
        type=Path,
        metavar="FOLDER|LIST|PARQUET",
        help="a folder, searched at any depth, a manifest (.json), a text file with one path a line (.txt), or a .parquet or "
        "folder that `visor score` wrote with the same archive, whose images are not read again",
    )
    drift.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        help="folder to which the paths in a manifest, text file or Parquet are relative; of a Parquet, pictures of the "
        "report are read from it (default: the file's own folder; of a Parquet, none, and the report has names alone)",
    )
    drift.add_argument("--json", action="store_true", help="print one JSON object (default: a table to read)")
    drift.add_argument(
        "--report",
        type=output(".html", ".htm"),
        metavar="FILE.html",
        help="write a page with the table and the most unusual pictures (default: no page)",
    )
    drift.add_argument(
        "--workers", type=positive, help="number of processes that answer (default: one for each CPU that this process may use)"
    )
    add_public_key(drift)
    add_digest(drift)
    add_store(drift)


def run(args: argparse.Namespace) -> int:
    """Compare, print the table and write the page that --report asks for."""
    import json

    from archives import store
    from training.reports import drift as report
    from visor.drift import Options, compare
    from visor.outputs import check_output
    from visor.serving.cgroup import cpu_limit

    if args.report:
        check_output(args.report, [args.images], args.root or (args.images if args.images.is_dir() else None))
    options = Options(args.images, args.root, args.workers or cpu_limit(), args.digest)
    window = compare(store.find(args.store, args.archive), args.public_key, options)
    if args.json:
        print(json.dumps(report.to_json(window), indent=2, ensure_ascii=False))
    else:
        print(report.text(window))
    if args.report:
        report.write(window, args.report)
    return DRIFTED if window.verdict.moved else 0
