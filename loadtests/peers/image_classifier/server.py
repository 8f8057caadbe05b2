"""TorchServe with its stock image_classifier handler: eager torch, the archive's own weights, stock logging and metrics.

https://github.com/pytorch/serve/tree/master/examples/image_classifier/resnet_18

The handler resizes to 256 and crops 224 x 224 itself, so this is for networks of that size. POST /predictions/NAME with the
encoded image.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from handlers.backends import load_network
from handlers.spec import Spec
from loadtests.peers.classifier import parse_args
from loadtests.peers.torchserve.server import BIN, run, write_config

NETWORK = Path(__file__).with_name("network.py")
SIDE = 224


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM."""
    args = parse_args(argv, __doc__)
    with tempfile.TemporaryDirectory(prefix="image-classifier-") as folder:
        home = Path(folder)
        write_captum(home)
        path = os.pathsep.join((str(home), os.environ.get("PYTHONPATH", "")))
        run(home, write_config(home, make_archive(args.model, home), args, {}), {"PYTHONPATH": path})
    return 0


def write_captum(home: Path) -> None:
    """A stand-in for captum, which the handler imports for its explanations and makes one object of; none is asked for."""
    package = home / "captum"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "attr.py").write_text("class IntegratedGradients:\n    def __init__(self, model):\n        pass\n")


def make_archive(directory: Path, home: Path) -> str:
    """Pack a stock .mar of the unpacked archive's weights; the model's name. Raises SystemExit for another size."""
    spec = Spec.read(directory / "spec.json")
    if (spec.preprocessing.height, spec.preprocessing.width) != (SIDE, SIDE):
        raise SystemExit(
            f"image_classifier is made for {SIDE} x {SIDE}; {spec.name} takes {spec.preprocessing.width} wide images"
        )
    weights = load_network(directory, spec).state_dict()
    torch.save({f"network.{name}": tensor for name, tensor in weights.items()}, home / "weights.pth")
    (home / "index_to_name.json").write_text(json.dumps(dict(enumerate(spec.labels))))
    command: list[str | Path] = [BIN / "torch-model-archiver", "--model-name", spec.name, "--version", spec.version]
    command += ["--model-file", NETWORK, "--serialized-file", home / "weights.pth", "--handler", "image_classifier"]
    extra = f"{home / 'index_to_name.json'},{directory / 'spec.json'}"
    subprocess.run([*command, "--extra-files", extra, "--export-path", home], check=True)
    return spec.name


if __name__ == "__main__":
    sys.exit(main())
