"""A share of the labels, from scratch and after SimCLR without any: test accuracy for each seed, as a Markdown table.

    python docs/examples/label_fraction.py training/configs/roofs-pretrain.yaml --seeds 0 1 2

A seed draws which labels are used, the first weights, the order and the augmentations of both. Given again, it goes on where
it was interrupted; docs/pretraining.md has its result.
"""

import argparse
import logging
import sys
from pathlib import Path
from statistics import mean

from training import config as configs
from training import runs
from training.jobs.pretrain import pretrain
from training.jobs.train import train


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    print("| seed | from scratch | after SimCLR | difference |\n| --- | --- | --- | --- |", flush=True)
    rows = []
    for seed in args.seeds:
        scratch, started = compare(args, seed)
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


def compare(args: argparse.Namespace, seed: int) -> tuple[float, float]:
    """Test accuracies of the two, everything but the first weights alike."""
    overrides = [*args.set, f"seed={seed}"]
    config = configs.load(args.config, overrides)
    folder = args.home / f"{config.name}-seed{seed}"
    backbone = pretrain(config, folder / "pretrain", args.home)
    from_scratch = train(config, folder / "scratch", args.home)
    started = train(configs.load(args.config, [*overrides, f"model.pretrained={backbone}"]), folder / "simclr", args.home)
    scratch, after = (float(runs.read_finished(run)[1]["accuracy"]) for run in (from_scratch, started))
    return scratch, after


def row(name: str, scratch: float, started: float) -> str:
    return f"| {name} | {scratch:.1%} | {started:.1%} | {100 * (started - scratch):+.1f} points |"


if __name__ == "__main__":
    sys.exit(main())
