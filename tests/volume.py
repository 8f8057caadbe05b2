"""How much the tests draw and send: for each change as much as finds what is easily found, and all of it for `make soak`.

Nothing else reads the environment variable SOAK.
"""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

SOAK = os.environ.get("SOAK", "") not in ("", "0")
"""Whether this is `make soak`."""
EXAMPLES = {"ci": 50, "soak": 1000}
"""hypothesis' profiles: how many examples a property is tried on."""
SIMULATIONS = 10_000 if SOAK else 400
"""How often a test of a chance draws: with 10,000, the standard error of a chance of 5 % is 0.2 points, with 400 it is 1.1."""


def generated(count: int) -> Callable[[Any], Any]:
    """This many examples, the same in each run; nothing is made smaller, as a failure says what was sent."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
