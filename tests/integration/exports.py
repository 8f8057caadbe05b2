"""A small network and pictures of noise; and exports that are each made once, as a conversion takes seconds."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handlers.arrays import UInt8
from handlers.backends import WEIGHTS
from handlers.spec import Spec
from training.data.manifest import Sample
from training.packing import export


def write_noise(folder: Path, spec: Spec, images: int = 4, seed: int = 1) -> list[Sample]:
    """Pictures of noise of the network's size, to calibrate with, their labels in turn."""
    rng, size = np.random.default_rng(seed), (spec.preprocessing.height, spec.preprocessing.width, 3)
    return [
        write_picture(folder, f"{n}.png", rng.integers(0, 256, size, dtype=np.uint8), spec.labels[n % len(spec.labels)])
        for n in range(images)
    ]


def write_picture(folder: Path, name: str, pixels: "np.ndarray[Any, Any]", label: str, split: Any = "calibration") -> Sample:
    """Write `folder`/`name` and list it as a manifest does."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    return Sample(name, len(content), hashlib.sha256(content).hexdigest(), label, split)


class Exports:
    """`convert` and `convert_int8` of `training.packing.export`, giving again what they made of the same weights and pictures.

    Nor is a network traced twice, which takes most of the time: 20 s of the 30 that ViT-Tiny takes in 8 bits. That the same
    weights make the same is test_export's to show.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Any] = {}
        # What a test puts in their place is its own.
        self._convert, self._convert_int8, self._translate = export.convert, export.convert_int8, export._translate

    def convert(self, run: Path, spec: Spec) -> export.Graph:
        """In single precision."""
        return self._once("single precision", run, spec, (), lambda: self._convert(run, spec))

    def convert_int8(self, run: Path, spec: Spec, pictures: Sequence[UInt8]) -> export.Graph:
        """In 8 bits."""
        shown = hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()
        return self._once("8 bits", run, spec, (shown,), lambda: self._convert_int8(run, spec, pictures))

    def _once(self, kind: str, run: Path, spec: Spec, more: Sequence[str], make: Callable[[], Any]) -> Any:
        weights = hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()
        key = (kind, weights, spec.model_copy(update={"backend": "torch"}).model_dump_json(), *more)
        if key not in self._made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(export, "_translate", self._translate_once)
                self._made[key] = make()
        return self._made[key]

    def _translate_once(self, run: Path, spec: Spec) -> Any:
        return self._once("traced", run, spec, (), lambda: self._translate(run, spec)).clone()
