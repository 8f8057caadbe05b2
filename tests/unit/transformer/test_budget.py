"""The budget's arithmetic, the weights beside what CPython really takes, and where the limit is found."""

import contextlib
import json
import os
import threading
import tracemalloc

import orjson
import pytest

from transformer.budget import (
    COUNT_FROM,
    FALLBACK_SHARE,
    LEAST_BYTES,
    MAX_BRACKETS,
    MAX_COMMAS,
    WATCHED_BYTES,
    Budget,
    find_limit,
    find_total,
    weigh_json,
)
from transformer.errors import MemorySpent, RequestTooLarge
from transformer.rest.compression import FREE_BYTES, MAX_RATIO, largest_content

MIB = 1 << 20


def test_charges_fill_it_and_give_back():
    budget = Budget(1000)
    with budget.open() as one, budget.open() as other:
        one.set(300)
        other.set(400)
        assert budget.spent == 700
        other.set(100)
        other.raise_to(50)
        assert budget.spent == 400
        with pytest.raises(MemorySpent, match=r"400 bytes of memory and this one 800, of 1000"):
            other.set(800)
        assert (budget.spent, other.size, budget.refused) == (400, 100, 1)
        one.force(900)  # an answer: it is counted, and not refused
        assert budget.spent == 1300
        other.set(0)
    assert budget.spent == 0


def test_who_watches_hears_of_what_is_worth_it():
    budget, freed = Budget(1 << 30), []
    budget.watchers.append(freed.append)
    for size in (WATCHED_BYTES - 1, WATCHED_BYTES, 0):
        with budget.open() as charge:
            charge.set(size)
    assert freed == [WATCHED_BYTES]


def test_large_requests_leave_room_for_small_ones():
    budget = Budget(6400)
    with contextlib.ExitStack() as stack:
        large, second = (stack.enter_context(budget.open()) for _ in range(2))
        large.set(5000)
        with pytest.raises(MemorySpent):
            second.set(700)
        second.set(600)  # 7/8 of it
        for _ in range(8):
            stack.enter_context(budget.open()).set(99)
        assert budget.spent == 6392
        with pytest.raises(MemorySpent):
            stack.enter_context(budget.open()).set(9)


def test_what_never_fits_is_too_large_and_not_told_to_try_again():
    with Budget(6400).open() as charge, pytest.raises(RequestTooLarge, match="5601 bytes of memory, and one may take 5600"):
        charge.set(5601)


def test_threads_lose_no_byte():
    budget = Budget(1 << 30)

    def work():
        for size in range(2000):
            with budget.open() as charge:
                charge.set(size)
                charge.set(2 * size)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.spent == 0


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b",".join([b"[]"] * 100_000) + b"]",
        b"[" + b",".join([b"{}"] * 100_000) + b"]",
        b"[" + b",".join([b'{"a":[1]}'] * 50_000) + b"]",
        b"[" + b",".join([b'"a"'] * 100_000) + b"]",
        b"[" + b",".join([b"7"] * 200_000) + b"]",
        b"[" + b",".join([b"1.5"] * 100_000) + b"]",
        b"[" + b",".join([b"99999"] * 100_000) + b"]",
        b"[" + b",".join([b"[1,2,3]"] * 50_000) + b"]",
        b"{" + b",".join([b'"k%d":1' % n for n in range(50_000)]) + b"}",
        b'["' + b"A" * MIB + b'"]',
    ],
    ids=lambda text: text[:12].decode(),
)
def test_json_is_weighed_above_what_it_takes(text):
    assert len(text) > COUNT_FROM
    tracemalloc.start()
    try:
        parsed = orjson.loads(text)
        objects = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # orjson's copy of the text, and 16 bytes for each of its values. It allocates 12 bytes for each of the text's, of which
    # only those become memory that are written to.
    copy = len(text) + 16 * sum(text.count(sign) for sign in (b"[", b"{", b",", b":"))
    assert parsed
    assert len(text) + copy + objects <= weigh_json(text, len(text)) <= 5 * (len(text) + copy + objects)


