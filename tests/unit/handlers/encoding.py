"""What the tests of decoding share: pictures as Pillow writes them, and how they are to be preprocessed."""

import io
from typing import Any

from PIL import Image

from handlers.spec import Preprocessing


def preprocessing(height: int = 8, width: int = 8, **values: Any) -> Preprocessing:
    return Preprocessing(height=height, width=width, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), **values)


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
