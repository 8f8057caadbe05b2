"""One picture out of all that trainings have left of it: found, removed where that can be, and said where it cannot.

A dry run finds the same and changes nothing. What tells where a picture is, its manifests, changes last, and GOING says until
all is done which pictures were named by files that may be gone: an erasure that was interrupted goes on with the same command.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from archives.files import replacing
from training import runs
from training.data.duplicates import hash_images
from training.data.manifest import Manifest
from training.data.pixels import cache_name
from training.data.tree import SUFFIXES
from training.erasure import files, learnt, server
from training.erasure.picture import ALIKE_BITS, Known, Picture, find, known, manifests
from training.errors import ConfigError, DataError, FolderError, RunError
from training.tracking import Tracker

Action = Literal["remove", "rewrite", "left", "learnt", "alike"]
DATA, CACHE = "data", "cache"
"""Folders of a home: data sets, and what is decoded of them."""
GOING = "erasing.json"
"""The file of a home with the SHA-256 of each picture that is being erased, by what the command called it."""


@dataclass(frozen=True)
class ErasurePlaces:
    """Where to look.

    `home`: runs, data sets, caches, the embedded MLflow store; `store`: the model store, which is read alone; `also`: more
    folders, such as of reports and scores; `originals`: whether the files of data sets outside of these go, too.
    """

    home: Path
    store: Path
    also: tuple[Path, ...] = ()
    originals: bool = False

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders whose files are cleaned."""
        return tuple(folder.resolve() for folder in (self.home, *self.also) if folder.is_dir())


@dataclass(frozen=True)
class Finding:
    """One place that has something of a picture. `action`: what becomes of it, or why nothing does.

    remove: the file goes; rewrite: it stays without the picture; left: somebody else has to remove it; learnt: only another
    training would; alike: another picture, for a person to look at.
    """

    action: Action
    place: str
    what: str


@dataclass(frozen=True)
class Erasure:
    """What was found of one picture."""

    sha256: str
    paths: tuple[str, ...]
    findings: tuple[Finding, ...]


def erase(
    wanted: Sequence[str], places: ErasurePlaces, write: bool, begin: Callable[[str, str], object] = lambda *_: None
) -> list[Erasure]:
    """Erase pictures, each named by a file, its SHA-256 or that one's first digits; without `write` nothing is changed.

    `begin`: told of each what it was called and its SHA-256, before anything is changed.
    Raises DataError (none of these), RunError (an MLflow server that refuses), FolderError (a file that cannot be written).
    """
    listed = manifests(places.folders)
    roots = {file: record.dataset_root for file, record in _records(listed).items()}
    going = _read_going(places.home)
    pictures = []
    for what in wanted:
        key = str(Path(what).absolute())
        picture = find(what if Path(what).is_file() else going.get(key, what), listed, roots)
        pictures.append(picture)
        begin(what, picture.sha256)
        going[key] = picture.sha256
    if write:
        _write_going(places.home, going)
    erased = [_erase(picture, places, write) for picture in pictures]
    if write:
        own = {str(Path(what).absolute()) for what in wanted}
        _write_going(places.home, {key: digest for key, digest in going.items() if key not in own})
    return erased


def _records(listed: Iterable[tuple[Path, Manifest]]) -> dict[Path, runs.Record]:
    return {file: runs.read_record(file.parent) for file, _ in listed if (file.parent / runs.RECORD).is_file()}


