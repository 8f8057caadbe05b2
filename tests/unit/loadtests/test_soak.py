"""A soak's windows and the growth of memory: arithmetic, and how often what does not grow is accused."""

import math
import os

import numpy as np
import pytest
from scipy.stats import linregress
from scipy.stats import t as student

from loadtests import processes, soak
from loadtests.samples import Sample

MIB = soak.MIB


@pytest.mark.parametrize("freedom", [3, 4.5, 10, 18, 100, 1000])
def test_student_s_quantile_is_near_enough(freedom):
    assert soak.student(freedom) == pytest.approx(student.ppf(0.975, freedom), rel=0.005)


def test_a_line_with_noise_that_is_not_correlated_has_the_usual_interval():
    """The residuals alternate, so that nothing is taken off."""
    points = [(float(n), 300 + 0.5 * n + (1 if n % 2 else -1)) for n in range(20)]
    found = soak.growth(points)
    usual = linregress(*zip(*points, strict=True))
    assert found.mib_per_min == pytest.approx(usual.slope)
    half = student.ppf(0.975, 18) * usual.stderr
    assert (found.low, found.high) == pytest.approx((usual.slope - half, usual.slope + half), rel=1e-3)


def test_noise_that_lasts_widens_the_interval():
    """By hand: r is the residuals' correlation, n (1 - r) / (1 + r) - 2 the freedom."""
    noise = [0, 1, 1, 0, -1, -1, 0, 1, 1, 0, -1, -1, 0, 1, 1, 0, -1, -1, 0, 1]
    points = [(float(n), 300 + value) for n, value in enumerate(noise)]
    usual = linregress(*zip(*points, strict=True))
    rest = np.array([y - usual.intercept - usual.slope * x for x, y in points])
    r = (rest[1:] * rest[:-1]).sum() / (rest**2).sum()
    freedom = 20 * (1 - r) / (1 + r) - 2
    half = student.ppf(0.975, freedom) * math.sqrt((rest**2).sum() / freedom / np.var(np.arange(20)) / 20)
    found = soak.growth(points)
    assert r > 0.3
    assert found.high - found.low == pytest.approx(2 * half, rel=0.005)


def test_what_cannot_be_known_is_not_said():
    assert math.isnan(soak.growth([(0.0, 1.0), (1.0, 2.0)]).mib_per_min)
    straight = soak.growth([(float(n), 300 + 2.0 * n) for n in range(10)])
    assert (straight.low, straight.mib_per_min, straight.high) == pytest.approx((2, 2, 2))
    walk = soak.growth([(float(n), 300 + value) for n, value in enumerate([0, 1, 2, 3, 3, 2, 1, 0])])
    assert math.isinf(walk.high)


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_memory_that_stays_is_seldom_accused_and_memory_that_grows_is_found(kept):
    """1,000 soaks of 20 windows whose noise lasts by `kept`; one tail of 2.5 % accuses."""
    rng = np.random.default_rng(3)
    accused = found = 0
    for _ in range(1000):
        noise = np.zeros(20)
        for n, step in enumerate(rng.normal(0, 2, 20)):
            noise[n] = kept * noise[n - 1] + step if n else step / math.sqrt(1 - kept**2)
        still = [(float(n), 300 + value) for n, value in enumerate(noise)]
        accused += bool(soak.growth(still).low > 0)
        found += soak.growth([(n, y + 1.5 * n) for n, y in still]).low > 0
    assert accused <= 60
    assert found >= 950


def test_windows_and_growth_are_of_their_part_of_the_run():
    """30 windows of 2 s: a request each second of 20 ms, but one that fails; memory grows in the first third alone."""
    samples = [Sample("grpc", n, n, n + 0.02, "status.500" if n == 31 else "") for n in range(60)]
    memory = [(float(n), (100 + min(n, 20)) * MIB + n % 2) for n in range(60)]
    figures = soak.measure(samples, memory, 1.0, 60.0)
    assert [at for at, _ in figures.windows] == [2.0 * n for n in range(30)]
    assert [window.failed for _, window in figures.windows] == [int(n == 15) for n in range(30)]
    assert figures.growth is not None
    assert abs(figures.growth.mib_per_min) < 1e-3
    assert soak.judge_soak(figures) == []


@pytest.mark.parametrize(
    ("per_min", "words"),
    [
        (2.0, "soak: memory MiB/min 2 > 1"),
        (0.3, "soak: lower end of memory MiB/min 0.3"),
        (-3.0, ""),
    ],
)
def test_growth_is_a_violation(per_min, words):
    memory = [(float(n), round((500 + per_min * n / 60) * MIB)) for n in range(0, 1800, 10)]
    violations = soak.judge_soak(soak.measure([Sample("grpc", 0, 0, 0.02)], memory, 1.0, 1800.0))
    assert [str(one)[: len(words)] for one in violations] == ([words] if words else [])


def test_without_the_servers_processes_memory_is_not_judged():
    figures = soak.measure([Sample("grpc", 0, 0, 0.02)], [], 1.0, 60.0)
    assert (figures.growth, soak.judge_soak(figures)) == (None, [])


def test_this_process_has_memory_and_cpu_time():
    assert processes.resident_bytes(os.getpid()) > 10 * MIB
    assert 0 < processes.own_cpu_seconds() <= processes.cpu_seconds(os.getpid()) + 0.1
    assert processes.cores() >= 1
    assert (processes.resident_bytes(1 << 22), processes.cpu_seconds(1 << 22)) == (0, 0.0)
