"""What the control group of this process says: how many CPUs and how much memory it has, and who was ended for memory.

Version 1 and version 2 of the kernel's control groups, as a container or a service manager has them.
"""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
LIMITS = ("memory.max", "memory.limit_in_bytes")
EVENTS = ("memory.events", "memory.oom_control")
UNLIMITED = 1 << 60
"""Version 1 has no word for no limit, but a number near 2 ** 63."""


def cpu_limit() -> int:
    """Count the CPUs that this process may use: the cgroup's quota where there is one, not the node's cores; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return limit_cores(cores, ROOT)


def limit_cores(cores: int, cgroup: Path) -> int:
    """Limit `cores` to the quota of a cgroup, of version 2 ("QUOTA PERIOD" in microseconds, or "max PERIOD") or 1."""
    of_version_1 = [[f"{folder}/cpu.cfs_{name}_us" for name in ("quota", "period")] for folder in ("cpu", "cpu,cpuacct")]
    for files in (["cpu.max"], *of_version_1):
        try:
            quota, period = " ".join((cgroup / file).read_text() for file in files).split()
            allowed = int(quota) // int(period)
        except (OSError, ValueError):
            continue  # the other version, or "max"
        # A quota below one CPU still needs a worker; -1 is version 1's word for no quota.
        return max(1, min(cores, allowed)) if int(quota) > 0 else cores
    return cores


def memory_limit(root: Path = ROOT, own: Path = OWN) -> int | None:
    """The bytes that this process and all others of its group may have, the least of the groups it is in; None for no limit."""
    limits = [int(text) for folder in _folders(root, own) for name in LIMITS if (text := _read(folder / name)).isdecimal()]
    least = min(limits, default=UNLIMITED)
    return least if least < UNLIMITED else None


def oom_kills(root: Path = ROOT, own: Path = OWN) -> int:
    """How many processes of this group the kernel has ended because the group had no memory left; 0 where it does not say."""
    for folder in _folders(root, own):
        for name in EVENTS:
            counts = dict(line.split(maxsplit=1) for line in _read(folder / name).splitlines() if " " in line)
            if counts.get("oom_kill", "").isdecimal():
                return int(counts["oom_kill"])
    return 0


def _folders(root: Path, own: Path) -> Iterator[Path]:
    """This process's own group and those around it, as far as they can be seen: a container may see its own as the root."""
    paths = {}
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    of_version_1 = next((path for controllers, path in paths.items() if "memory" in controllers.split(",")), None)
    base = root if of_version_1 is None else root / "memory"
    group = base / (of_version_1 or paths.get("", "/")).strip("/")
    for folder in (group, *group.parents):
        if folder.is_dir() and folder.is_relative_to(base):
            yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
