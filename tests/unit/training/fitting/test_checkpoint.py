import errno
from pathlib import Path

import pytest
import torch

from training.errors import RunError
from training.fitting import checkpoint
from training.fitting.checkpoint import State


def state(**changes):
    weights = {"head.weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(3)}
    optimizer = {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0]}]}
    history = [{"epoch": 1, "val_loss": 0.5}]
    return State(**{"weights": weights, "best": weights, "best_loss": 0.5, "optimizer": optimizer, "history": history, **changes})


def test_what_was_saved_is_loaded(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state(phase=1, epoch=2, stale=1), "c" * 64, "d" * 64)
    loaded = checkpoint.load(path, "c" * 64, "d" * 64)
    assert (loaded.phase, loaded.epoch, loaded.stale, loaded.best_loss) == (1, 2, 1, 0.5)
    assert torch.equal(loaded.weights["head.weight"], state().weights["head.weight"])
    assert loaded.optimizer == state().optimizer
    assert loaded.history == state().history
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_no_checkpoint_is_no_state(tmp_path):
    assert checkpoint.load(tmp_path / "checkpoint.pt", "c", "d") is None


@pytest.mark.parametrize(("config", "data", "what"), [("x", "d", "config"), ("c", "x", "data set")])
def test_a_checkpoint_of_something_else_is_refused_with_both_digests(tmp_path, config, data, what):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state(), config, data)
    with pytest.raises(RunError, match=rf"{path} belongs to another {what}: .* is x, this {what}'s is [cd]; .*--fresh"):
        checkpoint.load(path, "c", "d")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", None])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state(), "c", "d")
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(RunError, match=f"{path} is not a checkpoint .*--fresh"):
        checkpoint.load(path, "c", "d")


def test_a_checkpoint_of_another_form_is_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for content in ({"epoch": 3}, {"state": {"epoch": 3}}):
        torch.save(content, path)
        with pytest.raises(RunError, match="is not a checkpoint"):
            checkpoint.load(path, "c", "d")


def test_a_pickle_that_would_run_code_is_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (marker.touch, ())

    torch.save({"state": Attack()}, tmp_path / "checkpoint.pt")
    with pytest.raises(RunError):
        checkpoint.load(tmp_path / "checkpoint.pt", "c", "d")
    assert not marker.exists()


def test_a_save_that_fails_leaves_the_one_before(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state(), "c", "d")
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save(path, state(optimizer={"state": lambda: None}), "c", "d")
    assert checkpoint.load(path, "c", "d").history == state().history
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_disk_that_is_full_in_the_midst_of_a_save_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state(), "c", "d")
    whole = path.read_bytes()

    def write_half(file, data):
        with file.open("wb") as opened:
            opened.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, state(history=[]), "c", "d")
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
