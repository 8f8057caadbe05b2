"""A file that others replace while the edge runs: a Secret's or a ConfigMap's in a pod, or one that a person writes."""

import os
from pathlib import Path

LOOK_S = 1.0
"""How long a changed file may go unnoticed."""

_State = tuple[int, int, int]


class Followed:
    """A file, and what it was like when it was looked at last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = _state(path)

    def changed(self) -> bool:
        """Whether it was written, replaced, made or taken away since the last look, which this one becomes."""
        before, self._state = self._state, _state(self.path)
        return before != self._state


def _state(path: Path) -> _State | None:
    """What differs once a file was written or replaced, by a rename or by Kubernetes' symlinks; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - every second, and 3 µs
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
