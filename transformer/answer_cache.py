"""Answers to images that were seen before: the newest ones, bounded by their number and by their bytes.

An answer is a function of the image's bytes, the archive and the options, so what is kept is right for as long as the process
serves its one archive. Kept are verdicts and the errors that lie in the image itself (image.*): the same bytes get the
same one again. No trouble of the server is kept, nor an option's error.
"""

import hashlib
from collections import OrderedDict

from handlers.spec import MIB
from transformer.images import Picture
from transformer.verdicts import Result, Verdict

MAX_BYTES = 64 * MIB
ENTRY_BYTES = 2048  # of an entry beside its arrays: objects, label, key

Key = bytes


class AnswerCache:
    """The `max_images` answers that were used last, and no more than `max_bytes` of them. 0 images: nothing is kept."""

    def __init__(self, max_images: int, max_bytes: int = MAX_BYTES) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._bytes = 0
        self._answers: OrderedDict[Key, Result] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def enabled(self) -> bool:
        """Whether anything is ever kept."""
        return self._max_images > 0

    def get(self, key: Key) -> Result | None:
        """The answer of this key, if it is still there; it is then the newest."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Result) -> None:
        """Keep an answer, and forget the oldest ones that it leaves no room for."""
        self._forget(key)
        self._answers[key] = answer
        self._bytes += _size(answer)
        while len(self._answers) > self._max_images or self._bytes > self._max_bytes:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: Key) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= _size(answer)


def key_of(picture: Picture, *, explain: bool, threshold: float | None) -> Key:
    """SHA-256 of an image's bytes and of all else that its answer depends on, within one archive."""
    digest = hashlib.sha256(repr((picture.size, explain, threshold)).encode())
    digest.update(picture.body)
    return digest.digest()


def _size(answer: Result) -> int:
    arrays = (answer.probabilities, answer.heatmap) if isinstance(answer, Verdict) else ()
    return ENTRY_BYTES + sum(array.nbytes for array in arrays)
