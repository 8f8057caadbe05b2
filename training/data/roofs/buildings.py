"""A generated building and its surroundings: what stands where, and its roof seen from straight above.

Lengths are fractions of the picture's side, in the site's own axes: the origin is the building's centre, x runs along the
building. One `Site` is seen by several `View`s, each with its own heading, light and camera.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from handlers.arrays import Float32, UInt8
from training.data.roofs.painting import Colour, Point, Rng, cloud, covering, shaded
from training.data.roofs.roof_fixtures import FIXTURES, Fixture, paint_fixture

SHAPES = ("gable", "hip", "flat", "l-shaped")
COVERINGS: dict[str, tuple[Colour, ...]] = {
    "pantile": ((176, 92, 62), (156, 74, 54), (188, 112, 78), (120, 66, 54), (112, 104, 98)),
    "shingle": ((92, 90, 92), (122, 108, 94), (74, 78, 86), (132, 122, 112), (104, 84, 74)),
    "slate": ((86, 92, 102), (104, 108, 114), (72, 74, 80), (112, 100, 98)),
    "metal": ((128, 142, 150), (146, 148, 148), (86, 112, 104), (132, 66, 58), (76, 92, 118), (170, 166, 158)),
    "membrane": ((168, 166, 160), (138, 136, 132), (112, 112, 112), (186, 182, 172)),
}
PITCH = math.radians(32)
FIXTURE_GAP = 0.16


@dataclass(frozen=True)
class Block:
    """A rectangle under one ridge. `along`: the ridge's axis; `hipped`: its ends slope too."""

    left: float
    top: float
    right: float
    bottom: float
    along: str
    hipped: bool

    @property
    def centre(self) -> Point:
        """The middle."""
        return ((self.left + self.right) / 2, (self.top + self.bottom) / 2)

    @property
    def size(self) -> Point:
        """Width and height."""
        return (self.right - self.left, self.bottom - self.top)


@dataclass(frozen=True)
class Site:
    """A building: its blocks, covering, colour, height and what lies on its roof. Surroundings are in `grounds`."""

    shape: str
    blocks: tuple[Block, ...]
    covering: str
    colour: Colour
    course: float
    height: float
    weather: int
    fixtures: tuple[Fixture, ...]

    @property
    def half(self) -> Point:
        """Half the width and half the height of the rectangle around all blocks."""
        return (max(b.right for b in self.blocks), max(b.bottom for b in self.blocks))


@dataclass(frozen=True)
class View:
    """A camera over the site. `side`: the canvas's, in pixels; `scale`: pixels for a length of 1; `heading` and `sun` in
    radians; `sun` is where the light comes from in the picture's axes, `slant` the length of a shadow for a height of 1."""

    side: int
    scale: float
    heading: float
    centre: Point
    sun: float
    slant: float
    contrast: float

    def place(self, points: list[Point]) -> list[Point]:
        """Site's axes → the picture's pixels."""
        cos, sin = math.cos(self.heading) * self.scale, math.sin(self.heading) * self.scale
        return [(self.centre[0] + cos * x - sin * y, self.centre[1] + sin * x + cos * y) for x, y in points]

    @property
    def sun_on_site(self) -> float:
        """Where the light comes from in the site's axes, radians."""
        return self.sun - self.heading

    def shadow(self, height: float) -> Point:
        """How far, in the site's axes, a point of this height throws its shadow."""
        reach = height * self.slant
        return (-reach * math.cos(self.sun_on_site), -reach * math.sin(self.sun_on_site))


