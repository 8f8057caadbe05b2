"""The built-in data set `roofs`: generated aerial views of one roof, intact or damaged, with a mask of each damage.

Image `index` of a seed is the same whatever the count, the size of the pool and the machine's number of cores. Images
2b and 2b + 1 show building b whole and damaged, on two flights: other heading, light, camera. They share a group.
"""

import json
import math
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from archives.files import atomic_folder
from handlers.arrays import UInt8
from training.data.roofs.buildings import Site, View, on_roof, paint_roof, plan_site
from training.data.roofs.damage import KINDS, Surface, paint_damage
from training.data.roofs.grounds import paint_ground, paint_trees, plan_grounds, shade_roof
from training.data.roofs.painting import Rng, grain
from training.errors import DataError
from training.progress import show_progress

DAMAGED, INTACT = "damaged", "intact"
GROUP_PATTERN = r"([0-9]{5,})-[01]\.jpg$"
# Part of what is written into a set's folder; a change of the drawing raises FORMAT.
MARKER, FORMAT = ".visor-roofs.json", 2
QUALITY = 92
# Drawn at twice the size and averaged: edges come out smooth.
OVERSAMPLING = 2
# Below this many images, starting worker processes costs more than it saves.
POOL_FROM = 200
TASK = 16  # images that a worker process draws before it is asked again


@dataclass(frozen=True)
class Roof:
    """One picture. `image`: (size, size, 3) uint8 RGB; `mask`: (size, size) uint8, 255 where damage is seen, else 0."""

    image: UInt8
    mask: UInt8
    label: str
    kind: str | None
    building: int


def render(seed: int, index: int, size: int, *, repaired: bool = False) -> Roof:
    """Draw picture `index`; `repaired` leaves the damage out of a damaged one and changes nothing else."""
    building, second = divmod(index, 2)
    site_rng = np.random.default_rng([seed, building, 0])
    site = plan_site(site_rng)
    grounds = plan_grounds(site_rng, site)
    view_rng = np.random.default_rng([seed, building, 1 + second])
    view = _plan_view(view_rng, size * OVERSAMPLING)
    canvas = paint_ground(grounds, site, view, view_rng)
    roof, footprint = paint_roof(site, view)
    mask, kind = None, None
    if second and not repaired:
        mask = Image.new("L", roof.size)
        kind = _break(roof, mask, site, view, np.random.default_rng([seed, building, 3]))
    corner, seen, broken = _lay(canvas, roof, footprint, mask, site, view)
    shade_roof(canvas, seen, corner, grounds, site, view)
    paint_trees(canvas, broken, grounds, view)
    photo = _expose(canvas.reduce(OVERSAMPLING), view_rng)
    shown = np.zeros((size, size), bool) if broken is None else np.asarray(broken.reduce(OVERSAMPLING)) >= 128
    return Roof(photo, np.where(shown, np.uint8(255), np.uint8(0)), DAMAGED if kind else INTACT, kind, building)


def _plan_view(rng: Rng, side: int) -> View:
    elevation = math.radians(rng.uniform(34, 66))
    scale = side * rng.uniform(0.94, 1.08)
    shift = rng.uniform(-0.05, 0.05, 2) * side
    return View(
        side=side,
        scale=scale,
        heading=rng.uniform(0, 2 * math.pi),
        centre=(side / 2 + float(shift[0]), side / 2 + float(shift[1])),
        sun=rng.uniform(0, 2 * math.pi),
        slant=1 / math.tan(elevation),
        contrast=rng.uniform(0.45, 0.8),
    )


def _break(roof: Image.Image, mask: Image.Image, site: Site, view: View, rng: Rng) -> str:
    """Damage the roof somewhere inside one of its blocks; returns the kind."""
    kind = KINDS[rng.integers(len(KINDS))]
    diameter = rng.uniform(0.19, 0.30)
    block = site.blocks[rng.choice(len(site.blocks), p=_shares(site))]
    (cx, cy), (width, height) = block.centre, block.size
    play_x, play_y = (max(0.0, length / 2 - 0.42 * diameter) for length in (width, height))
    at = on_roof(site, view, (cx + rng.uniform(-play_x, play_x), cy + rng.uniform(-play_y, play_y)))
    dx, dy = view.shadow(0.010)
    surface = Surface(roof, mask, site.colour, max(3, round(site.course * view.side)), (dx * view.scale, dy * view.scale))
    paint_damage(kind, surface, at, diameter * view.side, rng)
    return kind


def _shares(site: Site) -> list[float]:
    areas = [block.size[0] * block.size[1] for block in site.blocks]
    return [area / sum(areas) for area in areas]


