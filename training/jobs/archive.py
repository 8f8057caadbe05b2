"""A finished run → the next version of its name in the model store, exported, with its lineage, signed."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from handlers.spec import Spec
from training import archive as archives
from training import lineage, runs
from training.answers import samples_of
from training.data.manifest import Manifest
from training.errors import DataError, ParityFailed

if TYPE_CHECKING:
    from training.export import Graph

logger = logging.getLogger(__name__)

Choice = Literal["auto", "openvino", "torch"]


def archive(run: Path, model_store: Path, private_key: Path, backend: Choice = "auto") -> Path:
    """Pack and sign; returns the .mar's path.

    `backend`: "openvino" asks for the export and for its parity with torch on the test split; "auto" takes torch, with a
    warning, where parity does not hold; "torch" neither exports nor needs the images. Raises RunError (not finished),
    KeyFileError, ArchiveBroken, ParityFailed, DataError (images that are gone or changed).
    """
    found, graph = lineage.collect(run), None
    if backend != "torch":
        graph, parity = _export(run)
        found = found.model_copy(update={"parity": parity})
        if parity.holds:
            logger.info("OpenVINO answers as torch does: %s", parity.describe())
        else:
            sentence = f"OpenVINO does not answer as torch does: {parity.describe()}"
            if backend == "openvino":
                raise ParityFailed(f"{sentence}; --backend torch archives it without")
            logger.warning("%s; the archive runs on torch", sentence)
            graph = None
    path = archives.build(run, model_store, found, private_key, graph)
    contents = archives.read(path)
    logger.info(
        "%s version %s: %.1f MB, backend %s, digest %s",
        *(contents.spec.name, contents.spec.version, contents.size / 1e6, contents.spec.backend, contents.digest),
    )
    return path


def _export(run: Path) -> "tuple[Graph, lineage.Parity]":
    # Imported here: torch and OpenVINO take seconds to load, and packing for torch needs neither.
    from training import export
    from training.machine import deterministic

    spec, record = Spec.read(run / runs.SPEC), runs.read_record(run)
    with deterministic(threads=1):  # as it is served
        graph = export.convert(run, spec)
        try:
            samples = samples_of(Manifest.read(run / runs.MANIFEST), "test")
            parity = export.measure(run, graph, spec, samples, record.dataset_root)
        except DataError as err:
            raise type(err)(
                f"{err.args[0]}; OpenVINO's parity with torch is measured on these images, --backend torch does without"
            ) from err
    return graph, parity
