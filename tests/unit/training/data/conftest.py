"""Small trees of pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Plant = Callable[..., Path]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Write a picture of its own for each path and return the tree's root."""

    def write(*paths: str, root: str = "set") -> Path:
        for path in paths:
            place = tmp_path / root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            seed = np.frombuffer(path.encode(), np.uint8)
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, (10, 10, 3), dtype=np.uint8)).save(place)
        return tmp_path / root

    return write
