"""The torch backend runs the archive's weights, or says that they do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from handlers.backends import load_backend
from handlers.errors import ArchiveBroken
from handlers.networks import build
from handlers.spec import Spec

SPEC = Spec.parse(
    json.dumps(
        {
            "name": "tiny",
            "version": "1",
            "network": "small_cnn",
            "labels": ["a", "b", "c"],
            "preprocessing": {"height": 16, "width": 24, "mean": [0.5] * 3, "std": [0.5] * 3},
            "feature_map": [128, 2, 3],
            "temperature": 1,
            "decision": {"threshold": 0.5, "cost": [[0, 1, 1], [1, 0, 1], [1, 1, 0]]},
        }
    ),
    "test",
)


def test_logits_are_the_pooled_maps_times_the_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build("small_cnn", 3)
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.head.bias)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    backend = load_backend(tmp_path, SPEC)
    logits, maps = backend.infer(np.random.default_rng(0).normal(size=(4, 3, 16, 24)).astype(np.float32))
    assert maps.shape == (4, *SPEC.feature_map)
    assert logits.dtype == maps.dtype == np.float32
    expected = maps.mean(axis=(2, 3)) @ backend.head.T + model.head.bias.detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", ["missing", "no safetensors", "other classes"])
def test_weights_that_do_not_fit_are_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "model.safetensors"
    if what == "no safetensors":
        path.write_bytes(b"no safetensors at all")
    elif what == "other classes":
        save_file(build("small_cnn", 2).state_dict(), path)
    with pytest.raises(ArchiveBroken, match=r"model\.safetensors does not fit small_cnn with 3 labels"):
        load_backend(tmp_path, SPEC)
