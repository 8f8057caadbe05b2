"""Paths as callers give them."""

import os
from pathlib import Path

from handlers.errors import OptionError, VisorError


def path_of(path: str | os.PathLike[str], what: str, error: type[VisorError] = OptionError) -> Path:
    """Make a path of what was given as `what`. Raises `error` where that is none."""
    try:
        return Path(path)
    except TypeError as err:
        raise error(f"{what} must be a path, got {path!r}; give a str or a pathlib.Path") from err
