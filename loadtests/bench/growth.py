"""How figures grow with concurrency, with the images in a request and with the pictures' size."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.bare import Bare
from loadtests.bench.client import Client, closed_loop
from loadtests.bench.figures import Load, percentiles_ms, throughput
from loadtests.bench.forms import Form
from loadtests.bench.pictures import photo, photos

CONCURRENCY = (1, 2, 4, 8, 16, 32, 64)
IMAGES = (1, 4, 16, 64)
SIDES = (224, 500, 1000, 2000, 4000)
STEP_S = 2.0
AXES = {
    "concurrency": "requests under way",
    "images": "images in a request",
    "side": "side of a square JPEG, pixels",
}


@dataclass(frozen=True)
class Curve:
    """One row's growth along one of AXES: p50 in milliseconds and images answered a second at each of `x`."""

    row: str
    axis: str
    x: tuple[int, ...]
    p50_ms: tuple[float, ...]
    images_per_s: tuple[float, ...]


def curve(row: str, axis: str, points: Sequence[tuple[int, int, Load]]) -> Curve:
    """`points`: (x, images in each request, what the loop at x measured)."""
    return Curve(
        row,
        axis,
        tuple(x for x, _, _ in points),
        tuple(percentiles_ms(load)[0] for _, _, load in points),
        tuple(images * throughput(load) for _, images, load in points),
    )


def of_bare(loop: Bare, row: str) -> list[Curve]:
    """The baseline's: processes side by side, and sides. Raises ServerFailed."""
    counts = [count for count in CONCURRENCY if count <= len(loop.processes)]
    return [
        curve(row, "concurrency", [(count, 1, loop.run(count, STEP_S)) for count in counts]),
        curve(row, "side", [(side, 1, loop.run(1, STEP_S, side, side)) for side in SIDES]),
    ]


async def of_server(client: Client, form: Form, model: str, row: str) -> list[Curve]:
    """One form's; a curve ends before the first point that the server does not answer."""
    single = [form.make([image], model) for image in photos()]
    by_concurrency = [(n, 1, await closed_loop(client, single, n, STEP_S)) for n in CONCURRENCY]
    by_images = []
    for count in IMAGES if form.many else ():
        request = form.make((photos() * count)[:count], model)
        by_images.append((count, count, await closed_loop(client, [request], 1, STEP_S)))
    by_side = [(side, 1, await closed_loop(client, [form.make([photo(0, side, side)], model)], 1, STEP_S)) for side in SIDES]
    measured = {"concurrency": by_concurrency, "images": by_images, "side": by_side}
    return [curve(row, axis, answered) for axis, points in measured.items() if (answered := until_failure(points))]


def until_failure(points: Sequence[tuple[int, int, Load]]) -> list[tuple[int, int, Load]]:
    """The points before the first at which a request failed."""
    failed = next((n for n, (_, _, load) in enumerate(points) if load.failures or not load.latencies_s), len(points))
    return list(points[:failed])