def test_json_is_counted_up_to_its_end_and_no_further():
    text = b"[" + b"," * COUNT_FROM
    assert weigh_json(text + b"[" * 1000, len(text)) == weigh_json(text, len(text))


@pytest.mark.parametrize("text", [b"[" * (MAX_BRACKETS + 1), b"," * (MAX_COMMAS + 1)], ids=["brackets", "commas"])
def test_json_that_would_take_too_long(text):
    with pytest.raises(RequestTooLarge, match="as binary data"):
        weigh_json(text, len(text))


def test_an_ordinary_request_weighs_a_few_times_itself():
    text = json.dumps({"inputs": [{"name": "image", "data": ["A" * MIB] * 4}]}).encode()
    assert weigh_json(text, len(text)) < 3.26 * len(text)


def test_how_long_a_compressed_body_may_become():
    assert largest_content(1, 1 << 30) == FREE_BYTES
    assert largest_content(MIB, 1 << 30) == MAX_RATIO * MIB
    assert largest_content(MIB, 5 * MIB) == 5 * MIB


@pytest.fixture
def machine(tmp_path):
    """Make a machine's files: what is in /proc, and the cgroups' limits by their files."""

    def make(own, limits, pages=1000):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/meminfo").write_text("MemTotal:        8388608 kB\nMemFree: 1 kB\n")
        (tmp_path / "proc/self/cgroup").write_text(own)
        (tmp_path / "proc/self/statm").write_text(f"5000 {pages} 100 1 0 1 0\n")
        for file, limit in limits.items():
            place = tmp_path / "cgroup" / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(limit)
        return tmp_path / "cgroup", tmp_path / "proc"

    return make


V1 = "5:cpu:/x\n4:memory:/kubepods/pod1/c1\n0::/\n"


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": f"{512 * MIB}\n"}, 512 * MIB),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{300 * MIB}\n"}, 300 * MIB),
        ("0::/a/b\n", {"a/b/memory.max": f"{200 * MIB}\n", "a/memory.max": f"{300 * MIB}\n"}, 200 * MIB),
        ("0::/not/mounted/here\n", {"memory.max": f"{512 * MIB}\n"}, 512 * MIB),
        (V1, {"memory/memory.limit_in_bytes": f"{512 * MIB}\n"}, 512 * MIB),
        (V1, {"memory/kubepods/pod1/c1/memory.limit_in_bytes": f"{256 * MIB}\n"}, 256 * MIB),
        (V1, {}, None),
        ("", {"memory.max": "1\n"}, None),
    ],
)
def test_the_limit_is_the_least_of_the_cgroups(machine, own, limits, expected):
    cgroups, _ = machine(own, limits)
    assert find_limit(cgroups, own) == expected


def test_the_total_is_a_share_of_what_the_limit_leaves(machine):
    cgroups, proc = machine("0::/\n", {"memory.max": f"{512 * MIB}\n"})
    resident = 1000 * os.sysconf("SC_PAGE_SIZE")
    assert find_total(0.5, cgroups, proc) == (512 * MIB - resident) // 2


@pytest.mark.parametrize("limit", ["max\n", "9223372036854771712\n"])
def test_without_a_limit_it_is_of_a_part_of_the_machine(machine, limit):
    cgroups, proc = machine("0::/\n", {"memory.max": limit})
    resident = 1000 * os.sysconf("SC_PAGE_SIZE")
    assert find_total(0.5, cgroups, proc) == int((int(8 * 1024 * MIB * FALLBACK_SHARE) - resident) * 0.5)


def test_a_limit_that_leaves_nothing_leaves_the_least(machine):
    cgroups, proc = machine("0::/\n", {"memory.max": "1000\n"})
    assert find_total(0.6, cgroups, proc) == LEAST_BYTES
