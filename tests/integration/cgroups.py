"""Memory cgroups of the kernel's version 1 or 2, for tests that hold a server to a container's limit."""

import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20
END_S = 20.0


def make_cgroup(name: str, limit: int) -> Path | None:
    """Make a group of so many bytes of memory; None where this user may not, or where there is no memory controller."""
    version_1 = ROOT / "memory"
    root, file = (version_1, "memory.limit_in_bytes") if version_1.is_dir() else (ROOT, "memory.max")
    place = root / name
    try:
        if root == ROOT:
            (root / "cgroup.subtree_control").write_text("+memory")
        place.mkdir()
    except OSError:
        return None
    try:
        (place / file).write_text(str(limit))
    except OSError:
        place.rmdir()
        return None
    return place


def remove_cgroup(group: Path) -> None:
    """Remove a group once its processes have ended."""
    deadline = time.monotonic() + END_S
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    group.rmdir()


def enter(group: Path | None) -> tuple[str, ...]:
    """What a command begins with so that it, and all that it starts, is in the group; nothing for none."""
    return () if group is None else ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"))


def oom_kills(group: Path) -> int:
    """How many of the group's processes the kernel has killed for its limit."""
    text = "".join(path.read_text() for name in ("memory.events", "memory.oom_control") if (path := group / name).exists())
    return int(dict(line.split() for line in text.splitlines())["oom_kill"])