def plan_site(rng: Rng) -> Site:
    """Draw a building."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    width, depth = rng.uniform(0.58, 0.80), rng.uniform(0.42, 0.58)
    blocks = _blocks(rng, shape, width, depth)
    choices = ("membrane", "membrane", "metal") if shape == "flat" else ("pantile", "pantile", "shingle", "slate", "metal")
    cover = choices[rng.integers(len(choices))]
    palette = COVERINGS[cover]
    base = palette[rng.integers(len(palette))]
    tones = rng.normal(1, 0.08) * rng.normal(1, 0.025, 3)
    red, green, blue = (float(channel * tone) for channel, tone in zip(base, tones, strict=True))
    return Site(
        shape=shape,
        blocks=blocks,
        covering=cover,
        colour=(red, green, blue),
        course=float(rng.choice((0.019, 0.023, 0.027))),
        height=rng.uniform(0.07, 0.14),
        weather=int(rng.integers(1 << 31)),
        fixtures=_fixtures(rng, blocks, shape),
    )


def paint_roof(site: Site, view: View) -> tuple[Image.Image, Image.Image]:
    """The roof in the site's axes at the view's scale, whole: its RGB image and its footprint as a mask of the same size."""
    half = site.half
    width, height = round(2 * half[0] * view.scale), round(2 * half[1] * view.scale)
    facet, footprint = _facets(site, view.scale, width, height)
    course = max(3, round(site.course * view.side))
    sheet = covering(site.covering, course, math.ceil(0.92 * view.side))
    rng = np.random.default_rng(site.weather)
    pattern = _laid(sheet, facet, rng, course)
    brightness = np.array(_facet_light(site, view), np.float32)[facet]
    weather = np.asarray(cloud(rng, (width, height), (3, 9, 30)), np.float32)
    pattern = pattern * brightness * (0.86 + 0.28 / 255 * weather)
    _cap_ridges(pattern, facet, course)
    pixels = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        np.clip(pattern * np.float32(site.colour[channel]), 0, 255, out=pixels[..., channel], casting="unsafe")
    image = Image.fromarray(pixels)
    _edge(image, site, view)
    for fixture in site.fixtures:
        at = on_roof(site, view, fixture.centre)
        paint_fixture(image, fixture, at, fixture.size * view.side, site.colour, view.shadow(1))
    return image, footprint


def on_roof(site: Site, view: View, point: Point) -> Point:
    """Site's axes → pixels of the roof's own image."""
    return ((point[0] + site.half[0]) * view.scale, (point[1] + site.half[1]) * view.scale)


def _blocks(rng: Rng, shape: str, width: float, depth: float) -> tuple[Block, ...]:
    x, y = width / 2, depth / 2
    if shape == "flat":
        if rng.random() < 0.4:
            notch = rng.uniform(0.3, 0.5) * width
            return (Block(-x, -y, x, rng.uniform(-0.05, 0.05), "x", False), Block(-x, -y, -x + width - notch, y, "x", False))
        return (Block(-x, -y, x, y, "x", False),)
    if shape != "l-shaped":
        return (Block(-x, -y, x, y, "x", shape == "hip"),)
    y = rng.uniform(0.30, 0.36)
    hipped = bool(rng.random() < 0.5)
    main = Block(-x, -y, x, -y + rng.uniform(0.30, 0.36), "x", hipped)
    wing = rng.uniform(0.26, 0.32)
    left = rng.choice((-x, x - wing, rng.uniform(-x + 0.05, x - wing - 0.05)))
    return (main, Block(float(left), main.centre[1], float(left) + wing, y, "y", hipped))


def _fixtures(rng: Rng, blocks: tuple[Block, ...], shape: str) -> tuple[Fixture, ...]:
    fixtures: list[Fixture] = []
    for kind in rng.choice(FIXTURES, int(rng.integers(1, 5)), p=(0.2, 0.16, 0.14, 0.16, 0.12, 0.1, 0.12)):
        block = blocks[rng.integers(len(blocks))]
        (cx, cy), (width, height) = block.centre, block.size
        reach = 0.12 if kind == "solar" and shape != "flat" else 0.34
        x = cx + rng.uniform(-reach, reach) * width
        y = cy + (rng.choice((-0.25, 0.25)) + rng.uniform(-0.06, 0.06)) * height
        size, seed = rng.uniform(0.7, 1.3), int(rng.integers(1 << 31))
        if all(math.dist((x, y), other.centre) > FIXTURE_GAP for other in fixtures):
            fixtures.append(Fixture(str(kind), (float(x), float(y)), size, seed))
    return tuple(fixtures)


def _facets(site: Site, scale: float, width: int, height: int) -> tuple[UInt8, Image.Image]:
    x = (np.arange(width, dtype=np.float32) + 0.5) / scale - site.half[0]
    y = (np.arange(height, dtype=np.float32) + 0.5) / scale - site.half[1]
    facet = np.zeros((height, width), np.uint8)
    top = np.full((height, width), -1, np.float32)
    footprint = Image.new("L", (width, height))
    draw = ImageDraw.Draw(footprint)
    for block in site.blocks:
        dy, ys = _nearer(y - block.top, block.bottom - y, 0)
        dx, xs = _nearer(x - block.left, block.right - x, 2)
        inside = (dy >= 0)[:, None] & (dx >= 0)[None, :]
        if block.along == "y":
            # A wing: its inner end runs under the main roof and has no slope of its own.
            dy, ys = block.bottom - y, np.ones_like(ys)
        gable = np.broadcast_to(dy[:, None] if block.along == "x" else dx[None, :], facet.shape)
        rise = np.minimum(dy[:, None], dx[None, :]) if block.hipped else gable
        faces_y = dy[:, None] <= dx[None, :] if block.hipped else np.full(facet.shape, block.along == "x")
        mine = np.where(faces_y, ys[:, None], xs[None, :])
        rise = np.where(inside, rise, -1)
        higher = rise > top
        facet = np.where(higher, mine, facet)
        top = np.where(higher, rise, top)
        left_top = ((block.left + site.half[0]) * scale, (block.top + site.half[1]) * scale)
        right_bottom = ((block.right + site.half[0]) * scale - 1, (block.bottom + site.half[1]) * scale - 1)
        draw.rectangle((left_top, right_bottom), fill=255)
    return (np.zeros_like(facet) + np.uint8(1) if site.shape == "flat" else facet), footprint


def _nearer(low: Float32, high: Float32, first: int) -> tuple[Float32, UInt8]:
    """The distance to the nearer of two opposite eaves, and its facet: `first` or the one after it."""
    return np.minimum(low, high), np.where(low <= high, first, first + 1).astype(np.uint8)


def _laid(sheet: Float32, facet: UInt8, rng: Rng, course: int) -> Float32:
    """The covering laid on every facet with its rows along the eaves; facets: 0 faces -y, 1 +y, 2 -x, 3 +x."""
    height, width = facet.shape
    row, column = rng.integers(0, 3, 2) * course
    plus_y = sheet[row : row + height, column : column + width]
    pattern = np.where(facet == 0, plus_y[::-1], plus_y)
    if facet.max() > 1:
        plus_x = sheet[row : row + width, column : column + height].T
        pattern = np.where(facet == 2, plus_x[:, ::-1], np.where(facet == 3, plus_x, pattern))
    return pattern


def _facet_light(site: Site, view: View) -> Float32:
    """Lambert's cosine law on the four slopes, (4,) around 1."""
    pitch = 0.0 if site.shape == "flat" else PITCH
    elevation = math.atan2(1, view.slant)
    sun = (
        math.cos(elevation) * math.cos(view.sun_on_site),
        math.cos(elevation) * math.sin(view.sun_on_site),
        math.sin(elevation),
    )
    slopes = ((0, -1), (0, 1), (-1, 0), (1, 0))
    cosine = [math.sin(pitch) * (x * sun[0] + y * sun[1]) + math.cos(pitch) * sun[2] for x, y in slopes]
    return np.array([1 - view.contrast + view.contrast * max(0.0, c) / 0.75 for c in cosine], np.float32)


