"""Measure what one image costs from its bytes to its decision on each backend and on eager torch, as torchvision documents it.

`python -m loadtests.bench.backends --archive ARCHIVE --public-key KEY`, or with `--network`: one process, one thread, the ways in
turns, so that a noisy machine is noisy for all of them; of each the least CPU time counts. No server is involved.
"""

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from PIL import Image
from torchvision.transforms import v2

from handlers.arrays import Float32
from handlers.backends import BACKENDS, Backend, load_backend, load_network
from handlers.errors import ArchiveBroken, VisorError
from handlers.predictor import Item, predict
from handlers.spec import Spec
from loadtests.bench.machine import describe
from loadtests.bench.model import Model, add_model_flags, chosen
from loadtests.bench.pictures import HEIGHT, WIDTH, photos
from loadtests.errors import LoadTestError

EAGER, AS_BUILT = "eager torch, torchvision's transforms", "eager torch, visor's decoding"
SMALL = 64
"""A network for pictures of half of this or less gets JPEGs of SMALL x SMALL pixels."""
TURN = 8
"""Images of one way in its turn."""

Way = Callable[[bytes], object]


class _AsBuilt:
    """torch as `TorchBackend`, but with a pixel's channels apart, as torch has them unless told otherwise."""

    def __init__(self, model: Model) -> None:
        self._network = load_network(model.unpacked, model.spec)
        self.head: Float32 = self._network.head.weight.detach().numpy()

    def infer(self, batch: Float32) -> tuple[Float32, Float32]:
        with torch.inference_mode():
            logits, maps = self._network(torch.from_numpy(batch))
        return logits.numpy(), maps.numpy()


def ways(model: Model) -> dict[str, Way]:
    """An encoded image → its answer: with nothing of visor but the network, and on each backend that the archive can run."""
    found: dict[str, Way] = {EAGER: _eager(model), AS_BUILT: _whole(model.spec, _AsBuilt(model))}
    for name in BACKENDS:
        spec = model.spec.model_copy(update={"backend": name})
        with contextlib.suppress(ArchiveBroken):
            found[name] = _whole(spec, load_backend(model.unpacked, spec))
    return found


def measure(found: Mapping[str, Way], images: Sequence[bytes], rounds: int) -> dict[str, float]:
    """The least CPU milliseconds of one image, by way."""
    least = dict.fromkeys(found, float("inf"))
    for _ in range(rounds):
        for name, way in found.items():
            for number in range(TURN):
                start = time.process_time()
                way(images[number % len(images)])
                least[name] = min(least[name], (time.process_time() - start) * 1e3)
    return least


def table(least: Mapping[str, float]) -> str:
    """Markdown; ratios are to EAGER."""
    lines = ["| | CPU ms an image | times faster |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {ms:.2f} | {least[EAGER] / ms:.2f} |" for name, ms in least.items())])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and the machine."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.backends",
        description="Measure the CPU time of one image, from its bytes to its decision, by each inference library that "
        "the archive can run on (with --network, those are torch and --backend) and by plain torch. Uses one process, one thread "
        "and no server; prints a table of milliseconds and the machine.",
        epilog="Exit codes: 0 the table was made; 2 it could not be made, for the reason printed, or a mistyped command line.",
    )
    add_model_flags(parser)
    parser.add_argument(
        "--rounds",
        type=int,
        default=60,
        metavar="NUMBER",
        help=f"number of rounds, in each of which every library answers {TURN} times; of all the least time counts "
        "(default: %(default)s)",
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        with chosen(args) as model:
            small = max(model.spec.preprocessing.height, model.spec.preprocessing.width) <= SMALL // 2
            images = photos(width=SMALL, height=SMALL) if small else photos(width=WIDTH, height=HEIGHT)
            least = measure(ways(model), images, args.rounds)
            print(f"{model.spec.name}, JPEGs of {len(images[0]) / 1e3:.1f} KB\n\n{table(least)}\n")
    except (LoadTestError, VisorError) as err:
        sys.stderr.write(f"loadtests.bench.backends: {err}\n")
        return 2
    print(", ".join(f"{name} {value}" for name, value in describe(["torch", "openvino", "pillow"]).items()))
    return 0


def _eager(model: Model) -> Way:
    network, wanted = load_network(model.unpacked, model.spec), model.spec.preprocessing
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize((wanted.height, wanted.width), v2.InterpolationMode(wanted.interpolation), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(wanted.mean), list(wanted.std)),
        ]
    )

    def answer(image: bytes) -> object:
        with torch.inference_mode():
            logits, _ = network(transform(Image.open(io.BytesIO(image)).convert("RGB"))[None])
            return torch.softmax(logits, dim=1).tolist()

    return answer


def _whole(spec: Spec, backend: Backend) -> Way:
    return lambda image: predict([Item(image)], spec, backend)


if __name__ == "__main__":
    sys.exit(main())
