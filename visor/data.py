"""A data set before training, from Python: what `visor data report` and `visor data diff` say of it."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers.spec import DECODING, DecodingRule, Limits
from training import config as configs
from training import runs, settings
from training.data import eda
from training.data.duplicates import Near, find_near, hash_images
from training.data.versions import Entry
from training.data.versions import compare as compare_versions
from training.errors import DataError
from visor.outputs import check_output
from visor.runs import flat

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Outlier:
    """A picture that stands out by its brightness or sharpness. `score`: by how many robust standard deviations, and whither."""

    path: str
    score: float


@dataclass(frozen=True)
class Pair:
    """Two pictures that look alike: their hashes differ in `bits` of 256. `torn`: whether they lie in two splits."""

    one: str
    other: str
    bits: int
    torn: bool


@dataclass(frozen=True)
class Change:
    """What happened to a picture between two data sets, in words such as "resplit", and its path and split before and after."""

    kinds: tuple[str, ...]
    path: str | None
    split: str | None
    old_path: str | None
    old_split: str | None


@dataclass(frozen=True)
class DataSet:
    """A data set that was looked at, as a training would take it.

    `labels`: also those without pictures; `digest`: of its manifest; `counts`: pictures by label and split; `unreadable`: paths
    of files that cannot be decoded, with the reason; `blank`: paths of pictures of one colour, which are compared with none;
    `brightness`, `sharpness`: what stands out, the farthest first; `refusal`:
    why training would refuse it, a line for each reason, None where it would not.
    """

    name: str
    root: Path
    labels: tuple[str, ...]
    digest: str
    counts: dict[str, dict[str, int]]
    unreadable: dict[str, str]
    blank: tuple[str, ...]
    brightness: tuple[Outlier, ...]
    sharpness: tuple[Outlier, ...]
    refusal: str | None
    _findings: eda.Findings = field(repr=False)
    _limits: Limits = field(repr=False)
    _rule: DecodingRule = field(repr=False)
    _cache: Path = field(repr=False)

    def __len__(self) -> int:
        """How many pictures can be read."""
        return len(self._findings.images)

    def near_duplicates(self, bits: int | None = None) -> list[Pair]:
        """List pairs that look alike, the nearest first, at most `bits` of 256 apart, by default data.near_duplicate_bits."""
        found = self._findings.near if bits is None else self._find(bits)
        return [Pair(near.one.path, near.other.path, near.bits, near.one.split != near.other.split) for near in found]

    def balance(self) -> "Image.Image":
        """Draw how many pictures each label has in each split."""
        from PIL import Image

        from training.reports import eda_plots

        return Image.open(io.BytesIO(eda_plots.balance(self._findings.counts(), self._findings.split)))

    def changes_from(self, old: "DataSet") -> list[Change]:
        """List what changed since another version, by path. A picture is known by its path, else by its bytes."""
        return [
            Change(
                change.kinds,
                change.new.path if change.new else None,
                change.new.split if change.new else None,
                change.old.path if change.old else None,
                change.old.split if change.old else None,
            )
            for change in compare_versions(old._entries(), self._entries())
        ]

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page that `visor data report` writes, and return its path. Raises FolderError, OutputRefused."""
        from training.reports.data_set import write

        check_output(Path(path), data=self.root)
        write(self._findings, Path(path))
        return Path(path)

    def _find(self, bits: int) -> list[Near]:
        samples = [image.sample for image in self._findings.images]
        return find_near(samples, hash_images(self.root, samples, self._limits, self._cache, self._rule), bits)

    def _entries(self) -> list[Entry]:
        samples = [image.sample for image in self._findings.images]
        return [Entry(one.path, one.sha256, one.label, one.split, one.mask_sha256) for one in samples]


def check_source(source: Path) -> None:
    """Raise DataError for a run's folder, whose plots are no labelled pictures."""
    if (source / runs.RECORD).is_file():
        raise DataError(f"{source} is the folder of a run; name its data set by its config, {source / runs.CONFIG}")


def folder_of(source: Path, overrides: Sequence[str]) -> Path | None:
    """Return the folder of the images of a config, or the folder itself; None of a built-in set. Raises ConfigError."""
    return source if source.is_dir() or not source.exists() else configs.load(source, overrides).data.path


def explore(source: str | os.PathLike[str], *, home: str | os.PathLike[str] | None = None, **overrides: Any) -> DataSet:
    """Look at the data set of a config, or at a folder of labelled pictures, and say what it is like; every picture is read.

    `source`: a YAML file, or the folder. `overrides`: the config's keys with other values, of a folder those of `data` alone,
    such as `data={"layout": "labels"}`. `home`: where built-in sets and caches lie, by default the environment's VISOR_HOME, else
    `runs`. Raises ConfigError, DataError.
    """
    check_source(Path(source))
    place = settings.home() if home is None else Path(home)
    wanted = [f"{key}={json.dumps(value, default=str)}" for key, value in flat(overrides)]
    findings = eda.explore(Path(source), wanted, place)
    limits, rule = Limits(), DECODING
    if not Path(source).is_dir():
        config = configs.load(Path(source), wanted)
        limits, rule = config.limits, config.preprocessing.decoding
    return DataSet(
        name=findings.name,
        root=findings.root,
        labels=findings.labels,
        digest=findings.digest,
        counts={label: dict(held) for label, held in findings.counts().items()},
        unreadable=dict(findings.unreadable),
        blank=tuple(sample.path for sample in findings.blank),
        brightness=tuple(Outlier(one.image.sample.path, one.score) for one in findings.brightness),
        sharpness=tuple(Outlier(one.image.sample.path, one.score) for one in findings.sharpness),
        refusal="\n".join(findings.refusals) or None,
        _findings=findings,
        _limits=limits,
        _rule=rule,
        _cache=place / "cache",
    )
