"""The paint box of the generated roofs: noise, outlines, roof coverings, tree crowns.

Everything is a pure function of its arguments and of the generator that it is given. Sizes are in pixels of the canvas.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, reduce

import numpy as np
from PIL import Image, ImageDraw

from handlers.arrays import Float32, UInt8

Rng = np.random.Generator
Colour = tuple[float, float, float]
Point = tuple[float, float]

BICUBIC = Image.Resampling.BICUBIC
BILINEAR = Image.Resampling.BILINEAR
NEAREST = Image.Resampling.NEAREST
RAMP = np.linspace(0, 1, 256)
CROWNS = 16
CROWN_SIDE = 128


def cloud(rng: Rng, size: tuple[int, int], cells: tuple[int, ...]) -> Image.Image:
    """Smooth noise, an "L" image of (width, height): one octave for each number of cells, each half as strong as the last."""
    # Drawn at half the size, since it is smooth: three times as fast.
    half = (max(2, size[0] // 2), max(2, size[1] // 2))
    octaves = [_octave(rng, half, count) for count in cells]
    return reduce(lambda coarse, fine: Image.blend(coarse, fine, 1 / 3), octaves).resize(size, BILINEAR)


def _octave(rng: Rng, size: tuple[int, int], count: int) -> Image.Image:
    rows, columns = (max(2, round(count * length / max(size))) for length in (size[1], size[0]))
    return Image.fromarray(rng.integers(0, 256, (rows, columns), dtype=np.uint8)).resize(size, BICUBIC)


@lru_cache(maxsize=2)
def _dust_sheet(side: int) -> UInt8:
    return np.random.default_rng(5).integers(60, 196, (side, side), dtype=np.uint8)


def dust(rng: Rng, side: int) -> Image.Image:
    """Fine uniform noise, an "L" image of (side, side): a random window of one fixed sheet."""
    row, column = rng.integers(0, 64, 2)
    return Image.fromarray(_dust_sheet(side + 64)[row : row + side, column : column + side])


@lru_cache(maxsize=2)
def _grain_tile(side: int) -> Float32:
    return np.random.default_rng(7).standard_normal((side, side, 3), dtype=np.float32)


def grain(rng: Rng, side: int) -> Float32:
    """Sensor noise, (side, side, 3) float32 of unit variance: a random window of one fixed sheet, since drawing it is dear."""
    sheet = side + 64
    row, column = rng.integers(0, 64, 2)
    window: Float32 = _grain_tile(sheet)[row : row + side, column : column + side]
    return window


def tint(shades: Image.Image, dark: Colour, bright: Colour) -> Image.Image:
    """Colour an "L" image: 0 becomes `dark`, 255 `bright`."""
    table = np.clip(np.outer(dark, 1 - RAMP) + np.outer(bright, RAMP), 0, 255).astype(np.uint8)
    return Image.merge("RGB", [shades.point(row) for row in table.tolist()])


def shaded(colour: Colour, factor: float) -> tuple[int, int, int]:
    """A colour times a brightness, as Pillow draws it."""
    red, green, blue = (int(min(255, max(0, channel * factor))) for channel in colour)
    return red, green, blue


def distance(one: Colour, other: Colour) -> float:
    """Euclidean distance of two RGB colours."""
    return math.dist(one, other)


def outline(rng: Rng, centre: Point, radius: float, corners: int, jitter: float) -> list[Point]:
    """An irregular closed outline; `jitter` is the share by which a corner may lie nearer to the centre."""
    angles = (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * (2 * math.pi / corners)
    reach = radius * (1 - jitter * rng.random(corners))
    return [(centre[0] + r * math.cos(a), centre[1] + r * math.sin(a)) for r, a in zip(reach, angles, strict=True)]


def quad(rng: Rng, centre: Point, length: float, width: float, angle: float, jitter: float = 0.0) -> list[Point]:
    """A rectangle of (length, width) turned by `angle` radians, its corners moved by up to `jitter` of the sides."""
    moves = rng.uniform(-jitter, jitter, (4, 2)) if jitter else np.zeros((4, 2))
    cos, sin = math.cos(angle), math.sin(angle)
    points = []
    for (across, along), (dx, dy) in zip(((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)), moves, strict=True):
        x, y = (across + dx) * length, (along + dy) * width
        points.append((centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y))
    return points


def stencil(points: Sequence[Point]) -> tuple[tuple[int, int], Image.Image]:
    """A polygon as a mask of its own bounding box: its (left, top) and an "L" image of 0 and 255."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, top = math.floor(min(xs)), math.floor(min(ys))
    mask = Image.new("L", (math.ceil(max(xs)) - left + 1, math.ceil(max(ys)) - top + 1))
    ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in points], fill=255)
    return (left, top), mask


