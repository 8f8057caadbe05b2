"""The lock: one at a time, in the order in which they asked, and nobody waits longer than they said."""

import threading
import time

from console.reviews.turns import FairLock


def test_threads_get_the_lock_in_the_order_in_which_they_asked() -> None:
    lock, got = FairLock(), []
    assert lock.acquire(1)

    def ask(number: int) -> None:
        assert lock.acquire(30)
        got.append(number)
        lock.release()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for number, thread in enumerate(threads):
        thread.start()
        while len(lock._waiting) <= number:
            time.sleep(0.001)
    lock.release()
    for thread in threads:
        thread.join()
    assert got == list(range(8))


def test_who_releases_it_does_not_get_it_again_before_one_who_waits() -> None:
    lock, end = FairLock(), threading.Event()
    assert lock.acquire(1)

    def wait() -> None:
        assert lock.acquire(30)
        end.wait(30)
        lock.release()

    other = threading.Thread(target=wait)
    other.start()
    while not lock._waiting:
        time.sleep(0.001)
    lock.release()
    assert not lock.acquire(0.05)  # it is the other's already, even if that has not run yet
    end.set()
    assert lock.acquire(30)
    other.join()


def test_who_waited_in_vain_leaves_the_line() -> None:
    lock = FairLock()
    assert lock.acquire(1)
    assert not lock.acquire(0.01)
    lock.release()
    assert lock.acquire(0.01)


def test_eight_threads_count_without_losing_any() -> None:
    lock, counted = FairLock(), [0]

    def count() -> None:
        for _ in range(500):
            while not lock.acquire(0.0005):
                pass  # many give up and ask again, some of them just as it is handed to them
            before = counted[0]
            time.sleep(0)
            counted[0] = before + 1
            lock.release()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [4000]
