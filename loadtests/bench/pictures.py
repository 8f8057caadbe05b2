"""What is sent: JPEGs drawn from a seed, the same for every server and every run."""

import io

import numpy as np
from PIL import Image

# The size that requests are compared at: 512 x 384, 48 KB. A field of colours with a camera's noise compresses about as a
# photo of that size does.
WIDTH, HEIGHT = 512, 384
QUALITY, NOISE, BLOTCHES = 80, 6.5, 16
COUNT = 8


def photo(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """An encoded JPEG of width x height pixels; about 0.25 bytes a pixel."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (max(2, height // BLOTCHES), max(2, width // BLOTCHES), 3), dtype=np.uint8)
    field = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    noise = random.standard_normal((height, width, 1), dtype=np.float32) * NOISE
    file = io.BytesIO()
    Image.fromarray(np.clip(field + noise, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def photos(count: int = COUNT, width: int = WIDTH, height: int = HEIGHT) -> list[bytes]:
    """Different pictures of one size."""
    return [photo(seed, width, height) for seed in range(count)]
