"""One budget in bytes for all that is under way in the edge: bodies, messages, what they become once parsed, and answers.

A request is charged before its bytes are read and before they are parsed, by what both cost at their peak; it is refused, not
killed, where that is more than is left. The weights are those of CPython, orjson and protobuf's upb on 64 bits, rounded up.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from transformer.errors import MemorySpent, RequestTooLarge
from transformer.flags import MIB

LARGE_SHARE = 7 / 8
"""The part of the budget that large requests may fill; the rest is for small ones, which are never many bytes."""

LARGE = 1 / 64
"""The part of the budget from which on a request is a large one."""

FALLBACK_SHARE = 1 / 4
"""The part of a machine's memory that the edge takes for its own where no cgroup limits it."""

LEAST_BYTES = 32 * MIB

WATCHED_BYTES = 1 << 20
"""Bytes given back at once of which the budget's watchers hear."""

BODY_WEIGHT = 1.25
"""Bytes for each one of a body: the body, which grows in place, and what of it waits in buffers on its way to a worker."""

JSON_WEIGHT = 3.25
"""Bytes for each one of JSON: the text, orjson's copy, and its strings, of which images in base64 are made."""

OBJECT_BYTES, LIST_BYTES, COMMA_BYTES, QUOTE_BYTES = 256, 104, 48, 40
"""What `{`, `[`, `,` and `"` cost beside: a dict, a list, an element and its number, half a string, each in orjson's copy too."""

COUNT_FROM = 256 << 10
"""Bytes of JSON below which nothing is counted: an ordinary picture is not looked through, and they become 13 MiB at most."""

MAX_BRACKETS, MAX_COMMAS = 3_000_000, 8_000_000
"""More take orjson and NumPy so long that health checks would wait: both hold Python's lock meanwhile."""


class Budget:
    """A number of bytes that charges may fill together. `spent`: what they fill now; `refused`: charges that found no room."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.spent = 0
        self.refused = 0
        self.watchers: list[Callable[[int], object]] = []  # each is called with the bytes that were given back, where many
        self._lock = threading.Lock()

    def open(self) -> "Charge":
        """Begin to charge a request."""
        return Charge(self)

    @property
    def largest(self) -> int:
        """The largest charge that is ever granted."""
        return int(self.total * LARGE_SHARE)

    def force(self, more: int) -> None:
        """Charge more, whatever is left."""
        with self._lock:
            self.spent += more

    def change(self, old: int, new: int) -> None:
        """Charge `new` bytes in place of `old`. Raises MemorySpent, or RequestTooLarge where it would never be granted."""
        with self._lock:
            spent = self.spent - old + new
            if new > old and spent > (self.largest if new >= LARGE * self.total else self.total):
                self.refused += 1
                if new > self.largest:
                    raise RequestTooLarge(
                        f"the request takes {new} bytes of memory, and one may take {self.largest} of this server's; "
                        "send fewer or smaller images, as binary data and not as JSON"
                    )
                raise MemorySpent(
                    f"requests under way take {self.spent} bytes of memory and this one {new}, of {self.total}; "
                    "try again in a second, or elsewhere"
                )
            self.spent = spent


class Charge:
    """What one request is charged, until the end of its context. `size`: in bytes."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def set(self, size: float) -> None:
        """Charge this much from now on. Raises MemorySpent and RequestTooLarge; the charge before is then kept."""
        new = int(size)
        self._budget.change(self.size, new)
        self.size = new

    def raise_to(self, size: float) -> None:
        """Charge at least this much. Raises as `set` does."""
        if size > self.size:
            self.set(size)

    def force(self, more: int) -> None:
        """Charge this much more, whatever is left: the work is done, and only its answer is in the way."""
        self._budget.force(more)
        self.size += more

    def close(self) -> None:
        """Give all of it back."""
        freed, self.size = self.size, 0
        if freed:
            self._budget.change(freed, 0)
            if freed >= WATCHED_BYTES:
                for watch in self._budget.watchers:
                    watch(freed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def weigh_json(body: bytes | bytearray, end: int) -> float:
    """The bytes that parsing the first `end` of a body takes, counted before any object is made.

    Raises RequestTooLarge where it would take too long.
    """
    if end <= COUNT_FROM:
        return JSON_WEIGHT * end
    objects, lists, commas = (body.count(sign, 0, end) for sign in (b"{", b"[", b","))
    if objects + lists > MAX_BRACKETS or commas > MAX_COMMAS:
        raise RequestTooLarge(
            f"the JSON has {objects + lists} brackets and {commas} commas, of which {MAX_BRACKETS} and {MAX_COMMAS} are read; "
            "send images encoded, or pixels as binary data"
        )
    quotes = body.count(b'"', 0, end)
    return JSON_WEIGHT * end + OBJECT_BYTES * objects + LIST_BYTES * lists + COMMA_BYTES * commas + QUOTE_BYTES * quotes


def find_total(share: float, cgroups: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> int:
    """The bytes for requests under way: this share of what the container's limit leaves beside the process as it is now.

    Without a limit it is that of a quarter of the machine's memory.
    """
    machine = int(_read(proc / "meminfo").split("MemTotal:")[1].split()[0]) * 1024
    limit = find_limit(cgroups, _read(proc / "self/cgroup"))
    memory = limit if limit is not None and limit < machine else int(machine * FALLBACK_SHARE)
    resident = int(_read(proc / "self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return max(LEAST_BYTES, int((memory - resident) * share))


def find_limit(cgroups: Path, own: str) -> int | None:
    """The least memory limit of a process's cgroup and those above it, in version 2 or 1; None for none.

    `own`: the process's /proc/self/cgroup. Within a container the root is the container's own cgroup, whatever the path says.
    """
    limits = []
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, name = (cgroups, "memory.max") if controllers == "" else (cgroups / "memory", "memory.limit_in_bytes")
        place = root / path.lstrip("/")
        for folder in (root, *(one for one in (place, *place.parents) if one.is_relative_to(root))):
            with contextlib.suppress(OSError, ValueError):  # not there, or "max"
                limits.append(int((folder / name).read_text()))
    return min(limits, default=None)


def _read(file: Path) -> str:
    return file.read_text()
