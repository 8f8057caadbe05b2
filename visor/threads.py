"""Threads in which tritonclient is asked over REST.

Its connections and its event loop, gevent's, belong to the thread that made them, and the loop leaves two files open when that
thread ends. So other threads than the main one have a few that last ask for them.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST = 16
"""Requests at a time from all threads but the main one; more wait."""

Result = TypeVar("Result")


class _Lasting:
    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.pool = ThreadPoolExecutor(MOST, thread_name_prefix="visor-client")  # which starts none before it is asked


_lasting = _Lasting()
os.register_at_fork(after_in_child=_lasting.renew)  # to which no thread but one comes along


def in_lasting_thread(call: Callable[[], Result]) -> Result:
    """Call in a thread that does not end before the process: the main one where it is this one. Raises what `call` raises."""
    if threading.current_thread() is threading.main_thread():
        return call()
    return _lasting.pool.submit(call).result()
