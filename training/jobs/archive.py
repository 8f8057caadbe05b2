"""A finished run → the next version of its name in the model store, exported, with its lineage, signed."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from archives.contents import SPEC, read
from archives.lineage import Parity
from handlers.spec import BackendName, Spec
from training import runs
from training.data.manifest import Manifest
from training.errors import DataError, ParityFailed
from training.evaluation.answers import samples_of
from training.packing import archive as packing
from training.packing import lineage

if TYPE_CHECKING:
    from training.packing.export import Graph

logger = logging.getLogger(__name__)

Choice = Literal["auto", "openvino-int8", "openvino", "torch"]
EXPORTS: dict[Choice, tuple[BackendName, ...]] = {
    "auto": ("openvino-int8", "openvino"),
    "openvino-int8": ("openvino-int8",),
    "openvino": ("openvino",),
    "torch": (),
}
"""What each choice exports, the fastest first."""


def archive(run: Path, model_store: Path, private_key: Path, backend: Choice = "auto") -> Path:
    """Pack a finished run, sign the archive, and return the .mar's path.

    `backend`: "openvino-int8" and "openvino" ask for that export and for its parity with torch on the test split; "auto"
    takes the fastest that answers as torch does, and warns of each that does not; "torch" neither exports nor needs the
    images. Raises RunError (not finished), KeyFileError, ArchiveBroken, ParityFailed, DataError (images that are gone or
    changed).
    """
    found = lineage.collect(run)
    graphs: dict[BackendName, Graph] = {}
    if wanted := EXPORTS[backend]:
        graphs, parity = _export(run, wanted)
        found = found.model_copy(update={"parity": parity})
        if backend != "auto" and not graphs:
            raise ParityFailed(
                f"{backend} does not answer as torch does: {parity[wanted[0]].describe()}; --backend auto takes what does"
            )
    path = packing.build(run, model_store, found, private_key, graphs)
    contents = read(path)
    logger.info(
        "%s version %s: %.1f MB, backend %s, digest %s",
        *(contents.spec.name, contents.spec.version, contents.size / 1e6, contents.spec.backend, contents.digest),
    )
    return path


def _export(run: Path, backends: tuple[BackendName, ...]) -> "tuple[dict[BackendName, Graph], dict[BackendName, Parity]]":
    """The exports that answer as torch does, in the order asked for, and how each of them compared."""
    # Imported here: torch, OpenVINO and NNCF take seconds to load, and packing for torch needs none of them.
    from training.fitting.torch_setup import deterministic
    from training.packing import export, parity

    spec, record = Spec.read(run / SPEC), runs.read_record(run)
    graphs: dict[BackendName, Graph] = {}
    found: dict[BackendName, Parity] = {}
    with deterministic(threads=1):  # as it is served
        try:
            manifest = Manifest.read(run / runs.MANIFEST)
            reference = parity.ask_torch(run, spec, samples_of(manifest, "test"), record.dataset_root)
            for name in backends:
                if name == "openvino-int8":
                    calibration = samples_of(manifest, "calibration")
                    graph = export.convert_int8(run, spec, calibration, record.dataset_root)
                else:
                    graph = export.convert(run, spec)
                found[name] = parity.measure(run, graph, name, spec, reference, record.dataset_root)
                if found[name].holds:
                    graphs[name] = graph
                    logger.info("%s answers as torch does: %s", name, found[name].describe())
                else:
                    logger.warning("%s is left out, as it does not answer as torch does: %s", name, found[name].describe())
        except DataError as err:
            raise type(err)(
                f"{err.args[0]}; exports are calibrated and compared with torch on these images, --backend torch does without"
            ) from err
    return graphs, found
