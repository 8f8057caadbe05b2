"""hypothesis' profiles `ci` and `soak`, and one thread a process."""

import os

import pytest

from tests.volume import EXAMPLES, SOAK

# Tests run two at a time, on two cores or a few more, and the processes that they start run beside each other, too: threads
# within them mostly wait for one another [the unit tests' CPU time: 7.4 minutes with two threads each, 4.2 with one].
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Without hypothesis' plugin, as the conformance suite runs, there is nothing to set and no second to spend on its import."""
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import settings

        for name, examples in EXAMPLES.items():
            # No deadline: how long an example takes says more of what else the machine does.
            settings.register_profile(name, max_examples=examples, deadline=None)
        settings.load_profile("soak" if SOAK else "ci")
