"""TorchServe's entry: this module defines exactly one class, which TorchServe requires, and delegates everything.

The wire between the V2 edge and this handler, one image a request:

    body                          encoded image bytes, or raw RGB pixels where x-visor-shape is given
    x-visor-shape: H,W            the body is H x W x 3 uint8
    x-visor-explain: true         answer with a heat map
    x-visor-threshold: 0.3        decide by this threshold instead of the archive's
    x-visor-group: site%3Dnorth   decide by the threshold of this group of the archive's; percent-encoded (RFC 3986) UTF-8

    200  {"label", "confidence", "probabilities", "decision", "threshold", "heatmap", "heatmap_label", "heatmap_peak",
          "heatmap_box", "drift", "seconds"}
    4xx  {"error": {"code", "message"}}

"drift" lists the bin of each figure of the archive's `handlers.drift.Reference`, and is null where the archive has none. Workers
of archives before 0.3 know no group, as their archives have none, and leave out heatmap_peak, heatmap_box and drift. Score and
prediction set are not on the wire: they follow from the probabilities, by the same functions on both sides.

It comes by HTTP through TorchServe, to `handle`, or straight from the edge to the worker
(`visor/serving/worker.py`), to `answer`.
"""

import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from handlers.arrays import UInt8
from handlers.backends import Backend, load_backend
from handlers.drift import REFERENCE, Reference
from handlers.errors import OptionError, VisorError
from handlers.predictor import Answer, Item, Stages, predict
from handlers.spec import Spec

logger = logging.getLogger(__name__)


class VisorHandler:
    """One loaded archive. TorchServe calls `initialize` once and `handle` for each batch."""

    def __init__(self) -> None:
        self._spec: Spec | None = None
        self._backend: Backend | None = None
        self._reference: Reference | None = None

    def initialize(self, context: Any) -> None:
        """Load spec and backend from the unpacked archive. Raises ArchiveBroken, which fails the worker's start."""
        directory = Path(context.system_properties["model_dir"])
        self._spec = Spec.read(directory / "spec.json")
        if self._spec.backend == "torch":
            import torch

            # One thread a worker: N workers on N CPUs do not fight, and the kernel's throttling stays away.
            torch.set_num_threads(1)
        self._backend = load_backend(directory, self._spec)
        self._reference = Reference.read(directory / REFERENCE)
        logger.info("loaded %s version %s, backend %s", self._spec.name, self._spec.version, self._spec.backend)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[str]:
        """Answer a batch; a bad image gets its 4xx and the others their answers."""
        stages = Stages()
        results = self._answer([_item(_body(row), context.get_all_request_header(n)) for n, row in enumerate(data)], stages)
        for n, result in enumerate(results):
            if isinstance(result, VisorError):
                context.set_response_status(result.status, result.code, n)
            context.set_response_content_type(n, "application/json")
        return [_render(result, stages) for result in results]

    def answer(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        """Answer one image: its status and what `handle` gives for it."""
        stages = Stages()
        [result] = self._answer([_item(body, headers)], stages)
        return result.status if isinstance(result, VisorError) else 200, _render(result, stages)

    def _answer(self, items: list[Item | VisorError], stages: Stages) -> list[Answer | VisorError]:
        if self._spec is None or self._backend is None:
            raise RuntimeError("the handler was called before initialize")
        # A worker does one thing at a time: its other threads are the network's, which waits for the picture.
        sound = [item for item in items if isinstance(item, Item)]
        answers = iter(predict(sound, self._spec, self._backend, stages, alone=True, reference=self._reference))
        return [next(answers) if isinstance(item, Item) else item for item in items]


def _body(row: dict[str, Any]) -> object:
    return row.get("body") if row.get("body") is not None else row.get("data", b"")


def _item(body: object, headers: dict[str, str]) -> Item | VisorError:
    """Read one request; what cannot be read is that request's own error."""
    if not isinstance(body, bytes | bytearray):
        return OptionError(f"the body must be image bytes, got {type(body).__name__}; send content-type application/octet-stream")
    try:
        threshold = headers.get("x-visor-threshold")
        return Item(
            image=_pixels(bytes(body), headers["x-visor-shape"]) if "x-visor-shape" in headers else bytes(body),
            explain=headers.get("x-visor-explain") == "true",
            threshold=None if threshold is None else float(threshold),
            group=unquote(headers["x-visor-group"]) if "x-visor-group" in headers else None,
        )
    except ValueError as err:
        return OptionError(str(err))
    except VisorError as err:
        return err


def _pixels(body: bytes, shape: str) -> UInt8:
    height, width = (int(side) for side in shape.split(","))
    if height < 0 or width < 0 or len(body) != height * width * 3:
        raise OptionError(f"x-visor-shape {shape} does not fit a body of {len(body)} bytes")
    return np.frombuffer(body, dtype=np.uint8).reshape(height, width, 3)


def _render(result: Answer | VisorError, stages: Stages) -> str:
    if isinstance(result, VisorError):
        return json.dumps({"error": {"code": result.code, "message": str(result)}})
    return json.dumps(
        {
            "label": result.label,
            "confidence": result.confidence,
            "probabilities": result.probabilities.tolist(),
            "decision": result.decision,
            "threshold": result.threshold,
            "heatmap": None if result.heatmap is None else result.heatmap.tolist(),
            "heatmap_label": result.heatmap_label,
            "heatmap_peak": result.heatmap_peak,
            "heatmap_box": result.heatmap_box,
            "drift": result.drift,
            "seconds": stages.seconds,
        }
    )
