"""Connections by a clock that stands still until it is moved."""

from loadtests.connections import IDLE_S, Connections


class Client:
    closed = False

    def close(self) -> None:
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_last_used_is_used_next() -> None:
    pool = Connections(Client, Clock())
    first, second = pool.take(), pool.take()
    assert first is not second
    pool.give_back(second)
    pool.give_back(first)
    assert [pool.take(), pool.take()] == [first, second]


def test_what_was_idle_for_long_is_closed() -> None:
    clock = Clock()
    pool = Connections(Client, clock)
    old, young = pool.take(), pool.take()
    pool.give_back(old)
    clock.now = IDLE_S
    pool.give_back(young)
    assert pool.take() is young
    pool.give_back(young)
    clock.now = 2.5 * IDLE_S
    fresh = pool.take()
    assert fresh not in (old, young)
    assert (old.closed, young.closed, fresh.closed) == (True, True, False)


def test_the_end_closes_all() -> None:
    pool = Connections(Client, Clock())
    clients = [pool.take() for _ in range(3)]
    for client in clients:
        pool.give_back(client)
    pool.close()
    assert all(client.closed for client in clients)
