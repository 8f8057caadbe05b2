"""What stands or grows on a whole roof and is easily taken for damage: skylights, chimneys, panels, moss, newer tiles, stains."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.data.roofs.painting import Colour, Point, Rng, cloud, outline, quad, shaded, stencil

FIXTURES = ("skylight", "chimney", "solar", "moss", "repair", "stain", "vent")


@dataclass(frozen=True)
class Fixture:
    """Something on an intact roof that a hasty eye takes for damage."""

    kind: str
    centre: Point
    size: float
    seed: int


def paint_fixture(image: Image.Image, fixture: Fixture, centre: Point, unit: float, colour: Colour, shadow: Point) -> None:
    """Paint a fixture on a roof of this colour, lengths in its pixels. `shadow`: how far a point of height 1 throws its own."""
    rng = np.random.default_rng(fixture.seed)
    draw = ImageDraw.Draw(image)
    if fixture.kind == "skylight":
        for box in _row_of_boxes(centre, 0.05 * unit, 0.065 * unit, int(rng.integers(1, 4)), 1.7):
            draw.rectangle(box, fill=shaded((190, 190, 188), 1), outline=(70, 70, 72))
            inner = 0.008 * unit
            glass = shaded((70, 92, 118), rng.uniform(0.6, 1.5))
            draw.rectangle((box[0] + inner, box[1] + inner, box[2] - inner, box[3] - inner), fill=glass)
    elif fixture.kind in ("chimney", "vent"):
        length = (0.055 if fixture.kind == "chimney" else 0.022) * unit
        brick = (150, 84, 66) if fixture.kind == "chimney" else (176, 176, 176)
        dx, dy = 1.1 * length * shadow[0], 1.1 * length * shadow[1]
        foot = quad(rng, centre, length, length, 0)
        for step in (0.25, 0.5, 0.75, 1.0):
            draw.polygon([(x + step * dx, y + step * dy) for x, y in foot], fill=shaded(colour, 0.42))
        draw.polygon(foot, fill=shaded(brick, rng.uniform(0.8, 1.1)), outline=shaded(brick, 0.6))
        draw.polygon(quad(rng, centre, 0.4 * length, 0.4 * length, 0), fill=(34, 30, 30))
    elif fixture.kind == "solar":
        columns, rows = int(rng.integers(2, 5)), int(rng.integers(1, 3))
        panel = (0.052 * unit, 0.078 * unit)
        left, top = centre[0] - columns * panel[0] / 2, centre[1] - rows * panel[1] / 2
        glass = shaded((34, 44, 74), rng.uniform(0.8, 1.4))
        for r in range(rows):
            for c in range(columns):
                x, y = left + c * panel[0], top + r * panel[1]
                draw.rectangle((x, y, x + panel[0], y + panel[1]), fill=glass, outline=(150, 156, 166))
                draw.line((x, y + panel[1] / 2, x + panel[0], y + panel[1] / 2), fill=shaded(glass, 1.4))
    elif fixture.kind == "repair":
        # Newer tiles of nearly the roof's colour: whole, and only another shade.
        factor = float(rng.choice((0.82, 1.18)))
        (x, y), length = centre, rng.uniform(0.08, 0.16) * unit
        box = (round(x - length / 2), round(y - length / 3), round(x + length / 2), round(y + length / 3))
        image.paste(image.crop(box).point([min(255, round(v * factor)) for v in range(256)] * 3), box)
    else:
        _stain(image, fixture.kind, centre, unit, colour, rng)


def _row_of_boxes(
    centre: Point, width: float, height: float, count: int, pitch: float
) -> list[tuple[float, float, float, float]]:
    left = centre[0] - (count - 1) * pitch * width / 2
    return [
        (x - width / 2, centre[1] - height / 2, x + width / 2, centre[1] + height / 2)
        for x in (left + i * pitch * width for i in range(count))
    ]


def _stain(image: Image.Image, kind: str, centre: Point, unit: float, colour: Colour, rng: Rng) -> None:
    """Moss in patches, or a dark streak of water; both let the covering's rows show through."""
    radius = rng.uniform(0.06, 0.13) * unit
    if kind == "moss":
        corner, mask = stencil(outline(rng, centre, radius, 14, 0.5))
        paint, strength = (rng.uniform(70, 105), rng.uniform(88, 120), rng.uniform(40, 64)), 0.8
    else:
        corner, mask = stencil(quad(rng, centre, radius * 0.7, radius * 2, 0, 0.2))
        paint, strength = shaded(colour, 0.45), 0.6
    holes = cloud(rng, mask.size, (5, 12))
    low = 110 if kind == "moss" else 70
    holes = holes.point([max(0, min(255, round((v - low) * 3.2 * strength))) for v in range(256)])
    thin = Image.new("L", mask.size)
    thin.paste(holes, mask=mask)
    image.paste(shaded(paint, 1), (corner[0], corner[1]), thin)