def _lay(
    canvas: Image.Image, roof: Image.Image, footprint: Image.Image, mask: Image.Image | None, site: Site, view: View
) -> tuple[tuple[int, int], Image.Image, Image.Image | None]:
    """Turn the roof to the view's heading and lay it on the canvas.

    Returns (left, top) of the part of the canvas that it falls on, the footprint there, and the mask of the whole canvas.
    """
    x, y = site.half
    corners = view.place([(-x, -y), (x, -y), (x, y), (-x, y)])
    left, top = (max(0, math.floor(min(p[axis] for p in corners))) for axis in (0, 1))
    right, bottom = (min(view.side, math.ceil(max(p[axis] for p in corners))) for axis in (0, 1))
    cos, sin = math.cos(view.heading), math.sin(view.heading)
    # Pillow wants, for each pixel of the canvas, the pixel of the roof: the inverse turn about the two centres.
    dx, dy = left - view.centre[0], top - view.centre[1]
    matrix = (cos, sin, cos * dx + sin * dy + roof.width / 2, -sin, cos, -sin * dx + cos * dy + roof.height / 2)

    def turn(image: Image.Image) -> Image.Image:
        return image.transform((right - left, bottom - top), Image.Transform.AFFINE, matrix)

    seen = turn(footprint)
    canvas.paste(turn(roof), (left, top), seen)
    if mask is None:
        return (left, top), seen, None
    broken = Image.new("L", canvas.size)
    broken.paste(ImageChops.darker(turn(mask), seen), (left, top))
    return (left, top), seen, broken


def _expose(image: Image.Image, rng: Rng) -> UInt8:
    """The camera: blur, exposure, contrast, a cast of colour, haze, sensor noise."""
    blur = rng.uniform(-0.5, 0.7)
    if blur > 0.15:
        image = image.filter(ImageFilter.BoxBlur(blur * image.width / 224))
    gain, contrast, noise = rng.uniform(0.78, 1.2), rng.uniform(0.82, 1.15), rng.uniform(1.5, 8)
    cast = (rng.normal(1, 0.035, 3) * gain * contrast).astype(np.float32)
    pixels = np.asarray(image, np.float32) * cast
    pixels += np.float32(118 * (1 - contrast) + rng.uniform(-6, 10))
    pixels += grain(rng, image.width) * np.float32(noise)
    photo: UInt8 = np.clip(pixels, 0, 255).astype(np.uint8)
    return photo


def generate(root: Path, count: int, size: int, seed: int, processes: int = 2) -> Path:
    """Write `count` pictures as ROOT/{intact,damaged}/BUILDING-VIEW.jpg and ROOT/masks/damaged/BUILDING-VIEW.png; returns root.

    A finished set of the same parameters is left as it is. Everything is written beside `root` and renamed at the end, so
    an interrupted call leaves no root. Raises DataError when `root` holds something else.
    """
    wanted = {"format": FORMAT, "count": count, "size": size, "seed": seed}
    if root.exists():
        if _read_marker(root) != wanted:
            raise DataError(f"{root} exists and is not the set {wanted}; move it away or choose another place")
        return root
    with atomic_folder(root) as folder:
        for name in (INTACT, DAMAGED, f"masks/{DAMAGED}"):
            (folder / name).mkdir(parents=True)
        for _ in show_progress(_written(folder, count, size, seed, processes), count, "drawing roofs"):
            pass
        (folder / MARKER).write_text(json.dumps(wanted, sort_keys=True))
    return root


def _written(folder: Path, count: int, size: int, seed: int, processes: int) -> Iterator[int]:
    draw = partial(_write, folder, size, seed)
    workers = min(processes, len(os.sched_getaffinity(0)))
    if workers < 2 or count < POOL_FROM:
        for index in range(count):
            yield from draw(range(index, index + 1))
        return
    # A fresh interpreter for each: forking one that runs threads (torch, a tracking client) can hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_die_with_parent)
    try:
        # Not pool.map, which cancels what is left when a worker is gone: the pool then fails on a cancelled future (Python 3.11).
        tasks = [pool.submit(draw, range(start, min(start + TASK, count))) for start in range(0, count, TASK)]
        for task in tasks:
            yield from task.result()
    except BrokenProcessPool as err:
        raise DataError(
            "a process that drew roofs was killed, perhaps for want of memory; try again with less beside it"
        ) from err
    finally:
        pool.shutdown(cancel_futures=True)


def _write(folder: Path, size: int, seed: int, indices: range) -> range:
    for index in indices:
        roof = render(seed, index, size)
        name = f"{roof.building:05d}-{index % 2}"
        Image.fromarray(roof.image).save(folder / roof.label / f"{name}.jpg", quality=QUALITY)
        if roof.label == DAMAGED:
            Image.fromarray(roof.mask).save(folder / "masks" / DAMAGED / f"{name}.png")
    return indices


def _die_with_parent() -> None:
    """Leave when the process that waits for the pictures is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _read_marker(root: Path) -> object:
    try:
        return json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return None
