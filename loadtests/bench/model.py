"""What every server serves: an archive of the project's own, unpacked for those that cannot read one.

Speed does not depend on what a network has learned. Where no archive is given, one is made of a network with random weights,
from a fixed seed, exported to OpenVINO as `visor archive` does it.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from archives import opening, signing
from archives.contents import SPEC
from archives.files import sha256
from handlers.spec import BackendName, Decision, Network, Preprocessing, Spec
from loadtests.bench.pictures import photos
from training import runs
from training.packing import archive as packing

NETWORKS = ("resnet18", "efficientnet_lite0", "resnet50")
BACKENDS = ("openvino", "openvino-int8")
SEED, SIDE, CLASSES = 0, 224, 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Model:
    """A signed archive, and the folder that it is unpacked in."""

    archive: Path
    public_key: Path
    unpacked: Path
    spec: Spec


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `chosen` reads: `--network` and `--backend`, or `--archive` and `--public-key`."""
    add_network_flag(parser)
    parser.add_argument(
        "--backend", choices=BACKENDS, default=BACKENDS[0], help="inference library that runs --network (default: %(default)s)"
    )
    parser.add_argument(
        "--archive", type=Path, metavar="FILE.mar", help="signed archive to measure instead of --network (default: none)"
    )
    parser.add_argument(
        "--public-key",
        type=Path,
        default=Path("keys/visor.pub"),
        metavar="FILE",
        help="public key that the signature of --archive must match (default: %(default)s)",
    )


def add_network_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--network`."""
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default=NETWORKS[0],
        help="network to measure, with random weights, on which speed does not depend (default: %(default)s)",
    )


@contextmanager
def chosen(args: argparse.Namespace) -> Iterator[Model]:
    """The model that the flags name, until the block's end. Raises ArchiveRefused, ArchiveBroken."""
    with tempfile.TemporaryDirectory(prefix="visor-bench-") as folder:
        archive, key = (args.archive, args.public_key) if args.archive else make_archive(args.network, args.backend, Path(folder))
        with opened(archive, key) as model:
            yield model


@contextmanager
def opened(archive: Path, public_key: Path) -> Iterator[Model]:
    """A signed archive as a Model until the block's end. Raises what `archives.opening.opened` raises."""
    with opening.opened(archive, public_key) as verified, verified.unpacked() as folder:
        yield Model(archive.resolve(), public_key.resolve(), folder, verified.spec)


def make_archive(network: Network, backend: BackendName, folder: Path) -> tuple[Path, Path]:
    """An archive of the network with random weights, below `folder`, and the public key of its signature.

    `backend`: one that is exported to; 8 bits are quantised by the pictures that are sent.
    """
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from archives.lineage import Lineage
    from handlers.decode import decode
    from handlers.networks import build, map_size
    from training.packing.export import convert, convert_int8

    torch.manual_seed(SEED)
    net = build(network, CLASSES)
    torch.nn.init.normal_(net.head.weight, std=0.1)
    spec = Spec(
        name=network.replace("_", "-"),
        version="1",
        network=network,
        labels=tuple(f"class-{number}" for number in range(CLASSES)),
        preprocessing=Preprocessing(height=SIDE, width=SIDE, mean=MEAN, std=STD),
        feature_map=map_size(net, SIDE, SIDE),
        temperature=1.0,
        backend=backend,
        decision=Decision(threshold=0.5, cost=tuple(tuple(float(i != j) for j in range(CLASSES)) for i in range(CLASSES))),
    )
    run = folder / "run"
    run.mkdir()
    save_file(net.state_dict(), run / runs.WEIGHTS)
    np.savez(run / runs.REFERENCE, probabilities=np.full((1, CLASSES), 1 / CLASSES, np.float32))
    (run / SPEC).write_text(spec.model_dump_json())
    unknown = "none: random weights"
    lineage = Lineage(
        created=datetime.now(UTC),
        git_commit=unknown,
        git_dirty=None,
        archive_git_commit=unknown,
        archive_git_dirty=None,
        dataset_digest=unknown,
        config_digest=unknown,
        weights_digest=sha256(run / runs.WEIGHTS),
        mlflow_run_id="none",
        tracking_uri=unknown,
        versions={},
        metrics={},
    )
    private, public = signing.make_keys(folder / "keys")
    if backend == "openvino":
        convert(run, spec).write(run)
    else:
        convert_int8(run, spec, [decode(picture, spec.preprocessing, spec.limits) for picture in photos()]).write(run)
    return packing.build(run, folder / "model-store", lineage, private), public
