"""Archives that are worse than the stable release's, each in one way, signed by the same key: what a bad release looks like."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archives.signing import sign
from handlers.backends import load_backend
from handlers.decision import scores
from handlers.predictor import Answer, Item, predict
from handlers.spec import Spec

# After entry.py, which is TorchServe's handler. Its class may be changed, and no other may be there.
SLOWER = """
import time as _time
_answer = VisorHandler._answer
def _slower(self, items, stages):
    _time.sleep({seconds})
    return _answer(self, items, stages)
VisorHandler._answer = _slower
"""
ERRING = """
import random as _random
_answer = VisorHandler._answer
def _erring(self, items, stages):
    if _random.random() < {share}:
        raise RuntimeError("a fault of this release")
    return _answer(self, items, stages)
VisorHandler._answer = _erring
"""


@dataclass(frozen=True)
class Archivist:
    """Makes archives of a version that is there, in the folder of a volume, named as its claim. `key`: the private one."""

    folder: Path
    key: Path

    def make(self, name: str, version: str, positive: Sequence[str], threshold: float, code: str = "") -> str:
        """Make an archive with these positive labels, this threshold and this code in its handler; its URI."""
        place = self.folder / name
        place.mkdir()
        archive = place / "digits.mar"
        with zipfile.ZipFile(self.folder / version / "digits.mar") as old, zipfile.ZipFile(archive, "w") as new:
            for member in old.infolist():
                data = old.read(member)
                if member.filename == "spec.json":
                    spec = json.loads(data)
                    spec["decision"] |= {"positive": list(positive), "threshold": threshold}
                    data = json.dumps(spec).encode()
                if member.filename == "entry.py":
                    data += code.encode()
                new.writestr(member, data)
        sign(archive, self.key)
        for path in (place, *place.iterdir()):
            path.chmod(0o777 if path.is_dir() else 0o644)
        return f"pvc://{self.folder.name}/{name}"


def scored(archive: Path, unpacked: Path, positive: Sequence[str], pictures: Sequence[bytes]) -> list[float]:
    """The score of each picture, were these labels the positive ones, by the archive's own backend."""
    with zipfile.ZipFile(archive) as there:
        there.extractall(unpacked)
    spec = Spec.read(unpacked / "spec.json")
    changed = spec.model_copy(update={"decision": spec.decision.model_copy(update={"positive": tuple(positive)})})
    backend = load_backend(unpacked, spec)
    found = []
    for picture in pictures:
        [answer] = predict([Item(picture)], changed, backend)
        assert isinstance(answer, Answer)
        found.append(float(scores(np.array([answer.probabilities]), changed)[0]))
    return found
