"""`visor data`: make, list, verify, compare and describe data sets, and erase a picture."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from handlers.errors import VisorError, counted
from visor.commands import erase, from_reviews
from visor.commands.arguments import CONFIG, Commands, add_command, add_home, add_set, list_commands, output

if TYPE_CHECKING:
    from training.data.versions import Change, Entry

SAME, DIFFERENT, TROUBLE = 0, 1, 2
"""The exit codes of `visor data diff`, which are those of diff(1)."""
SHOWN = 40
"""Changes that `visor data diff` prints without --json."""


def add(commands: Commands) -> None:
    """Declare the command and its verbs."""
    data = commands.add_parser("data", formatter_class=argparse.RawDescriptionHelpFormatter)
    data.description = "Make, list, verify, compare and describe data sets; erase a picture. Each verb is a command of its own."
    verbs = data.add_subparsers(
        required=True, metavar="VERB", help="what to do, one of the verbs below; `visor data VERB --help` describes it"
    )
    _add_make(verbs)
    _add_manifest(verbs)
    _add_verify(verbs)
    _add_diff(verbs)
    _add_report(verbs)
    from_reviews.add(verbs)
    erase.add(verbs)
    data.epilog = list_commands("verbs", verbs.choices.items())


def _add_make(verbs: Commands) -> None:
    make = add_command(
        verbs,
        "make",
        _make,
        "Write a config's data set to disk as a folder of images for each label. Built-in sets are generated and published ones "
        "unpacked below HOME/data, a folder of your own is used as it is. Fails where the folders hold no labels to learn; "
        "prints the data set's folder.",
    )
    make.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG)
    add_set(make)
    add_home(make)


def _add_manifest(verbs: Commands) -> None:
    manifest = add_command(
        verbs,
        "manifest",
        _manifest,
        "List every image of a config's data set with its SHA-256 digest, label and split. Writes the list as JSON, prints how "
        "many images each split has. Where near-duplicates lie in different splits it does what the config's data.leaks says: "
        "error writes nothing and fails (the default for images of your own), warn logs them (the default for built-in and "
        "published sets), allow does not look.",
    )
    manifest.add_argument("config", type=Path, metavar="CONFIG", help=CONFIG)
    manifest.add_argument(
        "--out",
        type=output(".json"),
        default=Path("manifest.json"),
        metavar="FILE.json",
        help="JSON file to write (default: %(default)s)",
    )
    add_set(manifest)
    add_home(manifest)


def _add_verify(verbs: Commands) -> None:
    verify = add_command(
        verbs,
        "verify",
        _verify,
        "Check a folder of images against a manifest. Fails with the names of the files that changed, are missing or were added "
        "since the manifest was written; otherwise prints how many images are unchanged.",
    )
    verify.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the data set, which holds a folder for each label")
    verify.add_argument(
        "--manifest",
        type=Path,
        default=Path("manifest.json"),
        metavar="FILE",
        help="JSON file that `visor data manifest` wrote (default: %(default)s)",
    )


def _add_diff(verbs: Commands) -> None:
    diff = add_command(
        verbs,
        "diff",
        _diff,
        "Compare two versions of a data set image by image. Prints each image that was added, removed, moved, relabelled or "
        "otherwise changed, and how many there are of each kind.",
        exits="Exit codes: 0 the versions are the same; 1 they differ; 2 an error or a mistyped command line; 130 interrupted.",
    )
    for name, which in (("old", "earlier"), ("new", "later")):
        diff.add_argument(
            name,
            type=Path,
            metavar=name.upper(),
            help=f"the {which} version: a manifest.json, a run's folder or a folder of labelled images",
        )
    diff.add_argument("--json", action="store_true", help=f"print JSON with every change (default: a table of at most {SHOWN})")


def _add_report(verbs: Commands) -> None:
    report = add_command(
        verbs,
        "report",
        _report,
        "Describe a data set before training: balance of the labels, sizes, near-duplicates and outliers. Reads every image, "
        "writes one HTML page, and prints what deserves attention, then the page's path.",
    )
    report.add_argument(
        "source", type=Path, metavar="CONFIG|FOLDER", help=f"{CONFIG}; or a folder that holds a folder of images for each label"
    )
    report.add_argument(
        "--out",
        type=output(".html", ".htm"),
        default=Path("data.html"),
        metavar="FILE.html",
        help="HTML page to write (default: %(default)s)",
    )
    add_set(report, more="; of a FOLDER keys of data alone, such as data.layout=labels")
    add_home(report)


def _make(args: argparse.Namespace) -> int:
    from training import config
    from training.data import sources

    settings = config.load(args.config, args.set)
    root = sources.prepare(settings.data, args.home)
    sources.check(root, settings.data)
    print(root)
    return 0


def _manifest(args: argparse.Namespace) -> int:
    from training import config
    from training.data import duplicates, sources
    from visor.outputs import check_output

    settings = config.load(args.config, args.set)
    check_output(args.out, [args.config], settings.data.path)
    root = sources.prepare(settings.data, args.home)
    listed = sources.build_manifest(root, settings.data)
    duplicates.check_leaks(root, listed, settings, args.home)
    listed.write(args.out)
    for split in listed.splits:
        print(f"{split:12} {len(listed.samples_of(split)):6} images")
    print(f"labels       {', '.join(listed.labels)}\ndigest       {listed.digest}\nmanifest     {args.out}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from archives.names import pair
    from training.data import manifest
    from training.data.walk import walk
    from training.errors import DataChanged, DataError

    if not args.manifest.exists():
        raise DataError(
            f"{args.manifest} is not there; name the data set's manifest by --manifest, as `visor data manifest CONFIG` wrote "
            "it, or that of a run, RUN/manifest.json"
        )
    listed = manifest.Manifest.read(args.manifest)
    paths = [sample.path for sample in listed.samples]
    found = not paths or not args.folder.is_dir() or any((args.folder / path).is_file() for path in paths)
    if not found and not pair(paths, walk(args.folder, linked_folders=False).files):
        raise DataChanged(
            f"{args.folder} has none of the files of {args.manifest}, such as {paths[0]}; name the folder of that data set, or "
            "its manifest by --manifest"
        )
    manifest.verify(args.folder, listed)
    print(
        f"{args.folder}: all {counted(len(listed.samples), 'image is', 'images are')} as in {args.manifest} "
        f"(digest {listed.digest})"
    )
    return 0


def _diff(args: argparse.Namespace) -> int:
    from training.data.versions import compare, read_versions

    try:
        old, new = read_versions(args.old, args.new)
    except VisorError as err:
        # A config would say it, and this command reads none.
        told = "; if it is the right folder, compare the manifest that `visor data manifest CONFIG` writes of it"
        print(f"visor: {err}{told if 'data.layout' in str(err) else ''}", file=sys.stderr)
        return TROUBLE
    changes = compare(old, new)
    counts = count(changes)
    if args.json:
        content = {"old_images": len(old), "new_images": len(new), "counts": counts}
        print(json.dumps({**content, "changes": [asdict(change) for change in changes]}, indent=1))
    else:
        _show(changes)
        said = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number) or "no difference"
        print(f"{counted(len(old), 'image')} before, {len(new)} after: {said}")
    return DIFFERENT if changes else SAME


def _report(args: argparse.Namespace) -> int:
    from training.data.eda import explore
    from training.reports.data_set import notes, write
    from visor.data import check_source, folder_of
    from visor.outputs import check_output

    check_source(args.source)
    check_output(args.out, [args.source], folder_of(args.source, args.set))
    findings = explore(args.source, args.set, args.home)
    write(findings, args.out)
    for note in notes(findings):
        print(note)
    print(args.out)
    return 0


def count(changes: "Sequence[Change]") -> dict[str, int]:
    """Count the images by kind of change."""
    from training.data.versions import KINDS

    counted = Counter(kind for change in changes for kind in change.kinds)
    return {kind: counted[kind] for kind in KINDS}


def _show(changes: "Sequence[Change]") -> None:
    if not changes:
        return
    rows = [("what", "before", "after")]
    rows += [(", ".join(change.kinds), _describe(change.old), _describe(change.new)) for change in changes[:SHOWN]]
    what, before = (max(len(row[column]) for row in rows) for column in (0, 1))
    for row in rows:
        print(f"{row[0]:{what}}  {row[1]:{before}}  {row[2]}".rstrip())
    if len(changes) > SHOWN:
        print(f"and {len(changes) - SHOWN} more, which --json lists")


def _describe(entry: "Entry | None") -> str:
    """Describe an image by path, first digits of its digest, and split; the label is a part of the path."""
    if entry is None:
        return ""
    return f"{entry.path}  {entry.sha256[:8]}" + (f"  {entry.split}" if entry.split else "")
