"""Where figures were measured; without it they say nothing."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path


def describe(packages: Sequence[str]) -> dict[str, str]:
    """CPU, cores that this process may use, memory, kernel, Python and the versions of packages."""
    versions = {name: metadata.version(name) for name in packages}
    return {
        "cpu": _first(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _first(Path("/proc/meminfo"), "MemTotal"),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **versions,
    }


def _first(file: Path, key: str) -> str:
    """The value of the first `key : value` line; "" where the system has no such file."""
    if not file.exists():
        return ""
    lines = (line.partition(":") for line in file.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")
