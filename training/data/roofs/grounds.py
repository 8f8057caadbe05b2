"""What lies around a generated building: lawn or paving, a road, cars, a pool, neighbours, trees, and what fell beside it."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from training.data.roofs.buildings import COVERINGS, Block, Site, View
from training.data.roofs.damage import Surface, paint_damage
from training.data.roofs.painting import NEAREST, Colour, Point, Rng, cloud, crown, dust, quad, shaded, tint

SOILS: tuple[tuple[Colour, Colour], ...] = (
    ((66, 88, 46), (124, 142, 80)),
    ((92, 102, 60), (158, 158, 102)),
    ((134, 120, 88), (190, 174, 138)),
    ((112, 112, 110), (152, 150, 146)),
    ((78, 96, 58), (140, 136, 98)),
)
CARS: tuple[Colour, ...] = ((196, 196, 198), (52, 54, 60), (146, 40, 38), (44, 70, 122), (118, 122, 126), (226, 226, 222))
LAWN: Colour = (120, 124, 92)
SHADOW = (26, 30, 44)
# How much of a shadow's colour covers what lies in it, of 255.
UMBRA = 146


@dataclass(frozen=True)
class Thing:
    """Something on the ground beside the building."""

    kind: str
    centre: Point
    size: float
    angle: float
    seed: int


@dataclass(frozen=True)
class Tree:
    """A tree or a bush. `variant` chooses its crown."""

    centre: Point
    diameter: float
    variant: int
    green: Colour


@dataclass(frozen=True)
class Grounds:
    """The surroundings of a site, in the order in which they are painted."""

    soil: int
    things: tuple[Thing, ...]
    trees: tuple[Tree, ...]


def plan_grounds(rng: Rng, site: Site) -> Grounds:
    """Draw what is around a building. Tarpaulins and debris lie there whether or not the roof is whole."""
    half_x, half_y = site.half
    road = rng.uniform(half_y + 0.14, 0.62) * float(rng.choice((-1, 1)))
    things = []

    def add(kind: str, centre: Point, size: float, angle: float = 0.0) -> None:
        things.append(Thing(kind, centre, size, angle, int(rng.integers(1 << 31))))

    if rng.random() < 0.45:
        add("road", (0, road), rng.uniform(0.14, 0.2))
    if rng.random() < 0.5:
        add(
            "path",
            (rng.uniform(-0.7, 0.7) * half_x, math.copysign(half_y, road)),
            rng.uniform(0.07, 0.14),
            math.copysign(1, road),
        )
    if rng.random() < 0.4:
        add("neighbour", _beside(rng, site, rng.uniform(0.42, 0.56)), rng.uniform(0.4, 0.6))
    for kind, chance, reach, low, high in (
        ("pool", 0.12, 0.15, 0.12, 0.2),
        ("car", 0.45, 0.1, 0.9, 1.1),
        ("shed", 0.25, 0.12, 0.1, 0.16),
        ("tarpaulin", 0.3, 0.13, 0.13, 0.24),
        ("debris", 0.3, 0.12, 0.13, 0.24),
        ("bush", 0.7, 0.06, 0.06, 0.1),
        ("bush", 0.5, 0.06, 0.06, 0.1),
    ):
        if rng.random() < chance:
            add(kind, _beside(rng, site, reach + rng.uniform(0, 0.08)), rng.uniform(low, high), rng.uniform(0, math.pi))
    trees = []
    for _ in range(rng.integers(1, 6)):
        diameter = rng.uniform(0.13, 0.30)
        green = (rng.uniform(58, 112), rng.uniform(92, 138), rng.uniform(42, 70))
        spot = _beside(rng, site, 0.42 * diameter + rng.uniform(0, 0.12))
        trees.append(Tree(spot, diameter, int(rng.integers(64)), green))
    return Grounds(int(rng.integers(len(SOILS))), tuple(things), tuple(trees))


def paint_ground(grounds: Grounds, site: Site, view: View, rng: Rng) -> Image.Image:
    """The picture without the building: (side, side) RGB with the shadows that building and trees throw on the ground."""
    small = view.side // 2
    dark, bright = SOILS[grounds.soil]
    soil = Image.blend(cloud(rng, (small, small), (4, 11, 37)), dust(rng, small), 0.22)
    canvas = tint(soil, dark, bright).resize((view.side, view.side), NEAREST)
    for thing in grounds.things:
        GROUND_PAINTERS[thing.kind](canvas, thing, view)
    shadows = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(shadows)
    for block in site.blocks:
        _throw(draw, _sweep(_box(block), view, site.height))
    for tree in grounds.trees:
        _throw(draw, _sweep(_disc(tree.centre, 0.42 * tree.diameter), view, 0.45 * tree.diameter))
    _darken(canvas, (0, 0), shadows)
    return canvas


def shade_roof(
    canvas: Image.Image, footprint: Image.Image, corner: tuple[int, int], grounds: Grounds, site: Site, view: View
) -> None:
    """Throw the trees' shadows on the roof, whose mask `footprint` lies at `corner` of the canvas.

    Only what of a tree rises over the eaves reaches it.
    """
    shadows = Image.new("L", footprint.size)
    draw = ImageDraw.Draw(shadows)
    for tree in grounds.trees:
        above = max(0.0, 0.5 * tree.diameter + 0.12 - site.height)
        foot = [
            (tree.centre[0] + x * f, tree.centre[1] + y * f)
            for (x, y), f in zip(_disc((0, 0), 0.5 * tree.diameter), _ragged(tree.variant), strict=True)
        ]
        _throw(draw, [[(x - corner[0], y - corner[1]) for x, y in part] for part in _sweep(foot, view, above)])
    _darken(canvas, corner, ImageChops.darker(shadows, footprint))


def paint_trees(canvas: Image.Image, mask: Image.Image | None, grounds: Grounds, view: View) -> None:
    """Put the crowns on top and take what they hide out of the mask."""
    for tree in grounds.trees:
        _paint_crown(canvas, mask, view, tree)


def _paint_crown(canvas: Image.Image, mask: Image.Image | None, view: View, tree: Tree) -> None:
    (x, y), radius = view.place([tree.centre])[0], tree.diameter * view.scale / 2
    if min(x, y) < -radius or max(x, y) > view.side + radius:
        return
    dark, bright = shaded(tree.green, 0.25), shaded(tree.green, 1.5)
    picture, outline = crown(tree.variant, round(2 * radius), view.sun, dark, bright)
    corner = (round(x - picture.width / 2), round(y - picture.height / 2))
    canvas.paste(picture, corner, outline)
    if mask is not None:
        mask.paste(0, corner, outline)


def _beside(rng: Rng, site: Site, gap: float) -> Point:
    """A point `gap` away from the rectangle around the building, on any side of it."""
    half_x, half_y = site.half
    if rng.random() < half_x / (half_x + half_y):
        return (rng.uniform(-half_x, half_x), float(rng.choice((-1, 1))) * (half_y + gap))
    return (float(rng.choice((-1, 1))) * (half_x + gap), rng.uniform(-half_y, half_y))


def _box(block: Block) -> list[Point]:
    return [(block.left, block.top), (block.right, block.top), (block.right, block.bottom), (block.left, block.bottom)]


def _disc(centre: Point, radius: float) -> list[Point]:
    angles = np.arange(12) * (2 * math.pi / 12)
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def _ragged(variant: int) -> list[float]:
    factors: list[float] = np.random.default_rng([13, variant]).uniform(0.75, 1.1, 12).tolist()
    return factors


def _sweep(foot: list[Point], view: View, height: float) -> list[list[Point]]:
    """The shadow of an upright prism on the canvas: its foot, its top moved away from the sun, and what is swept between."""
    dx, dy = view.shadow(height)
    near = view.place(foot)
    far = view.place([(x + dx, y + dy) for x, y in foot])
    turn = range(len(foot))
    return [near, far, *([near[i - 1], near[i], far[i], far[i - 1]] for i in turn)]


def _throw(draw: ImageDraw.ImageDraw, parts: list[list[Point]]) -> None:
    for part in parts:
        draw.polygon(part, fill=UMBRA)


def _darken(canvas: Image.Image, corner: tuple[int, int], shadows: Image.Image) -> None:
    """Lay shadows on the canvas. Pillow pastes an image twice as fast as a colour."""
    box = shadows.getbbox()
    if box is not None:
        part = shadows.crop(box)
        canvas.paste(Image.new("RGB", part.size, SHADOW), (corner[0] + box[0], corner[1] + box[1]), part)


def _paint_band(canvas: Image.Image, thing: Thing, view: View) -> None:
    draw, rng = ImageDraw.Draw(canvas), np.random.default_rng(thing.seed)
    if thing.kind == "path":
        x, y = thing.centre
        ends = [
            (x - thing.size / 2, y),
            (x + thing.size / 2, y),
            (x + thing.size / 2, y + thing.angle),
            (x - thing.size / 2, y + thing.angle),
        ]
        draw.polygon(view.place(ends), fill=shaded((168, 164, 156), rng.uniform(0.75, 1.1)))
        return
    middle = thing.centre[1]
    for width, colour in ((1.3, (162, 160, 154)), (1.0, (92, 92, 96))):
        reach = width * thing.size / 2
        draw.polygon(
            view.place([(-2, middle - reach), (2, middle - reach), (2, middle + reach), (-2, middle + reach)]), fill=colour
        )
    for x in np.arange(-1.5, 1.5, 0.14):
        draw.polygon(view.place(quad(rng, (float(x), middle), 0.07, 0.008, 0)), fill=(206, 204, 196))


def _paint_neighbour(canvas: Image.Image, thing: Thing, view: View) -> None:
    """A plain gable, house or shed: two slopes in two shades and a shadow."""
    draw, rng = ImageDraw.Draw(canvas), np.random.default_rng(thing.seed)
    palette = COVERINGS[str(rng.choice(list(COVERINGS)))]
    colour = palette[rng.integers(len(palette))]
    angle = thing.angle if thing.kind == "shed" else 0.0
    corners = quad(rng, thing.centre, thing.size, 0.8 * thing.size, angle)
    _throw_on(canvas, corners, view, 0.3 * thing.size if thing.kind == "shed" else 0.1)
    left, right = (((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in ((corners[0], corners[3]), (corners[1], corners[2])))
    for slope, turn in (
        ([corners[0], corners[1], right, left], -math.pi / 2),
        ([left, right, corners[2], corners[3]], math.pi / 2),
    ):
        light = 1 + 0.5 * view.contrast * math.cos(view.sun_on_site - angle - turn)
        draw.polygon(view.place(slope), fill=shaded(colour, light))
    draw.line(view.place([left, right]), fill=shaded(colour, 1.3), width=max(1, view.side // 150))


def _paint_car(canvas: Image.Image, thing: Thing, view: View) -> None:
    draw, rng = ImageDraw.Draw(canvas), np.random.default_rng(thing.seed)
    colour = CARS[rng.integers(len(CARS))]
    length, width = 0.15 * thing.size, 0.065 * thing.size
    body = quad(rng, thing.centre, length, width, thing.angle)
    _throw_on(canvas, body, view, 0.03)
    draw.polygon(view.place(body), fill=shaded(colour, 1))
    draw.polygon(view.place(quad(rng, thing.centre, 0.55 * length, 0.82 * width, thing.angle)), fill=(38, 44, 52))
    draw.polygon(view.place(quad(rng, thing.centre, 0.32 * length, 0.82 * width, thing.angle)), fill=shaded(colour, 1.08))


def _paint_pool(canvas: Image.Image, thing: Thing, view: View) -> None:
    draw, rng = ImageDraw.Draw(canvas), np.random.default_rng(thing.seed)
    for grow, colour in ((1.25, (206, 200, 188)), (1.0, (74, 168, 196))):
        draw.polygon(
            view.place(quad(rng, thing.centre, 1.4 * grow * thing.size, 0.8 * grow * thing.size, thing.angle)), fill=colour
        )


def _paint_fallen(canvas: Image.Image, thing: Thing, view: View) -> None:
    """The same tarpaulin or heap as on a damaged roof, on the ground."""
    dx, dy = view.shadow(0.012)
    surface = Surface(
        image=canvas,
        mask=Image.new("L", canvas.size),
        colour=LAWN,
        course=max(3, round(0.023 * view.side)),
        shade=(dx * view.scale, dy * view.scale),
    )
    rng = np.random.default_rng(thing.seed)
    paint_damage(thing.kind, surface, view.place([thing.centre])[0], thing.size * view.scale, rng)


def _paint_bush(canvas: Image.Image, thing: Thing, view: View) -> None:
    rng = np.random.default_rng(thing.seed)
    green = (rng.uniform(60, 110), rng.uniform(95, 135), rng.uniform(45, 70))
    _throw_on(canvas, _disc(thing.centre, 0.42 * thing.size), view, 0.4 * thing.size)
    _paint_crown(canvas, None, view, Tree(thing.centre, thing.size, int(rng.integers(64)), green))


def _throw_on(canvas: Image.Image, foot: list[Point], view: View, height: float) -> None:
    parts = _sweep(foot, view, height)
    points = [*parts[0], *parts[1]]
    left, top = (math.floor(min(point[axis] for point in points)) for axis in (0, 1))
    right, bottom = (math.ceil(max(point[axis] for point in points)) for axis in (0, 1))
    shadow = Image.new("L", (right - left + 1, bottom - top + 1))
    _throw(ImageDraw.Draw(shadow), [[(x - left, y - top) for x, y in part] for part in parts])
    _darken(canvas, (left, top), shadow)


GROUND_PAINTERS = {
    "road": _paint_band,
    "path": _paint_band,
    "neighbour": _paint_neighbour,
    "shed": _paint_neighbour,
    "pool": _paint_pool,
    "car": _paint_car,
    "tarpaulin": _paint_fallen,
    "debris": _paint_fallen,
    "bush": _paint_bush,
}