def _read_going(home: Path) -> dict[str, str]:
    try:
        return {str(key): str(digest) for key, digest in json.loads((home / GOING).read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _write_going(home: Path, going: dict[str, str]) -> None:
    if going and home.is_dir():
        _write(home / GOING, json.dumps(going, indent=1).encode(), write=True)
    elif (home / GOING).exists():
        _write(home / GOING, None, write=True)


def _erase(picture: Picture, places: ErasurePlaces, write: bool) -> Erasure:
    listed = manifests(places.folders)
    records = _records(listed)
    roots = {file: record.dataset_root for file, record in records.items()}
    found = known(listed, picture.sha256)
    data_sets = {}
    for one in found:
        record = records.get(one.file)  # another picture's erasure has given the manifest another digest
        data_sets[record.dataset_digest if record else one.manifest.digest] = learnt.of_run(one)
    findings = [*_alike(picture, listed, roots, places.home)]  # before the hashes go
    findings += learnt_from(picture, found, listed, places, data_sets)
    findings += _on_servers(picture, found, records, places.home, write)
    every = sorted({file for folder in places.folders for file in _walk(folder)}, key=lambda file: (_may_be(file, picture), file))
    beside = {file.parent: next((one for one in found if one.file == file), None) for file, _ in listed}
    free = _caches_without([file for file in records if file not in {one.file for one in found}])
    every = [file for file in every if file.name not in free and file != places.home.resolve() / GOING]
    findings += _clean([file for file in every if file.name != runs.MANIFEST], picture, found, beside, places.home, write)
    findings += _originals(found, roots, places, write)
    findings += _clean([file for file in every if file.name == runs.MANIFEST], picture, found, beside, places.home, write)
    paths = sorted({path for one in found for path in one.paths})
    return Erasure(picture.sha256, tuple(paths), tuple(dict.fromkeys(findings)))


def _caches_without(others: Iterable[Path]) -> set[str]:
    """Name the caches of decoded pictures that belong to the manifests of other runs; all that is left may hold the picture."""
    names = set()
    for file in others:
        try:
            config = runs.read_config(file.parent)
        except (ConfigError, RunError):
            continue
        names.add(cache_name(Manifest.read(file), config.preprocessing, config.limits))
    return names


def _clean(
    every: Iterable[Path], picture: Picture, found: Sequence[Known], listed: dict[Path, Known | None], home: Path, write: bool
) -> Iterator[Finding]:
    """Clean files. `listed`: the folders of manifests, with what those say of the picture, None where they do not list it."""
    everywhere = frozenset(path for one in found for path in one.paths)
    others = frozenset(path for one in found for path in one.others) - everywhere
    stems = "|".join(re.escape(Path(path).stem) for path in everywhere)
    after = re.compile(rf"(?<![A-Za-z0-9])({stems})(?![A-Za-z0-9])") if stems else None
    for file in every:
        size, suffix = file.stat().st_size, file.suffix.lower()
        if file.parent.name == CACHE and file.name.lstrip(".").startswith(files.PIXELS):
            yield Finding("remove", str(file), "decoded pictures of a whole data set, which the next training makes again")
            _write(file, None, write)
            continue
        if picture.size not in {None, size} and suffix not in files.KINDS:
            continue
        beside = next((folder for folder in file.parents if folder in listed), None)
        one = listed[beside] if beside else None
        data = file.read_bytes()
        cleaned = files.clean(file.name, data, picture, one, frozenset() if beside else everywhere, others)
        if cleaned and cleaned.data is not None and suffix == ".html" and beside and not one:
            # By its looks alone, and the run has learnt from another one that looks like it.
            yield Finding("alike", str(file), "shows what looks like it, of a run without it; look, and remove it by hand")
        elif cleaned:
            yield Finding(_action(cleaned), str(file), cleaned.what)
            _write(file, cleaned.data, write and not cleaned.left)
        elif suffix in SUFFIXES and not _is_sample(file, home):
            if picture.is_alike(data):
                yield Finding("alike", str(file), "looks like it; name this file, too, to remove it")
            elif after and after.search(file.stem):
                yield Finding("alike", str(file), "is named after it; look, and remove it by hand")


def _action(cleaned: files.Cleaned) -> Action:
    if cleaned.left:
        return "left"
    return "remove" if cleaned.data is None else "rewrite"


def _may_be(file: Path, picture: Picture) -> bool:
    """Whether a file may be the picture, and goes after all pages: they are searched for what looks like it."""
    return file.suffix.lower() in SUFFIXES or file.stat().st_size == picture.size


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _is_sample(file: Path, home: Path) -> bool:
    """Whether a file belongs to a data set of the home, whose pictures `_alike` compares."""
    return (home / DATA).resolve() in file.parents


def _write(file: Path, data: bytes | None, write: bool) -> None:
    if not write:
        return
    try:
        if data is None:
            file.unlink()
        else:
            with replacing(file) as temporary:
                temporary.write_bytes(data)
    except OSError as err:
        raise FolderError(f"{file} cannot be changed: {err.strerror}; when it can, the same command goes on") from err


def _on_servers(
    picture: Picture, found: Sequence[Known], records: dict[Path, runs.Record], home: Path, write: bool
) -> Iterator[Finding]:
    """Clean what MLflow servers keep of the runs; the embedded store's files lie below home."""
    for one in found:
        record = records.get(one.file)
        if record is None or not record.tracking_uri.startswith(("http://", "https://")):
            continue
        tracker, uri, run_id = Tracker.open(home), record.tracking_uri, record.mlflow_run_id
        if tracker.public_uri != uri:
            yield Finding("left", uri, f"run {run_id} is tracked there; give the same command with MLFLOW_TRACKING_URI={uri}")
            continue
        tracker.reach()
        cleaned = partial(files.clean, picture=picture, known=one, paths=frozenset())
        for name, made in server.clean_run(tracker, run_id, cleaned, write):
            yield Finding(_action(made), f"{uri} run {run_id} {name}", made.what)


def learnt_from(
    picture: Picture,
    found: Sequence[Known],
    listed: Iterable[tuple[Path, Manifest]],
    places: ErasurePlaces,
    data_sets: dict[str, list[str]],
) -> Iterator[Finding]:
    """Say which runs and archives have learnt from a picture: what is left of it there goes with another training alone."""
    trained = [one for one in found if (one.file.parent / runs.RECORD).is_file() and runs.has_epoch(one.file.parent)]
    said = {one.file.parent: "; ".join(learnt.of_run(one)) for one in trained}
    for file, _ in listed:
        lists = [by_list for name in learnt.WEIGHTS if (by_list := learnt.of_weights(file.parent / name, picture))]
        if lists and (file.parent / runs.RECORD).is_file():
            said.setdefault(file.parent, f"its weights: {lists[0]}")
    for run, what in said.items():
        yield Finding("learnt", str(run), f"{what}; train anew without it")
    for archive, what in learnt.of_archives(places.store, picture, data_sets):
        yield Finding("learnt", str(archive), f"{what}; it is signed and was not changed: replace it by one of a new training")


def _originals(found: Sequence[Known], roots: dict[Path, Path], places: ErasurePlaces, write: bool) -> Iterator[Finding]:
    """The files of data sets outside of home, which the next training would take again, and masks.

    A mask goes by its path alone: other pictures may have one of the same bytes.
    """
    for one in found:
        root = roots.get(one.file)
        for sample in one.samples if root else ():
            for name, digest, what in (
                (sample.path, sample.sha256, "the data set's own file"),
                (sample.mask, sample.mask_sha256, "its mask"),
            ):
                file = root.resolve() / name if root and name else None
                if file is None or not file.is_file() or files.digest(file.read_bytes()) != digest:
                    continue
                inside = any(folder in file.parents for folder in places.folders)
                if inside and name == sample.path:
                    continue  # cleaned with the folder
                if inside or places.originals:
                    yield Finding("remove", str(file), what)
                    _write(file, None, write)
                else:
                    yield Finding("left", str(file), f"{what}; remove it, or say --originals")


def _alike(picture: Picture, listed: Iterable[tuple[Path, Manifest]], roots: dict[Path, Path], home: Path) -> Iterator[Finding]:
    """Compare a picture with the others of each data set whose files are there."""
    seen = set[str]()
    for file, manifest in listed:
        if file not in roots or manifest.digest in seen or picture.views is None:
            continue
        seen.add(manifest.digest)
        samples = [sample for sample in manifest.samples if (roots[file] / sample.path).is_file()]
        try:
            limits = runs.read_config(file.parent).limits
            hashes = hash_images(roots[file], samples, limits, home / CACHE)
        except (DataError, RunError) as err:
            yield Finding("left", str(roots[file]), f"was not searched for near-duplicates: {err}")
            continue
        for sample, views in zip(samples, hashes, strict=True):
            bits = picture.bits_to(views)
            if bits is not None and bits <= ALIKE_BITS and sample.sha256 != picture.sha256:
                yield Finding("alike", str(roots[file] / sample.path), f"{bits} of 256 bits apart; name it, too, to erase it")
