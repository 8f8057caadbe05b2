"""The one loop that waits for a release: what it waits for is logged once, a failure ends it early, and the deadline says why."""

import logging
import time
from collections.abc import Callable

from rollout.canary import State
from rollout.errors import ClusterUnreachable, NotReady, StartFailed

logger = logging.getLogger(__name__)

POLL_S = 1.0
# A failure is believed once it lasts: pods of the release before may be seen for a moment. Less than the 10 s that
# Kubernetes waits before it starts a container again for the first time, so that this is seen as one failure.
FAILURE_LASTS_S = 5.0


def wait_until_ready(name: str, read: Callable[[], State], timeout_s: float, consequence: str = "") -> None:
    """Poll `read` until the state is ready. An API server that does not answer is waited for.

    `consequence`: said with each error. Raises StartFailed, NotReady, ClusterError.
    """
    deadline = time.monotonic() + timeout_s
    failing_since = None
    told = ""
    while not (seen := _try(read)).ready:
        now = time.monotonic()
        if seen.failure:
            failing_since = failing_since or now
            if now - failing_since >= FAILURE_LASTS_S or now >= deadline:
                raise StartFailed(f"{name} cannot start{consequence}: {seen.failure}")
        else:
            failing_since = None
        if now >= deadline:
            raise NotReady(f"{name} was not ready within {timeout_s:g} s{consequence}: {seen.waiting}")
        if told != (told := seen.failure or seen.waiting):
            logger.info("waiting for %s: %s", name, told)
        time.sleep(POLL_S)
    logger.info("%s is ready", name)


def _try(read: Callable[[], State]) -> State:
    try:
        return read()
    except ClusterUnreachable as err:
        return State(waiting=str(err))
