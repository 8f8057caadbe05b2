"""`visor score`: an archive's answers to many images, as Parquet."""

import argparse
from pathlib import Path

from visor.commands.arguments import (
    ARCHIVE,
    Commands,
    add_command,
    add_digest,
    add_group,
    add_public_key,
    add_store,
    add_threshold,
    positive,
)

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".txt", ".feather")
"""Suffixes of files that are not what is written, where a folder of that name would not be what was meant."""


def add(commands: Commands) -> None:
    """Declare the command."""
    score = add_command(
        commands,
        "score",
        run,
        "Score many images: let an archive answer for each of them, without a server, on all cores. Writes one row an image "
        "(label, confidence, probabilities, score, decision and the rule behind it, or an error code) as Parquet, and prints how "
        "many images got each decision and error. Given again after an interruption it resumes, and it refuses an --out of "
        "another archive, other images, another threshold or group, or made with --explain where this call has none or the other "
        "way round. `visor predict` asks about a few images.",
        exits="Exit codes: 0 every image has a row, be it with an error code; 1 an error of the whole, printed to standard error "
        "as `visor: CODE: sentence`; 2 a mistyped command line; 130 interrupted.",
        resumes=True,
    )
    score.add_argument("archive", metavar="NAME|FILE", help=ARCHIVE)
    score.add_argument(
        "images",
        type=Path,
        metavar="FOLDER|LIST",
        help="a folder, searched at any depth, a manifest (.json), or a text file with one path a line (.txt)",
    )
    score.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER|FILE.parquet",
        help="where to write: a folder of many Parquet files, or one file that ends in .parquet (required)",
    )
    score.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        help="folder to which the paths in a manifest or text file are relative; an error with a FOLDER of images "
        "(default: the file's own folder)",
    )
    add_threshold(score)
    add_group(score)
    score.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="write each image, overlaid with the heat map that explains its decision, as PNG into FOLDER, with the answer and a "
        "scale of the colours, which mean the same in every image (default: no heat maps)",
    )
    score.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N",
        help="score only the I-th of N consecutive shares of the images, I from 0, so that N machines can share a job; shares "
        "differ by at most one Parquet file of 32 to 1024 images; --out must be a folder (default: 0/1, all images)",
    )
    score.add_argument(
        "--workers", type=positive, help="number of processes that answer (default: one for each CPU that this process may use)"
    )
    add_public_key(score)
    add_digest(score)
    add_store(score)


def run(args: argparse.Namespace) -> int:
    """Score, and print how many images got each decision and error."""
    from archives import store
    from visor.errors import ScoreError
    from visor.scoring.score import Options, score
    from visor.serving.cgroup import cpu_limit

    if args.out.suffix.lower() in TABLES:
        raise ScoreError(
            f"{args.out} is to be of a kind that is not written; name a folder or FILE.parquet, which pandas.read_parquet and "
            "pyarrow read, and write as another"
        )
    options = Options(
        images=args.images,
        out=args.out,
        root=args.root,
        threshold=args.threshold,
        group=args.group,
        overlays=args.explain,
        shard=args.shard,
        workers=args.workers or cpu_limit(),
        digest=args.digest,
    )
    archive = store.find(args.store, args.archive)
    args.begun = True
    scored = score(archive, args.public_key, options)
    for outcome, count in sorted(scored.counts.decisions.items()):
        print(f"{outcome:24}{count:8}")
    for code, count in sorted(scored.counts.errors.items()):
        print(f"{code:24}{count:8}")
    rate = f", {scored.answered / scored.seconds:.0f} a second" if scored.seconds else ""
    print(f"{'images':24}{scored.rows:8}  ({scored.answered} now{rate})\n{scored.out}")
    return 0


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N, such as 0/4, with I below N")
    return int(index), int(count)
