"""All that an interrupted fit needs to go on as if nothing had happened, in one file that is whole or not there."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archives.files import replacing
from training.errors import RunError

Weights = dict[str, Tensor]
Epoch = dict[str, float]
"""One epoch's metrics, by name."""


@dataclass(frozen=True)
class State:
    """Where a fit stands after an epoch.

    `phase` and `epoch` count what is done; `stale`: epochs since `best_loss`, the least validation loss, was seen with
    the weights `best`; `optimizer` and `average`, the moving average of the weights, are None between phases; `history`: one
    entry an epoch, over all phases. No generator's state is needed, because every random number is drawn from (seed, epoch).
    """

    weights: Weights
    best: Weights
    best_loss: float = float("inf")
    phase: int = 0
    epoch: int = 0
    stale: int = 0
    optimizer: dict[str, Any] | None = None
    average: Weights | None = None
    history: list[Epoch] = field(default_factory=list)


def save(path: Path, state: State, config_digest: str, dataset_digest: str) -> None:
    """Write a checkpoint, replacing the one before it in one step."""
    fields = {name: getattr(state, name) for name in State.__dataclass_fields__}
    # By way of memory: torch tells of a full disk in a RuntimeError about positions, where a file says what it is.
    written = io.BytesIO()
    torch.save({"config_digest": config_digest, "dataset_digest": dataset_digest, "state": fields}, written)
    with replacing(path) as temporary:
        temporary.write_bytes(written.getbuffer())


def load(path: Path, config_digest: str, dataset_digest: str) -> State | None:
    """Read the checkpoint, None where there is none. Raises RunError when it belongs to another config or data set."""
    if not path.exists():
        return None
    try:
        # weights_only: tensors, numbers, strings and containers, and nothing that could run.
        read = torch.load(path, map_location="cpu", weights_only=True)
        state = State(**read["state"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as err:
        raise RunError(f"{path} is not a checkpoint ({err}); start over with --fresh") from err
    check_same(path, read, {"config_digest": config_digest, "dataset_digest": dataset_digest})
    return state


def check_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    """Raise RunError, with both digests, where `path` was written for another config or other data."""
    for name, digest in wanted.items():
        if found.get(name) != digest:
            what = name.removesuffix("_digest").replace("dataset", "data set")
            raise RunError(
                f"{path} belongs to another {what}: its {name} is {found.get(name)}, this {what}'s is {digest}; "
                f"start over with --fresh, or keep it and choose another folder with --out"
            )
