"""Which images weights have seen, kept in their file through any chain of trainings, so that none of them judges a later run."""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from handlers.errors import counted
from training.config import Config
from training.data.manifest import Manifest, Sample
from training.errors import DataLeak
from training.fitting import pretrained

logger = logging.getLogger(__name__)

DIGITS = 16
"""Hexadecimal digits of a SHA-256: 64 bits tell apart more images than there are, and those of a million images are 16 MB."""
HELD_OUT = ("calibration", "test", "sealed")
NAMED = 3
"""How many images an error names."""


@dataclass(frozen=True)
class Seen:
    """The images that weights have seen, by the first DIGITS of their SHA-256.

    `learnt`: they were fitted on. `chosen_by`: the epoch, of these weights or of those that they began as, was chosen by them.
    """

    learnt: frozenset[str] = frozenset()
    chosen_by: frozenset[str] = frozenset()

    @classmethod
    def of(cls, learnt: Iterable[Sample], chosen_by: Iterable[Sample] = ()) -> Self:
        """Make it from a manifest's samples."""
        return cls(*(frozenset(sample.sha256[:DIGITS] for sample in samples) for samples in (learnt, chosen_by)))

    def __or__(self, other: "Seen") -> "Seen":
        """Join what two fits have seen."""
        return Seen(self.learnt | other.learnt, self.chosen_by | other.chosen_by)

    def leaks(self, manifest: Manifest) -> list[Sample]:
        """List the images of a manifest that must not have been seen, by path.

        What was learnt must be in no split but `train`. What was chosen by must not be calibrated or tested on; to validate by
        it again only chooses by it again. An image with a twin in `train` is left to `data.duplicates`.
        """
        again = {sample.sha256[:DIGITS] for sample in manifest.samples_of("train")}
        bad = {"val": self.learnt - again} | dict.fromkeys(HELD_OUT, (self.learnt | self.chosen_by) - again)
        return [sample for sample in manifest.samples if sample.sha256[:DIGITS] in bad.get(sample.split, ())]


def seen(config: Config) -> Seen:
    """Read what the weights that the config starts from have seen: nothing that is known of in files that others wrote.

    Raises ConfigError.
    """
    facts = pretrained.read_facts(config)
    cut = (facts.get(name, "") for name in pretrained.IMAGES)
    return Seen(*(frozenset(text[at : at + DIGITS] for at in range(0, len(text), DIGITS)) for text in cut))


def check_seen(manifest: Manifest, config: Config) -> dict[str, int]:
    """Refuse weights that have seen images which this run holds out. Raises DataLeak, or warns, as `data.leaks` says.

    Without `data.leaks` it is an error for every data set, as whoever names the weights has chosen them. Raises ConfigError.
    Returns how many images of each split were let through.
    """
    if config.data.leaks == "allow" or not (leaks := seen(config).leaks(manifest)):
        return {}
    counts = Counter(sample.split for sample in leaks)
    named = ", ".join(f"{sample.path} ({sample.split})" for sample in leaks[:NAMED])
    more = f" and {len(leaks) - NAMED} more" if len(leaks) > NAMED else ""
    sentence = (
        f"model.pretrained {config.model.pretrained} has learnt from, or was chosen by, {counted(len(leaks), 'image')} that "
        f"this run holds out ({', '.join(f'{split} {count}' for split, count in sorted(counts.items()))}): {named}{more}"
    )
    if config.data.leaks == "warn":
        logger.warning("%s", sentence)
        return {str(split): count for split, count in counts.items()}
    raise DataLeak(
        f"{sentence}. Figures of this run would be better than the world is: split as the earlier run did (data.seed, "
        "data.splits), start from other weights, or say data.leaks: warn"
    )


def describe(method: str, config: Config, manifest: Manifest, shown: Seen) -> dict[str, str]:
    """Make the metadata of a file of weights: one entry, JSON, of how they came about and which images they have seen.

    What the weights that they started from have seen, they have seen, too. A backbone names its config; weights of a run do not,
    as another price of an error leaves them as they are. Raises ConfigError.
    """
    both = seen(config) | shown
    facts = {"method": method, "dataset_digest": manifest.digest}
    facts |= {"config_digest": config.digest} if method == "simclr" else {}
    images = zip(pretrained.IMAGES, (both.learnt, both.chosen_by), strict=True)
    facts |= {name: "".join(sorted(part)) for name, part in images if part}
    return {pretrained.METADATA: json.dumps(facts, sort_keys=True)}
