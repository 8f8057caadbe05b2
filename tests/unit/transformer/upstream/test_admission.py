"""The line before TorchServe, against a naive model of it: who goes, who waits, who is refused."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.errors import ServerOverloaded
from transformer.settings import EdgeLimits
from transformer.upstream.admission import AdmissionQueue


def gone(turns):
    return [turn.done() for turn in turns]


async def test_slots_first_then_the_line_then_a_refusal():
    queue = AdmissionQueue(slots=2, max_waiting=3)
    with queue.admit(5) as turns:
        assert gone(turns) == [True, True, False, False, False]
        assert len(queue) == 3
        with pytest.raises(ServerOverloaded, match=r"^server\.overloaded: 3 images are waiting, and 3 may"), queue.admit(1):
            pass
    assert len(queue) == 0


async def test_who_came_first_goes_first():
    queue = AdmissionQueue(slots=1, max_waiting=9)
    with queue.admit(1) as first, queue.admit(2) as second, queue.admit(1) as third:
        order = []
        for _ in range(4):
            order.append([*gone(first), *gone(second), *gone(third)].count(True))
            last = [turn for turn in [*first, *second, *third] if turn.done()][-1]
            queue.detach(last)()
        assert order == [1, 2, 3, 4]


async def test_a_request_that_leaves_takes_its_images_out_of_the_line():
    queue = AdmissionQueue(slots=1, max_waiting=9)
    with queue.admit(1):
        with queue.admit(3):
            assert len(queue) == 3
        assert len(queue) == 0
        with queue.admit(1) as next_one:
            assert gone(next_one) == [False]
    with queue.admit(1) as after:
        assert gone(after) == [True]


async def test_a_turn_that_was_cancelled_in_line_does_not_hold_up_the_next():
    queue = AdmissionQueue(slots=1, max_waiting=9)
    with queue.admit(1) as first, queue.admit(1) as second, queue.admit(1) as third:
        second[0].cancel()
        queue.detach(first[0])()
        assert gone(third) == [True]
        assert len(queue) == 0


async def test_a_kept_turn_outlives_its_request():
    queue = AdmissionQueue(slots=1, max_waiting=9)
    with queue.admit(1) as turns:
        end = queue.detach(turns[0])
    with queue.admit(1) as later:
        assert gone(later) == [False]
        end()
        assert gone(later) == [True]
        end()  # a second time changes nothing
    with queue.admit(2) as both:
        assert gone(both) == [True, False]


async def test_a_request_longer_than_the_line_is_taken_when_nobody_is_in_it():
    queue = AdmissionQueue(slots=2, max_waiting=4)
    with queue.admit(50) as turns:
        assert gone(turns).count(True) == 2
        assert len(queue) == 48
        with pytest.raises(ServerOverloaded):
            queue.check(50)
    with queue.admit(3):
        with pytest.raises(ServerOverloaded):
            queue.check(50)
        queue.check(3)


async def test_more_workers_take_more_at_once():
    queue = AdmissionQueue(slots=1, max_waiting=9)
    with queue.admit(5) as turns:
        queue.resize(slots=4, max_waiting=1)
        assert gone(turns) == [True] * 4 + [False]
        with pytest.raises(ServerOverloaded):
            queue.check()


async def test_where_fewer_workers_are_left_with_more_than_their_share_the_line_is_as_long_as_ever():
    queue = AdmissionQueue(slots=4, max_waiting=2)
    with queue.admit(4) as turns:
        ends = [queue.detach(turn) for turn in turns]
    queue.resize(slots=1, max_waiting=2)
    with queue.admit(2):
        assert len(queue) == 2
        with pytest.raises(ServerOverloaded):
            queue.check()
        for end in ends[:3]:
            end()
        assert len(queue) == 2
        ends[3]()
        assert len(queue) == 1


@given(st.lists(st.integers(1, 6), max_size=12), st.integers(1, 4), st.integers(1, 8))
def test_the_bound_holds_whatever_comes(counts, slots, max_waiting):
    """Naive: what is in the server is a number, and a request is taken if the number stays within slots and line."""

    async def run():
        queue = AdmissionQueue(slots, max_waiting)
        inside, taken = 0, []  # contexts too: one that is forgotten is left
        for count in counts:
            fits = inside + min(count, max_waiting) <= slots + max_waiting
            context = queue.admit(count)
            if fits:
                taken.append((context, context.__enter__()))
                inside += count
            else:
                with pytest.raises(ServerOverloaded):
                    context.__enter__()
        assert sum(gone(turn for _, turns in taken for turn in turns)) == min(inside, slots)
        assert len(queue) == max(0, inside - slots)

    asyncio.run(run())


def test_room_follows_the_workers_and_what_one_request_may_bring():
    assert EdgeLimits(max_images=64).room(workers=1) == (2, 64)
    assert EdgeLimits(max_images=64).room(workers=8) == (16, 256)
    assert EdgeLimits(max_images=64, concurrency=5, max_queue=7).room(workers=8, image_s=0.001) == (5, 7)


def test_what_waits_is_answered_in_four_tenths_of_a_second_where_the_network_is_fast():
    limits = EdgeLimits(max_images=64)
    assert limits.room(workers=2, image_s=0.005) == (4, 160)
    assert limits.room(workers=2, image_s=0.02) == (4, 64)  # 40 in that time, but a request may bring 64
    assert limits.room(workers=4, image_s=0.02) == (8, 128)  # 32 a worker
