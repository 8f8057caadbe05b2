"""A share of the labels, from scratch and after SimCLR without any: test accuracy for each seed, as a Markdown table.

    python docs/examples/label_fraction.py training/configs/roofs-pretrain.yaml --seeds 0 1 2

A seed draws which labels are used, the order and the augmentations, for both alike, and the first weights of what starts from
scratch. The pretraining, which sees no label, is one for all seeds, and goes on where it was interrupted. docs/pretraining.md has
the result.
"""

import argparse
import logging
import sys
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
import torch

from training import config as configs
from training.data.manifest import Manifest
from training.data.pixels import cache
from training.fitting.fit import fit, validate
from training.fitting.pretrained import make_model
from training.jobs.common import images_of, prepare
from training.jobs.pretrain import pretrain


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    config = configs.load(args.config, args.set)
    backbone = pretrain(config, args.home / f"{config.name}-backbone", args.home)
    data = prepare(config, args.home)
    pixels = cache(data.root, data.manifest, config.preprocessing, config.limits, args.home / "cache")
    print("| seed | from scratch | after SimCLR | difference |\n| --- | --- | --- | --- |", flush=True)
    rows = []
    for seed in args.seeds:
        overrides = [*args.set, f"seed={seed}"]
        scratch = accuracy(configs.load(args.config, overrides), data.manifest, pixels)
        started = accuracy(configs.load(args.config, [*overrides, f"model.pretrained={backbone}"]), data.manifest, pixels)
        rows.append((scratch, started))
        print(row(str(seed), scratch, started), flush=True)
    print(row("mean", *(mean(column) for column in zip(*rows, strict=True))))
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="one with data.labelled_fraction")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--home", type=Path, default=Path("runs"))
    return parser.parse_args(argv)


def accuracy(config: configs.Config, manifest: Manifest, pixels: npt.NDArray[np.uint8]) -> float:
    """Of a fit, as `visor train` does it, on the test split."""
    train = images_of(pixels, manifest, "train", config.data.labelled_fraction, config.seed)
    val, test = (images_of(pixels, manifest, split) for split in ("val", "test"))
    model = make_model(config, len(manifest.labels))
    fit(model, train, val, config)
    return validate(model, test, config, torch.ones(len(manifest.labels)))[1]


def row(name: str, scratch: float, started: float) -> str:
    return f"| {name} | {scratch:.1%} | {started:.1%} | {100 * (started - scratch):+.1f} points |"


if __name__ == "__main__":
    sys.exit(main())
