"""An OpenVINO graph in single precision → one that computes in 8 bits, by NNCF's post-training quantisation."""

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from openvino._offline_transformations import apply_moc_transformations

from handlers.arrays import Float32, UInt8
from handlers.decode import to_batch
from handlers.spec import Network, Spec
from training import settings
from training.progress import show_progress

HEAD = ("ReduceMean", "MatMul")
"""The last of each stays in single precision: pooling and the linear layer are no work [of 2 classes: 0.1 ms instead of
0.8], and the logits are then those of the very maps that Grad-CAM weighs by the layer's weight."""
SIGNED: set[Network] = {"efficientnet_b0", "mobilenet_v3_small", "mobilenet_v3_large", "vit_tiny_patch16"}
"""Their activations (SiLU, Hardswish, GELU) go a little below zero and far above; NNCF gives those an asymmetric range."""


def quantise(graph: Any, pictures: Sequence[UInt8], spec: Spec) -> Any:
    """Quantise a copy of an `openvino.Model` by pictures, (H, W, 3) uint8 each: training images, on which nothing is decided.

    Activations are quantised to the range that they have on these images, symmetrically but for SIGNED, weights channel by
    channel; what that shifts on average goes into the biases (NNCF's fast bias correction).
    """
    images = [to_batch([picture], spec.preprocessing) for picture in pictures]
    settings.prepare_nncf()
    # NNCF draws its own bars on standard output, which is for the command's result.
    with contextlib.redirect_stdout(io.StringIO()):
        import nncf  # imported here: it takes seconds, and only quantising needs it

        logging.getLogger("nncf").setLevel(logging.ERROR)
        copy = graph.clone()
        # Batch normalisation goes into the convolutions before it. Else NNCF quantises between the two
        # [EfficientNet-Lite0 on `roofs`: 98.8 instead of 100 % of the decisions agree, 10.3 instead of 9.1 ms].
        apply_moc_transformations(copy, cf=True)
        return nncf.quantize(
            copy,
            nncf.Dataset(_Dataset(images)),
            preset=nncf.QuantizationPreset.MIXED if spec.network in SIGNED else nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER if spec.network == "vit_tiny_patch16" else None,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=_head(copy)),
            # CPUs without VNNI add products of 8 bits up in 16, which overflow: weights keep to 7 bits there and
            # everywhere, so that an archive answers alike wherever it runs [without: 95.8 instead of 98.8 %].
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )


def _head(graph: Any) -> list[str]:
    """The names of HEAD's operations."""
    operations = graph.get_ordered_ops()
    return [next(one.get_friendly_name() for one in reversed(operations) if one.get_type_name() == kind) for kind in HEAD]


class _Dataset:
    """Inputs to be gone through more than once, saying how far along each time."""

    def __init__(self, images: Sequence[Float32]) -> None:
        self._images = images

    def __iter__(self) -> Iterator[Float32]:
        return show_progress(self._images, len(self._images), "quantising")
