"""The cache keeps answers to images that were seen before: the newest ones, bounded by their number and by their bytes.

An answer is a function of the image's bytes, the archive and the options, so a kept one is right for as long as the process
serves its one archive. It keeps image answers and the errors that lie in the image itself (image.*): the same bytes get the
same one again. No trouble of the server is kept, nor an option's error.
"""

import hashlib
from collections import OrderedDict

from handlers.spec import MIB
from transformer.images import Picture
from transformer.upstream.image_answers import ImageAnswer, Result

MAX_BYTES = 64 * MIB
ENTRY_BYTES = 2048  # what an entry takes beside its arrays: objects, label, key

Key = bytes


class AnswerCache:
    """A cache of the `max_images` answers that were used last, in at most `max_bytes`. 0 images: it keeps nothing."""

    def __init__(self, max_images: int, max_bytes: int = MAX_BYTES) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._bytes = 0
        self._answers: OrderedDict[Key, Result] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def enabled(self) -> bool:
        """Whether the cache keeps anything."""
        return self._max_images > 0

    def get(self, key: Key) -> Result | None:
        """Find the answer of this key, if it is still kept; it is then the newest."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Result) -> None:
        """Keep an answer, and forget the oldest ones where there is no room for it."""
        self._forget(key)
        self._answers[key] = answer
        self._bytes += _size(answer)
        while len(self._answers) > self._max_images or self._bytes > self._max_bytes:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: Key) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= _size(answer)


def key_of(picture: Picture, *, explain: bool, threshold: float | None, group: str | None = None) -> Key:
    """Hash, by SHA-256, an image's bytes and all else that its answer depends on within one archive."""
    digest = hashlib.sha256(repr((picture.size, explain, threshold, group)).encode())
    digest.update(picture.body)
    return digest.digest()


def _size(answer: Result) -> int:
    arrays = (answer.probabilities, answer.heatmap) if isinstance(answer, ImageAnswer) else ()
    return ENTRY_BYTES + sum(array.nbytes for array in arrays)
