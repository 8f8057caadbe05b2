"""CPUs, memory and kills of a control group, as files of version 1 and 2 say them."""

import os
from pathlib import Path

import pytest

from visor.serving import cgroup

GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("files", "cores", "expected"),
    [
        ({"cpu.max": "max 100000"}, 4, 4),
        ({"cpu.max": "200000 100000"}, 4, 2),
        ({"cpu.max": "250000 100000"}, 4, 2),
        ({"cpu.max": "50000 100000"}, 4, 1),
        ({"cpu.max": "800000 100000"}, 4, 4),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 4, 2),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 4, 2),
        ({"cpu/cpu.cfs_quota_us": "10000", "cpu/cpu.cfs_period_us": "100000"}, 4, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4, 4),
        ({"cpu.max": "not a quota"}, 3, 3),
        ({}, 3, 3),
    ],
)
def test_the_cgroup_limits_the_workers(files: dict[str, str], cores: int, expected: int, tmp_path: Path) -> None:
    write(tmp_path, files)
    assert cgroup.limit_cores(cores, tmp_path) == expected


def test_the_limit_of_this_machine_is_within_its_cores() -> None:
    assert 1 <= cgroup.cpu_limit() <= (os.cpu_count() or 1)


V2, V1 = "0::/a/b", "3:cpu,cpuacct:/x\n2:memory:/a/b\n0::/"
"""What a process of group /a/b reads of itself."""


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2, {"a/b/memory.max": str(GIB)}, GIB),
        (V2, {"a/b/memory.max": "max", "a/memory.max": str(2 * GIB), "memory.max": "max"}, 2 * GIB),
        (V2, {"a/b/memory.max": str(2 * GIB), "a/memory.max": str(GIB)}, GIB),
        ("0::/", {"memory.max": str(GIB)}, GIB),  # a container sees its own group as the root
        (V2, {"memory.max": str(GIB)}, GIB),  # or is told a path of its host
        (V1, {"memory/a/b/memory.limit_in_bytes": str(GIB), "memory/memory.limit_in_bytes": "9223372036854771712"}, GIB),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        (V2, {"a/b/memory.max": "max"}, None),
        (V1, {"memory.max": str(GIB)}, None),  # which is version 2's
        ("", {}, None),
    ],
)
def test_the_memory_limit_is_the_least_around_the_process(
    own: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    write(tmp_path, {"own": own, **{f"cgroup/{name}": text for name, text in files.items()}})
    assert cgroup.memory_limit(tmp_path / "cgroup", tmp_path / "own") == expected


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2, {"a/b/memory.events": "low 0\noom 4\noom_kill 3\noom_group_kill 1", "a/memory.events": "oom_kill 9"}, 3),
        (V1, {"memory/a/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2"}, 2),
        (V1, {"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0"}, 0),  # a kernel before 4.13
        (V2, {}, 0),
    ],
)
def test_kills_are_those_of_the_process_s_own_group(own: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    write(tmp_path, {"own": own, **{f"cgroup/{name}": text for name, text in files.items()}})
    assert cgroup.oom_kills(tmp_path / "cgroup", tmp_path / "own") == expected


def test_this_machine_can_be_asked() -> None:
    limit = cgroup.memory_limit()
    assert limit is None or limit > 0
    assert cgroup.oom_kills() >= 0
