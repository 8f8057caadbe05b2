"""What breaks on a roof, painted over it together with its mask: missing tiles, a tarpaulin, a hole, debris.

The tarpaulin and the debris also lie on the ground beside whole buildings, so that neither a colour nor an object decides.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.data.roofs.painting import Colour, Point, Rng, cloud, distance, outline, quad, shaded, stencil, tint

KINDS = ("missing tiles", "tarpaulin", "hole", "debris")
TARPAULINS: tuple[Colour, ...] = ((44, 92, 176), (32, 120, 168), (58, 118, 70), (206, 204, 198), (196, 128, 52), (70, 74, 80))
UNDERLAYS: tuple[Colour, ...] = ((58, 52, 48), (150, 118, 82), (196, 184, 160), (90, 70, 52))
WOOD: Colour = (158, 126, 88)
CONTRAST = 62.0
"""The least distance in RGB between a damage's main colour and the roof around it: less is no longer seen at 192 pixels."""


@dataclass(frozen=True)
class Surface:
    """What is painted on. `image` RGB and `mask` L are changed in place; `colour`: of what lies around; `course`: height of a
    row of tiles in pixels; `shade`: offset in pixels of the shadow of something low."""

    image: Image.Image
    mask: Image.Image
    colour: Colour
    course: int
    shade: Point


def paint_damage(kind: str, surface: Surface, centre: Point, diameter: float, rng: Rng) -> None:
    """Paint one damage of about `diameter` pixels and set its pixels in the mask to 255."""
    PAINTERS[kind](surface, centre, diameter, rng)