@lru_cache(maxsize=16)
def covering(kind: str, course: int, side: int) -> Float32:
    """A roof covering seen from above, (side, side) float32 brightness around 1, eaves towards +y, rows `course` pixels high."""
    rng = np.random.default_rng([course, side, sum(kind.encode())])
    v, u = np.arange(side), np.arange(side)
    row = v // course
    rise = (v % course) / course
    if kind == "metal":
        return _metal(rng, course, side)
    if kind == "membrane":
        return _membrane(rng, course, side)
    width = {"pantile": course, "shingle": 2 * course, "slate": round(1.2 * course)}[kind]
    column = (u[None, :] + (row[:, None] % 2) * (width // 2)) // width
    spread = {"pantile": 0.07, "shingle": 0.10, "slate": 0.13}[kind]
    tints = 1 + spread * rng.uniform(-1, 1, (row.max() + 1, column.max() + 1))
    sheet = tints[row[:, None], column]
    edge = np.where(rise > 1 - max(0.22, 1.01 / course), 0.62, 0.93 + 0.16 * rise)
    sheet = sheet * edge[:, None]
    if kind == "pantile":
        sheet = sheet * (1 + 0.15 * np.cos(2 * math.pi * u / width))[None, :]
    else:
        joint = (u[None, :] + (row[:, None] % 2) * (width // 2)) % width < max(1, width // 10)
        sheet = np.where(joint, sheet * 0.8, sheet)
    result: Float32 = sheet.astype(np.float32)
    return result


def _metal(rng: Rng, course: int, side: int) -> Float32:
    pitch = max(4, round(1.9 * course))
    panel = 1 + 0.03 * rng.uniform(-1, 1, side // pitch + 1)
    u = np.arange(side)
    line = panel[u // pitch]
    seam = max(1, pitch // 9)
    line = np.where(u % pitch < seam, 1.22, np.where(u % pitch < 2 * seam, 0.68, line))
    return np.broadcast_to(line.astype(np.float32), (side, side))


def _membrane(rng: Rng, course: int, side: int) -> Float32:
    pitch = 5 * course
    sheet = 1 + 0.03 * rng.standard_normal((side, side), dtype=np.float32)
    row = np.arange(side) // pitch
    sheet = sheet * (1 + 0.04 * rng.uniform(-1, 1, row.max() + 1))[row][:, None]
    sheet[np.arange(side) % pitch < max(1, course // 5)] *= 0.82
    result: Float32 = sheet.astype(np.float32)
    return result


@lru_cache(maxsize=CROWNS)
def _crown(variant: int) -> tuple[Image.Image, Image.Image]:
    rng = np.random.default_rng([11, variant])
    side = CROWN_SIDE
    axis = (np.arange(side) - (side - 1) / 2) / (side / 2)
    x, y = axis[None, :], axis[:, None]
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    rim = 0.86 + sum(rng.uniform(-0.05, 0.05) * np.cos(n * angle + rng.uniform(0, 2 * math.pi)) for n in range(2, 8))
    leaves = np.asarray(cloud(rng, (side, side), (9, 20, 40)), np.float32) / 255 - 0.5
    inside = radius < rim + 0.35 * leaves
    # Lit from -x: turning the stamp turns its sun.
    dome = np.sqrt(np.clip(1 - (radius / rim) ** 2, 0, 1))
    light = 0.42 + 0.22 * dome - 0.28 * x + 0.75 * leaves
    shades = Image.fromarray((np.clip(light, 0, 1) * 255).astype(np.uint8))
    return shades, Image.fromarray((inside * 255).astype(np.uint8))


def crown(variant: int, diameter: int, sun: float, dark: Colour, bright: Colour) -> tuple[Image.Image, Image.Image]:
    """A tree's crown from above, (RGB, mask), lit from the direction `sun` (radians, image axes, towards the sun)."""
    shades, mask = _crown(variant % CROWNS)
    # Pillow turns counter-clockwise as seen, image axes turn clockwise.
    turn = -math.degrees(sun - math.pi)
    size = (max(2, diameter), max(2, diameter))
    shades, mask = (image.resize(size, BILINEAR).rotate(turn) for image in (shades, mask))
    return tint(shades, dark, bright), mask
