"""Weights that torch cannot load are named; what the backends answer is asked in tests/integration/handlers."""

from pathlib import Path

import pytest

from handlers.backends import load_backend
from handlers.errors import ArchiveBroken
from tests.unit.networks import random_network, write_weights
from tests.unit.specs import make_spec


@pytest.mark.parametrize("what", ["missing", "no safetensors", "other classes"])
def test_weights_that_do_not_fit_torch_are_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "model.safetensors"
    if what == "no safetensors":
        path.write_bytes(b"no safetensors at all")
    elif what == "other classes":
        write_weights(tmp_path, random_network("small_cnn", 2, 16, 24))
    with pytest.raises(ArchiveBroken, match=r"model\.safetensors does not fit small_cnn with 3 labels"):
        load_backend(tmp_path, make_spec())