def _missing(surface: Surface, centre: Point, diameter: float, rng: Rng) -> None:
    """Tiles gone in whole cells of the grid: the underlay shows, and the row above throws its shadow on it."""
    high, wide = surface.course, round(1.3 * surface.course)
    bare = _apart(rng, UNDERLAYS, surface.colour)
    stretch = rng.uniform(0.75, 1.25)
    rows, columns = max(3, round(diameter / high / stretch)), max(3, round(diameter * stretch / wide))
    left = round((centre[0] - columns * wide / 2) / wide) * wide
    top = round((centre[1] - rows * high / 2) / high) * high
    v, u = np.mgrid[0:rows, 0:columns]
    radius = np.hypot((v + 0.5) / rows * 2 - 1, (u + 0.5) / columns * 2 - 1)
    gone = radius < 0.78 + 0.42 * (rng.random((rows, columns)) - 0.35)
    draw, stamp = ImageDraw.Draw(surface.image), ImageDraw.Draw(surface.mask)
    for r, c in np.argwhere(gone):
        x, y = left + c * wide + (r % 2) * (wide // 2), top + r * high
        box = (x, y, x + wide - 1, y + high - 1)
        draw.rectangle(box, fill=shaded(bare, rng.uniform(0.86, 1.12)))
        draw.line((x, y + high - 1, x + wide - 1, y + high - 1), fill=shaded(bare, 0.78))
        if r == 0 or not gone[r - 1, c]:
            draw.rectangle((x, y, x + wide - 1, y + max(1, high // 3)), fill=shaded(bare, 0.4))
        stamp.rectangle(box, fill=255)
    for _ in range(rng.integers(3, 9)):
        spot = (centre[0] + rng.normal(0, 0.3) * diameter, centre[1] + rng.normal(0.2, 0.25) * diameter)
        piece = quad(rng, spot, wide, 0.8 * high, rng.uniform(0, math.pi))
        draw.polygon([(x + 0.3 * surface.shade[0], y + 0.3 * surface.shade[1]) for x, y in piece], fill=shaded(bare, 0.35))
        draw.polygon(piece, fill=shaded(surface.colour, rng.uniform(0.8, 1.25)))
        stamp.polygon(piece, fill=255)


def _tarpaulin(surface: Surface, centre: Point, diameter: float, rng: Rng) -> None:
    """A sheet with creases, its shadow, and battens or sandbags that hold it."""
    colour = _apart(rng, TARPAULINS, surface.colour)
    stretch = rng.uniform(0.8, 1.25)
    angle = rng.uniform(-0.4, 0.4) + float(rng.choice((0, math.pi / 2)))
    sheet = quad(rng, centre, 0.86 * diameter * stretch, 0.86 * diameter / stretch, angle, 0.07)
    draw = ImageDraw.Draw(surface.image)
    draw.polygon([(x + surface.shade[0], y + surface.shade[1]) for x, y in sheet], fill=shaded(surface.colour, 0.4))
    corner, mask = stencil(sheet)
    # Creases run along one side: noise stretched in one direction.
    creases = cloud(rng, (mask.width, mask.height), (4, 11))
    narrow = creases.resize((mask.width, max(2, mask.height // 7))).resize(mask.size)
    shades = Image.blend(narrow.transpose(Image.Transpose.FLIP_LEFT_RIGHT), creases, 0.5)
    surface.image.paste(tint(shades, shaded(colour, 0.5), shaded(colour, 1.42)), corner, mask)
    surface.mask.paste(255, corner, mask)
    for share in (0.06, 0.5, 0.94) if rng.random() < 0.5 else ():
        ends = [
            (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share) for a, b in ((sheet[0], sheet[1]), (sheet[3], sheet[2]))
        ]
        draw.line(ends, fill=shaded(WOOD, 0.9), width=max(2, round(0.035 * diameter)))
    draw.line([*sheet, sheet[0]], fill=shaded(colour, 0.7), width=max(1, round(0.015 * diameter)))


def _hole(surface: Surface, centre: Point, diameter: float, rng: Rng) -> None:
    """A break with splintered rims, dark inside, rafters across."""
    rim = outline(rng, centre, diameter / 2, 17, 0.38)
    splinters = shaded(_apart(rng, (WOOD, (206, 196, 178), (104, 78, 56)), surface.colour), 1.0)
    draw = ImageDraw.Draw(surface.image)
    draw.polygon(rim, fill=splinters)
    ImageDraw.Draw(surface.mask).polygon(rim, fill=255)
    shrink = rng.uniform(0.76, 0.88)
    inner = [
        (centre[0] + (x - centre[0]) * shrink * f, centre[1] + (y - centre[1]) * shrink * f)
        for (x, y), f in zip(rim, rng.uniform(0.86, 1.06, len(rim)), strict=True)
    ]
    corner, mask = stencil(inner)
    inside = tint(cloud(rng, mask.size, (4, 10)), (8, 7, 8), (58, 50, 46))
    beams = ImageDraw.Draw(inside)
    pitch = rng.uniform(0.2, 0.3) * diameter
    start = rng.uniform(0, pitch)
    for n in range(math.ceil(mask.width / pitch)):
        x = start + n * pitch
        thick = 0.05 * diameter
        beams.line((x + thick, 0, x + thick, mask.height), fill=(6, 6, 6), width=max(1, round(thick)))
        beams.line(
            (x, 0, x + rng.normal(0, 0.05) * diameter, mask.height * rng.uniform(0.4, 1.2)),
            fill=shaded(WOOD, rng.uniform(0.45, 0.8)),
            width=max(2, round(thick)),
        )
    surface.image.paste(inside, corner, mask)
    draw.line([*inner, inner[0]], fill=(20, 18, 18), width=max(1, round(0.012 * diameter)))


def _debris(surface: Surface, centre: Point, diameter: float, rng: Rng) -> None:
    """A heap of planks, broken tiles and plaster, or a limb that fell with its twigs and leaves."""
    if rng.random() < 0.4:
        _limb(surface, centre, diameter, rng)
        return
    draw, stamp = ImageDraw.Draw(surface.image), ImageDraw.Draw(surface.mask)
    colours: tuple[Colour, ...] = (WOOD, (196, 186, 168), (96, 80, 66), (128, 74, 58), (150, 150, 148), (214, 208, 196))
    for spot in rng.normal(0, 0.19, (34, 2)).clip(-0.4, 0.4) * diameter:
        at = (centre[0] + spot[0], centre[1] + spot[1])
        length = rng.uniform(0.10, 0.38) * diameter
        piece = quad(rng, at, length, rng.uniform(0.045, 0.11) * diameter, rng.uniform(0, math.pi), 0.12)
        draw.polygon(
            [(x + 0.5 * surface.shade[0], y + 0.5 * surface.shade[1]) for x, y in piece], fill=shaded(surface.colour, 0.3)
        )
        colour = colours[rng.integers(len(colours))]
        draw.polygon(piece, fill=shaded(colour, rng.uniform(0.6, 1.15)))
        stamp.polygon(piece, fill=255)


def _limb(surface: Surface, centre: Point, diameter: float, rng: Rng) -> None:
    draw, stamp = ImageDraw.Draw(surface.image), ImageDraw.Draw(surface.mask)
    angle = rng.uniform(0, 2 * math.pi)
    bark = shaded((92, 74, 58), rng.uniform(0.8, 1.3))
    sticks = [(centre, angle, 0.95, 0.055)]
    for _ in range(7):
        along = rng.uniform(-0.3, 0.4) * diameter
        root = (centre[0] + along * math.cos(angle), centre[1] + along * math.sin(angle))
        sticks.append((root, angle + rng.choice((-1, 1)) * rng.uniform(0.4, 1.0), rng.uniform(0.35, 0.6), 0.028))
    for layer, offset in (("shadow", surface.shade), ("wood", (0.0, 0.0))):
        for at, turn, length, thick in sticks:
            stick = quad(rng, (at[0] + offset[0], at[1] + offset[1]), length * diameter, thick * diameter, turn)
            draw.polygon(stick, fill=shaded(surface.colour, 0.4) if layer == "shadow" else bark)
            if layer == "wood":
                stamp.polygon(stick, fill=255)
    green = (rng.uniform(70, 120), rng.uniform(100, 140), rng.uniform(45, 70))
    for spot in rng.normal(0, 0.2, (26, 2)).clip(-0.42, 0.42) * diameter:
        leaf = outline(rng, (centre[0] + spot[0], centre[1] + spot[1]), rng.uniform(0.05, 0.10) * diameter, 7, 0.5)
        draw.polygon(leaf, fill=shaded(green, rng.uniform(0.45, 1.15)))
        stamp.polygon(leaf, fill=255)


def _apart(rng: Rng, colours: tuple[Colour, ...], around: Colour) -> Colour:
    """One of the colours that can be told from what is around."""
    seen = [colour for colour in colours if distance(colour, around) >= CONTRAST]
    return seen[rng.integers(len(seen))] if seen else max(colours, key=lambda colour: distance(colour, around))


PAINTERS = {"missing tiles": _missing, "tarpaulin": _tarpaulin, "hole": _hole, "debris": _debris}
