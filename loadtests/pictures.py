"""Provide the pictures that are sent: a folder's, by default generated photos of roofs in several sizes."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from loadtests.errors import PicturesMissing
from loadtests.local_server import visor

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".hif"})
MOST_PICTURES, MOST_BYTES = 500, 256 << 20
SIDES = (224, 384, 640)
"""Pixels; JPEG files of 15 to 150 KB. Networks look at 224 or less, so larger ones cost decoding."""
CONFIG = Path(__file__).parents[1] / "training/configs/roofs.yaml"


def generate() -> list[Path]:
    """Return the folders of generated roofs, one for each size; they are drawn once (about 20 s). Raises ServerFailed."""
    overrides = [[f"--set=data.size={side}", "--set=data.count=40"] for side in SIDES]
    roots = [Path(visor("data", "make", str(CONFIG), *each).splitlines()[-1]) for each in overrides]
    return [root / label for root in roots for label in ("damaged", "intact")]


def read(folders: Sequence[Path]) -> list[bytes]:
    """Read all pictures below the folders, in turn one from each, at most MOST_PICTURES. Raises PicturesMissing."""
    found = [sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) for folder in folders]
    in_turn = [path for row in itertools.zip_longest(*found) for path in row if path is not None][:MOST_PICTURES]
    if not in_turn:
        raise PicturesMissing(f"no {', '.join(sorted(SUFFIXES))} below {', '.join(map(str, folders)) or 'no folder'}")
    size = sum(path.stat().st_size for path in in_turn)
    if size > MOST_BYTES:
        raise PicturesMissing(
            f"{len(in_turn)} pictures of {size >> 20} MiB are too much to hold; give at most {MOST_BYTES >> 20} MiB"
        )
    return [path.read_bytes() for path in in_turn]
