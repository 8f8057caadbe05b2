"""`visor score`: an archive's answers to a folder of images, as Parquet."""

import argparse
from pathlib import Path

from visor.commands.arguments import Commands, add_public_key, add_store, positive


def add(commands: Commands) -> None:
    """Declare the command."""
    score = commands.add_parser("score", help="answer for many images on all cores, as Parquet; goes on where it was killed")
    score.add_argument("archive", metavar="NAME|FILE", help="a name in the model store, NAME/VERSION or a .mar file")
    score.add_argument("images", type=Path, metavar="FOLDER|LIST", help="a folder, a manifest (.json) or a list of paths (.txt)")
    score.add_argument("--out", type=Path, required=True, metavar="DIR|FILE.parquet", help="a folder of parts, or one file")
    score.add_argument("--root", type=Path, metavar="DIR", help="what a list's paths are relative to (default: its folder)")
    score.add_argument("--threshold", type=float, help="decide by this threshold instead of the archive's")
    score.add_argument("--explain", type=Path, metavar="DIR", help="write each image with its heat map into DIR")
    score.add_argument("--shard", type=_shard, default=(0, 1), metavar="I/N", help="only the I-th of N parts of it, from 0")
    score.add_argument("--workers", type=positive, help="processes (default: one per CPU of the limit)")
    add_public_key(score)
    add_store(score)
    score.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score, and print what came out."""
    from training import store
    from visor.score import Options, score
    from visor.torchserve import cpu_limit

    options = Options(
        images=args.images,
        out=args.out,
        root=args.root,
        threshold=args.threshold,
        overlays=args.explain,
        shard=args.shard,
        workers=args.workers or cpu_limit(),
    )
    scored = score(store.find(args.store, args.archive), args.public_key, options)
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
