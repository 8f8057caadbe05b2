"""How PyTorch and the C library behave while this process computes."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from training import settings
from training.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Use deterministic algorithms and this number of threads inside the block; settings and random state outside stay."""
    filling: Any = torch.utils.deterministic
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), filling.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(True)
            # Nothing here reads memory that it did not write; filling it first would cost a pass over every tensor.
            filling.fill_uninitialized_memory = False
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])
            filling.fill_uninitialized_memory = before[2]


def keep_freed_memory() -> None:
    """Have glibc keep the pages of freed tensors for the next ones, for the rest of the process.

    By default each large tensor is fresh pages from the kernel, which zeroes them: half the time of a forward pass
    [EfficientNet-Lite0, 192 x 192, batches of 32: 15 → 7.5 ms an image]. Where the C library has no mallopt, nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def device_of(name: str) -> torch.device:
    """Return the device of fit.device; of several GPUs, each of torchrun's processes takes its own. Raises ConfigError."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if settings.local_rank() >= count:
        raise ConfigError(
            f"fit.device {name}: PyTorch sees {count} GPUs, and process {settings.local_rank()} of this node finds none; "
            "take fit.device cpu, or a PyTorch with CUDA and a GPU for each process"
        )
    settings.prepare_cuda()
    return torch.device("cuda", settings.local_rank())


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Make the context that computes in bfloat16 where autocast deems it safe. "auto" does so on GPUs that support it."""
    bf16 = precision == "bf16" or (precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)
