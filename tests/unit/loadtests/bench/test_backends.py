"""Each way of one image takes its turns, the least of its CPU time counts, and ratios are to eager torch."""

import time

from loadtests.bench.backends import AS_BUILT, EAGER, TURN, measure, table


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_ways_take_turns_and_the_least_cpu_time_counts() -> None:
    seen: list[tuple[str, bytes]] = []

    def busy(image: bytes) -> None:
        seen.append(("busy", image))
        burn(0.001 if len(seen) == 1 else 0.003)

    def idle(image: bytes) -> None:
        seen.append(("idle", image))
        time.sleep(0.002)

    least = measure({"busy": busy, "idle": idle}, [b"a", b"b", b"c"], rounds=2)
    turn = [b"abc"[number % 3 : number % 3 + 1] for number in range(TURN)]
    assert seen == [(name, image) for _ in range(2) for name in ("busy", "idle") for image in turn]
    assert 1.0 <= least["busy"] < 3.0  # its first call was the quickest
    assert least["idle"] < 1.0  # to wait costs no CPU


def test_ratios_are_to_eager_torch() -> None:
    rows = table({EAGER: 30.0, AS_BUILT: 24.0, "openvino": 10.0}).splitlines()[2:]
    assert rows == [f"| {EAGER} | 30.00 | 1.00 |", f"| {AS_BUILT} | 24.00 | 1.25 |", "| openvino | 10.00 | 3.00 |"]