def _cap_ridges(pattern: Float32, facet: UInt8, course: int) -> None:
    """Ridge and hip caps: a pale line with a dark rim where two facets meet."""
    wide, slim = max(2, course // 2), max(1, course // 4)
    for reach, factor in ((wide, 0.72), (slim, 1.22)):
        line = np.zeros(facet.shape, bool)
        line[reach:-reach] |= facet[2 * reach :] != facet[: -2 * reach]
        line[:, reach:-reach] |= facet[:, 2 * reach :] != facet[:, : -2 * reach]
        pattern[line] *= factor


def _edge(image: Image.Image, site: Site, view: View) -> None:
    """Gutters along the eaves; a parapet with its shadow around a flat roof."""
    draw = ImageDraw.Draw(image)
    flat = site.shape == "flat"
    width = max(2, round((0.016 if flat else 0.007) * view.side))
    corners = _corners(site)
    line = [on_roof(site, view, corner) for corner in [*corners, corners[0]]]
    if flat:
        dx, dy = (offset * view.scale for offset in view.shadow(0.012))
        draw.line([(x + dx, y + dy) for x, y in line], fill=shaded(site.colour, 0.55), width=width + 2)
    draw.line(line, fill=shaded(site.colour, 1.25 if flat else 0.7), width=2 * width)


def _corners(site: Site) -> list[Point]:
    """The footprint's outline. Two blocks share an edge or overlap as L or T."""
    main = site.blocks[0]
    box = [(main.left, main.top), (main.right, main.top), (main.right, main.bottom), (main.left, main.bottom)]
    if len(site.blocks) == 1:
        return box
    wing = site.blocks[1]
    foot = [(wing.right, main.bottom), (wing.right, wing.bottom), (wing.left, wing.bottom), (wing.left, main.bottom)]
    return [*box[:3], *foot, box[3]]
