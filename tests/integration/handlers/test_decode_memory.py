"""What costs too much memory is refused, and what does not keeps to the budget; in a process with a limit of its own."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from handlers.spec import Limits
from tests.unit.handlers import crafted, crafted_heic
from tests.unit.handlers.crafted import (
    DEFLATE,
    FINDING,
    GREY,
    GREY_ALPHA,
    JPEG,
    LZMA,
    PALETTE,
    RGB,
    RGBA,
    SEE_THROUGH,
    TURNED,
    ZSTD,
    strip,
    strips,
)

LIMITS = Limits()
PROBE = Path(__file__).with_name("memory_probe.py")
REFUSED_MIB, DECODED_MIB = 16, 256
MILLION = 1_000_000


SAMPLES = Path(__file__).parents[2] / "heic"
LARGE_TILE = crafted_heic.config(crafted_heic.parameters(1 << 14, 1 << 14))


def hevc(width: int, height: int, *depth: int) -> bytes:
    config = crafted_heic.config(crafted_heic.parameters(width, height, *depth))
    return crafted_heic.heic([crafted_heic.tile(config, width=width, height=height)])


def tiles(side: int) -> bytes:
    """A grid of so many times as many tiles of 512 x 512."""
    data = (SAMPLES / "tile-512.heic").read_bytes()
    config, stream = (crafted_heic.content_of(data, kind) for kind in (b"hvcC", b"mdat"))
    one = crafted_heic.tile(config, stream, 512, 512)
    return crafted_heic.heic([crafted_heic.grid(side, side, 512 * side, 512 * side), *[one] * side * side])


TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "PNG, 1,000,000 x 1": lambda: crafted.png((MILLION, 1), RGB),
    "PNG, 1 x 1,000,000": lambda: crafted.png((1, MILLION), RGB),
    "PNG, 4,000,000 x 1": lambda: crafted.png((4 * MILLION, 1), RGB),
    "PNG, 49,000,000 x 1": lambda: crafted.png((49 * MILLION, 1), RGB),
    "PNG, 1 x 49,000,000": lambda: crafted.png((1, 49 * MILLION), RGB),
    "TIFF, 1,000,000 x 1": lambda: crafted.tiff((MILLION, 1), crafted.deflate(3 * MILLION), DEFLATE),
    "TIFF, 1 x 1,000,000": lambda: crafted.tiff((1, MILLION), crafted.deflate(3 * MILLION), DEFLATE),
    "BMP, 1,000,000 x 1": lambda: crafted.bmp((MILLION, 1)),
    "BMP, 1 x 1,000,000": lambda: crafted.bmp((1, MILLION)),
    "WebP of 34 bytes": lambda: FINDING,
    "TIFF, RGBA, zstd": lambda: strip((7000, 7000), crafted.zstd, ZSTD, 4),
    "HEIC, 48 megapixels": lambda: hevc(8000, 6000),
    "HEIC, 10 bits at full resolution": lambda: hevc(5000, 5000, 3, 10),
    "HEIC of 16 x 16 in a tile": lambda: crafted_heic.heic([crafted_heic.tile(LARGE_TILE, width=16, height=16)]),
    "TIFF, RGBA, LZMA": lambda: strip((7000, 7000), crafted.xz, LZMA, 4),
    "TIFF, RGB, one strip": lambda: strip((7000, 7000), crafted.deflate, DEFLATE),
    "TIFF, CMYK": lambda: strips((7000, 7000), crafted.deflate, DEFLATE, 4, photometric=5),
    "TIFF, 16 bits": lambda: strips((7000, 7000), crafted.deflate, DEFLATE, 1, bits=16, photometric=1),
    "TIFF, turned": lambda: strips((7000, 7000), crafted.deflate, DEFLATE, more=[(274, 3, 6)]),
    "TIFF, YCbCr in a JPEG": lambda: crafted.tiff(
        (6900, 6900), crafted.jpeg((6900, 6900), progressive=True, one_scan=False), JPEG, photometric=6
    ),
    "TIFF of 16 x 16 in a tile": lambda: crafted.tiff((16, 16), crafted.deflate(3 << 28), DEFLATE, tile=(1 << 14, 1 << 14)),
    "PNG, RGBA, 16 bits, interlaced": lambda: crafted.png((7000, 7000), RGBA, 16, interlaced=True),
    "PNG, grey and alpha": lambda: crafted.png((7000, 7000), GREY_ALPHA),
    "PNG, grey, 16 bits": lambda: crafted.png((7000, 7000), GREY, 16),
    "JPEG, progressive": lambda: crafted.jpeg((7000, 7000), progressive=True, one_scan=False),
    "JPEG, several scans": lambda: crafted.jpeg((7000, 7000), one_scan=False),
    "JPEG, CMYK, progressive": lambda: crafted.jpeg((7000, 7000), 4, progressive=True, one_scan=False),
}
GOOD: dict[str, Callable[[], bytes]] = {
    "PNG, 499,999 x 100": lambda: crafted.png((499_999, 100), RGB),
    "PNG, 100 x 499,999": lambda: crafted.png((100, 499_999), RGB),
    "WebP, 16,383 x 1": lambda: crafted.webp((16_383, 1)),
    "WebP, 1 x 16,383": lambda: crafted.webp((1, 16_383)),
    "JPEG, 65,500 x 760": lambda: crafted.jpeg((65_500, 760)),
    "JPEG, 760 x 65,500": lambda: crafted.jpeg((760, 65_500)),
    "PNG, 48 megapixels": lambda: crafted.png((8000, 6000), RGB),
    "PNG, 48 megapixels, turned": lambda: crafted.png((8000, 6000), RGB, after=TURNED),
    "PNG, 48 megapixels, transparency said late": lambda: crafted.png((8000, 6000), RGB, after=crafted.chunk(b"tRNS", bytes(6))),
    "PNG, grey": lambda: crafted.png((7000, 7000), GREY),
    "PNG, palette, transparent": lambda: crafted.png((7000, 7000), PALETTE, before=SEE_THROUGH),
    "PNG, RGBA, 16 bits, interlaced, 30 megapixels": lambda: crafted.png((5500, 5500), RGBA, 16, interlaced=True),
    "BMP in runs": lambda: crafted.bmp((1400, 1400), runs=True),
    "PNG, 63 texts": lambda: crafted.png((8000, 6000), RGB, before=63 * crafted.text()),
    "HEIC, 27 megapixels": lambda: (SAMPLES / "large.heic").read_bytes(),
    "HEIC, 27 megapixels, transparent": lambda: (SAMPLES / "large-clear.heic").read_bytes(),
    "HEIC, 16 megapixels of 10 bits at full resolution": lambda: (SAMPLES / "large-deep.heic").read_bytes(),
    "HEIC, 26 megapixels in tiles": lambda: tiles(10),
    "WebP, a phone's 12 megapixels": lambda: crafted.webp((4032, 3024)),
    "WebP, 15.6 megapixels": lambda: crafted.webp((15_600, 1000)),
    "JPEG, 50 megapixels": lambda: crafted.jpeg((8660, 5770)),
    "JPEG, 50 megapixels, progressive": lambda: crafted.jpeg((8660, 5770), progressive=True, one_scan=False, luma=0x22),
    "JPEG, CMYK, progressive, 30 megapixels": lambda: crafted.jpeg((5500, 5500), 4, progressive=True, one_scan=False),
    "TIFF, RGB, strips": lambda: strips((7000, 7000), crafted.deflate, DEFLATE),
    "TIFF, RGB, turned, 30 megapixels": lambda: strips((5500, 5500), crafted.deflate, DEFLATE, more=[(274, 3, 6)]),
    "TIFF, RGBA, zstd, 20 megapixels": lambda: strip((4500, 4500), crafted.zstd, ZSTD, 4),
}
LARGEST = [
    "HEIC, 16 megapixels of 10 bits at full resolution",
    "PNG, palette, transparent",
    "PNG, RGBA, 16 bits, interlaced, 30 megapixels",
    "WebP, 15.6 megapixels",
    "JPEG, CMYK, progressive, 30 megapixels",
    "TIFF, RGB, turned, 30 megapixels",
]
"""The ones nearest to the budget, which the process's limit leaves room for."""
# Long and narrow: what is between two passes of the resizer is as large as its wrong side, 2 GB at the larger network.
LONG = [(100, 499_999), (333, 150_000), (1000, 50_000)]
NARROW: dict[str, Callable[[tuple[int, int]], bytes]] = {
    "grey": lambda size: crafted.png(size, GREY),
    "palette": lambda size: crafted.png(size, PALETTE, before=SEE_THROUGH[: 12 + 3 * 256]),
    "1 bit": lambda size: crafted.png(size, GREY, 1),
    "turned": lambda size: crafted.png(size, GREY, after=TURNED),
}
LONG_GOOD = {
    f"{name}, {size[0]} x {size[1]}": partial(make, size)
    for name, make in NARROW.items()
    for size in [*LONG, *((height, width) for width, height in LONG)]
}
PIXELS = {"pixels, 1 x 2,000,000": [1, 2 * MILLION], "pixels, 2,000,000 x 1": [2 * MILLION, 1]}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each picture took, in one process with a limit on its memory."""
    folder = tmp_path_factory.mktemp("pictures")
    cases: list[dict[str, Any]] = []
    for name, make in {**TOO_LARGE, **GOOD}.items():
        file = folder / str(len(cases))
        file.write_bytes(make())
        cases.append({"name": name, "file": file.name, "side": 224})
    # The other network's size, and the middle instead of the whole.
    cases.append({**next(case for case in cases if case["name"] == "PNG, 499,999 x 100"), "name": "side 1024", "side": 1024})
    cases.append({**cases[-1], "name": "crop", "side": 224, "fit": "crop", "resize": 256})
    for name, make in LONG_GOOD.items():
        file = folder / str(len(cases))
        file.write_bytes(make())
        cases += [{"name": f"{name}, side {side}", "file": file.name, "side": side} for side in (224, 1024)]
    (folder / "groups").write_bytes(crafted.webp_groups())
    cases.append({"name": "unforeseen", "file": "groups", "side": 224, "alone": True})
    cases.append({**cases[0], "name": "next", "file": str(len(TOO_LARGE)), "alone": True})
    cases += [{**case, "name": f"{case['name']}, alone", "alone": True} for case in cases if case["name"] in LARGEST]
    cases += [{"name": name, "pixels": shape, "side": 224} for name, shape in PIXELS.items()]
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run(
        [sys.executable, PROBE, folder], capture_output=True, text=True, check=False, env={**os.environ, "RAYON_NUM_THREADS": "1"}
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(cases), f"ended at {cases[len(results)]['name']}: {done.stderr[-500:]}"
    return {case["name"]: result for case, result in zip(cases, results, strict=True)}


@pytest.mark.parametrize("name", [*TOO_LARGE, *PIXELS])
def test_a_picture_that_costs_too_much_is_refused_from_its_header(found: dict[str, dict[str, Any]], name: str) -> None:
    assert found[name].get("error", "").startswith("ImageTooLarge image.too_large: ")
    assert found[name]["peak_mib"] < REFUSED_MIB


@pytest.mark.parametrize(
    "name", [*GOOD, "side 1024", "crop", *(f"{name}, side {side}" for name in LONG_GOOD for side in (224, 1024))]
)
def test_a_picture_within_the_limits_is_decoded_within_the_budget(found: dict[str, dict[str, Any]], name: str) -> None:
    assert "error" not in found[name]
    assert found[name]["peak_mib"] < DECODED_MIB


def test_what_no_estimate_foresees_ends_at_the_process_s_limit(found: dict[str, dict[str, Any]]) -> None:
    assert found["unforeseen"].get("error", "").startswith("Image")
    assert found["unforeseen"]["peak_mib"] < DECODED_MIB
    assert "error" not in found["next"]
    assert found["unforeseen"]["limit"] == found["next"]["limit"] == list(resource.getrlimit(resource.RLIMIT_DATA))


@pytest.mark.parametrize("name", LARGEST)
def test_the_process_s_limit_has_room_for_what_the_budget_allows(found: dict[str, dict[str, Any]], name: str) -> None:
    assert found[f"{name}, alone"].get("digest") == found[name]["digest"]
