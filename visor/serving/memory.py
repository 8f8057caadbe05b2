"""How much memory serving an archive takes: Java and what all share, and for each worker the archive and one picture.

The chart's memory limit and docs/kubernetes.md are this sum; `tests/unit/visor/serving/test_memory.py` compares them. A worker
answers one picture at a time, and none takes more than its part: it is held to that by a limit of its own, so that pictures
that come at once cannot add up to more than the sum.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visor.errors import MemoryShort

if TYPE_CHECKING:
    from handlers.spec import Limits

logger = logging.getLogger(__name__)

MIB = 1 << 20
HEAP, DIRECT = 64 * MIB, 32 * MIB
"""Java's heap, and its memory outside of it, where nothing is under way."""
HEAP_PER_WORKER, DIRECT_PER_WORKER = 48 * MIB, 48 * MIB
"""What more it may have for each worker: two pictures of 20 MiB, for archives whose workers the edge cannot ask directly."""
JAVA_ITSELF = 112 * MIB
"""Java's code, classes, threads and collector."""
SUPERVISOR = 64 * MIB
"""The process that runs TorchServe in a pod."""
BODY = 65 * MIB
"""The largest request. The edge refuses larger ones, so TorchServe never has to: it would close without a word."""
LIBRARIES = {"torch": 320 * MIB, "openvino": 72 * MIB, "openvino-int8": 72 * MIB}
"""Files that all workers have mapped once, by backend."""
LOADED = {"torch": 448 * MIB, "openvino": 56 * MIB, "openvino-int8": 56 * MIB}
"""What each worker has for itself once it has loaded an archive, the weights aside."""
COPIES = 3
"""How often a worker holds the archive's weights [OpenVINO, 13 MiB: 97 in all; 90 MiB: 324]."""


@dataclass(frozen=True)
class ArchiveMemory:
    """What one archive takes of memory in bytes.

    `libraries`: what its workers share. `loaded`: each worker, once it is ready (an estimate).
    `picture`: what each worker may have more, for one picture and the request that it came in.
    """

    libraries: int
    loaded: int
    picture: int


def of_archive(backend: str, size: int, limits: "Limits") -> ArchiveMemory:
    """What an archive takes. `size`: its bytes, nearly all of which are weights."""
    from handlers.memory import most  # loads Pillow, which a pod's own process has no need of

    return ArchiveMemory(LIBRARIES[backend], LOADED[backend] + COPIES * size, most(limits) + BODY)


def java_heap(workers: int) -> tuple[int, int]:
    """The bytes of Java's heap, and of its memory outside of it."""
    return HEAP + workers * HEAP_PER_WORKER, DIRECT + workers * DIRECT_PER_WORKER


def needed(workers: int, archive: ArchiveMemory) -> int:
    """The bytes that serving takes at most, whatever pictures come."""
    return SUPERVISOR + JAVA_ITSELF + sum(java_heap(workers)) + archive.libraries + workers * (archive.loaded + archive.picture)


def least(workers: int, archive: ArchiveMemory) -> int:
    """The bytes without which it does not even start."""
    return SUPERVISOR + JAVA_ITSELF + archive.libraries + workers * archive.loaded


def check_limit(limit: int | None, workers: int, archive: ArchiveMemory) -> None:
    """Compare the memory limit of this process's group with what serving takes; warn where it is less.

    Raises MemoryShort where it is too little to start at all.
    """
    if limit is None or limit >= needed(workers, archive):
        return
    short = (
        f"with the largest pictures {workers} {'worker' if workers == 1 else 'workers'} may take "
        f"{_mib(needed(workers, archive))}, {_mib(archive.loaded + archive.picture)} each, and the memory limit is {_mib(limit)}"
    )
    if limit < least(workers, archive):
        raise MemoryShort(f"{short}; they need {_mib(least(workers, archive))} to start: raise the limit or lower --workers")
    logger.warning(
        "serve.memory: %s; the kernel may end one of them: raise the limit, or lower --workers or the archive's max_pixels", short
    )


def _mib(size: int) -> str:
    return f"{-(-size // MIB)} MiB"
