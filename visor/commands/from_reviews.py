"""`visor data from-reviews`: a new version of a data set, with what people have labelled in the console."""

import argparse
from pathlib import Path

from visor.commands.arguments import Commands, add_command


def add(verbs: Commands) -> None:
    """Declare the verb."""
    verb = add_command(
        verbs,
        "from-reviews",
        run,
        "Make a new version of a run's data set, with the pictures that people have labelled in the console. Reviews that were "
        "chosen go into the training split; those that were drawn at random go into the sealed split, for `visor compare "
        "--sealed`. Writes reviews.json, which has the parent's digest and each review, and prints the folder to train on.",
    )
    verb.add_argument("run", type=Path, metavar="RUN", help="folder of the run whose data set and splits are the parent's")
    verb.add_argument("reviews", type=Path, metavar="REVIEWS", help="folder that `visor console export` wrote")
    verb.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder for the data set (required)")


def run(args: argparse.Namespace) -> int:
    """Merge, and print what became of the reviews."""
    from training import runs
    from training.data.manifest import Manifest
    from training.data.reviews import merge

    root = Path(runs.read_record(args.run).dataset_root)
    merged = merge(Manifest.read(args.run / runs.MANIFEST), root, args.reviews, args.out)
    for split, use in (("train", "to learn from"), ("sealed", "drawn at random, sealed")):
        print(f"{sum(one.split == split for one in merged.reviews):6} {use}")
    for reason, count in merged.left_out.items():
        print(f"{count:6} left out, {reason}")
    print(f"parent  {merged.parent}\nfolder  {args.out}")
    print(f"next: visor train CONFIG --set data.source=imagefolder --set data.path={args.out} --set data.layout=splits")
    return 0
