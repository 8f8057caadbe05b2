"""`visor data from-reviews`: the next version of a data set, with what people labelled."""

import argparse
from pathlib import Path

from visor.commands.arguments import Commands, add_command, add_home, add_set

NOTHING_NEW = 3
"""The exit code where no reviewed picture is left to be added."""


def add(verbs: Commands) -> None:
    """Declare the verb."""
    parser = add_command(
        verbs,
        "from-reviews",
        run,
        "Make the next version of a data set out of its images and an export of reviews. Splits and groups of the images that "
        "are there stay; reviewed pictures are learnt from, audits go into the sealed split, and what looks like a picture that "
        "is held out is left out and named. Writes a folder that `visor train` takes as data.path, and prints what was added.",
        exits="Exit codes: 0 the folder was written; 1 an error, printed to standard error as `visor: CODE: sentence`; 2 a "
        "mistyped command line; 3 there is nothing to add, and nothing was written; 130 interrupted.",
    )
    parser.add_argument(
        "export",
        type=Path,
        metavar="EXPORT",
        help="folder of an export of reviews: reviews.jsonl and pictures, as docs/reviews-export.md describes them",
    )
    parser.add_argument(
        "--parent",
        type=Path,
        required=True,
        metavar="CONFIG|FOLDER|RUN|MANIFEST",
        help="the data set that is added to: a training config, a folder of labelled images, one that this command made, a run's "
        "folder, for the very images and splits that it was trained on, or a manifest.json with --images (required)",
    )
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="folder of the images that a MANIFEST lists (default: a run's own)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new folder to write (required)")
    add_set(parser, more="; of a FOLDER keys of data alone, such as data.layout=labels, of a RUN or MANIFEST none")
    add_home(parser)


def run(args: argparse.Namespace) -> int:
    """Make the version, and say what is in it."""
    from training.data.reviews import REASONS
    from training.jobs.from_reviews import from_reviews, read_parent
    from visor.outputs import check_apart, check_folder

    check_folder(args.out)
    parent = read_parent(args.parent, args.set, args.home, args.images)
    check_apart("--out", args.out, [parent.root, args.export])
    added = from_reviews(args.export, parent, args.out, args.home)
    for reason, number in added.left_out.items():
        print(f"left out     {number:6} {REASONS[reason]}")
    if added.reviews is None:
        print("nothing to add; no folder was written")
        return NOTHING_NEW
    for split in added.manifest.splits:
        new = added.reviews.taken.get(split, 0)
        print(f"{split:12} {len(added.manifest.samples_of(split)):6} images, {new} of them new")
    print(f"digest       {added.manifest.digest}\ndata set     {args.out}")
    return 0
