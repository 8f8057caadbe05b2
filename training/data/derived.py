"""A data set that `visor data from-reviews` made: a folder whose splits and groups are written down, and not found anew.

Beside the images lie MANIFEST, which says what is in which split; VERSION, which reviews were added to which data set; and
REVIEWS, the reviews themselves. A training takes the splits as they are: `data.splits`, `data.seed` and `data.group_pattern` have
no say, as they had theirs when the first data set was split.
"""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ValidationError

from archives.files import replacing
from archives.lineage import Reviews
from handlers.errors import unread
from handlers.spec import Frozen
from training import runs
from training.config import DataConfig
from training.data.manifest import Manifest, Sample, verify
from training.data.tree import VERSION
from training.errors import DataError

logger = logging.getLogger(__name__)

REVIEWED, AUDITS = "reviewed", "audits"
"""The folders below a label's in which pictures lie that are learnt from, and those that are not."""


class Version(Frozen):
    """The content of VERSION: the reviews that were added, version after version."""

    format: Literal[1] = 1
    reviews: tuple[Reviews, ...]

    def write(self, root: Path) -> None:
        """Write it into a data set's folder."""
        with replacing(root / VERSION) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n")


def is_derived(root: Path) -> bool:
    """Tell whether a folder is such a data set."""
    return (root / VERSION).is_file()


def read_reviews(root: Path) -> tuple[Reviews, ...]:
    """Read which reviews a data set was made with: none of another folder. Raises DataError."""
    if not is_derived(root):
        return ()
    try:
        return Version.model_validate_json((root / VERSION).read_bytes()).reviews
    except OSError as err:
        raise DataError(f"{root / VERSION} {unread(err)}") from err
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{root / VERSION} is not what `visor data from-reviews` writes: {where}: {first['msg']}") from err


def read_manifest(root: Path, config: DataConfig) -> Manifest:
    """Read the manifest and compare the folder with it. Raises DataError, DataChanged."""
    if config.classes is not None or config.top_classes is not None:
        raise DataError(
            f"{root} was made by `visor data from-reviews`, and has the labels that its first data set was given; "
            "leave data.classes and data.top_classes out"
        )
    manifest = Manifest.read(root / runs.MANIFEST)
    verify(root, manifest)
    logger.info("%s has splits and groups of its own, by its %s", root, runs.MANIFEST)
    return manifest


def audits_of(manifest: Manifest) -> Sequence[Sample]:
    """List the audits: sealed images that were drawn at random of what a server was asked."""
    return [sample for sample in manifest.samples_of("sealed") if PurePosixPath(sample.path).parent.name == AUDITS]
