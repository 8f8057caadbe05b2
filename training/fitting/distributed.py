"""Several processes of torchrun that fit one network: each computes the gradient of its part of a batch, and they add up."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from training import settings
from training.errors import ConfigError, RunError

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: the first one fetches and decodes images meanwhile."""


@dataclass(frozen=True)
class Group:
    """The processes that fit together. `rank`: this one's number; the first, 0, alone writes and reports."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Tell whether this process is the one that writes and reports."""
        return self.rank == 0

    def share(self, value: Any) -> Any:
        """Send the first process's value to all processes, and return it."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def add(self, *numbers: float) -> list[float]:
        """Sum each number over the processes, in float64."""
        if self.size == 1:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(summed)
        return [float(number) for number in summed]

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()


ALONE = Group()


@contextmanager
def joined() -> Iterator[Group]:
    """Join the group of torchrun's processes; ALONE without torchrun. Raises ConfigError, and RunError when another one ended."""
    rank, size = settings.rank(), settings.world_size()
    if rank >= size:
        raise ConfigError(f"RANK {rank} needs a larger WORLD_SIZE, as torchrun sets both, got {size}")
    if size == 1:
        yield ALONE
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield Group(rank, size)
    except RuntimeError as err:
        if not (isinstance(err, distributed.DistError) or "gloo" in str(err)):
            raise
        raise RunError(
            f"another of torchrun's {size} processes has ended, and its own last line says why; "
            "the same command goes on from the last epoch"
        ) from err
    finally:
        distributed.destroy_process_group()


@contextmanager
def synchronised(model: nn.Module, group: Group) -> Iterator[None]:
    """Have BatchNorm take the statistics of all processes' images inside the block, as one process with all of them would.

    PyTorch's own SyncBatchNorm does so on GPUs alone.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)] if group.size > 1 else []
    for norm in norms:
        setattr(norm, "forward", functools.partial(_normalise, norm))  # noqa: B010, which mypy will not have otherwise
    try:
        yield
    finally:
        for norm in norms:
            delattr(norm, "forward")


class _Sum(torch.autograd.Function):
    """The sum over processes, of values and, backwards, of the gradients that each process has for it."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        summed = value.clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone()
        distributed.all_reduce(summed)
        return summed


def _normalise(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """Ioffe & Szegedy 2015, algorithm 1, over all processes; then what timm's layer does beside it. maps: (N, C, h, w)."""
    if not norm.training or norm.running_mean is None or norm.running_var is None or norm.momentum is None:
        return type(norm).forward(norm, maps)
    count = _sum(maps.new_tensor([maps.numel() / maps.shape[1]]))
    mean = _sum(maps.sum(dim=(0, 2, 3))) / count  # (C,)
    centred = maps - mean[:, None, None]
    variance = _sum((centred**2).sum(dim=(0, 2, 3))) / count
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    scale, shift = norm.weight / torch.sqrt(variance + norm.eps), norm.bias
    normalised: Tensor = centred * scale[:, None, None] + shift[:, None, None]
    for name in ("drop", "act"):
        if hasattr(norm, name):
            normalised = getattr(norm, name)(normalised)
    return normalised


def _sum(value: Tensor) -> Tensor:
    summed: Tensor = _Sum.apply(value)
    return summed
