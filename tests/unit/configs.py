"""Configs for tests: everything that a test does not name is as small as may be."""

from typing import Any

from training.config import Config


def make_config(**sections: Any) -> Config:
    """Make a config of `small_cnn` for pictures of 16 x 16 and one epoch.

    `sections`: its keys; what stands in a mapping here is kept where the test's own mapping does not name it.
    """
    given: dict[str, Any] = {
        "name": "test",
        "data": {"source": "digits"},
        "preprocessing": {"height": 16, "width": 16, "mean": [0.5] * 3, "std": [0.5] * 3},
        "model": {"network": "small_cnn"},
        "backend": "torch",  # an export takes seconds
        "fit": {"phases": [{"epochs": 1, "learning_rate": 0.1}], "threads": 1},
    }
    for name, value in sections.items():
        given[name] = {**given.get(name, {}), **value} if isinstance(value, dict) else value
    return Config.model_validate(given)
