"""What report and card say of held-out images that the model had met before: nothing is called unseen that was not."""

from collections.abc import Mapping
from typing import Any, Literal

from handlers.errors import counted
from training.data.duplicates import MET
from training.data.manifest import Manifest
from training.runs import Leaks

Counts = dict[str, int | None]
JUDGED: dict[Literal["test", "calibration"], tuple[str, str]] = {
    "test": ("training or calibration", "the figures flatter the model"),
    "calibration": ("training", "scaling, threshold and bounds take the model for better than it is"),
}
"""The splits that a run is judged by: who may have met images of it, and what follows."""


def count(manifest: Manifest, leaks: Leaks | None) -> dict[str, Counts]:
    """Count, for metrics.json, the images of the test and of the calibration split: all `images`; `near`, those nearly the same
    as one that the model had met; `copies`, byte for byte the same; `pretrained`, met by the weights that it began with.

    `near` and `pretrained` are None where nothing looked for them.
    """
    counts: dict[str, Counts] = {}
    for split in JUDGED:
        met = {sample.sha256 for sample in manifest.samples if sample.split in MET[split]}
        held = manifest.samples_of(split)
        counts[split] = {
            "images": len(held),
            "near": leaks.near.get(split, 0) if leaks else None,
            "copies": sum(sample.sha256 in met for sample in held),
            "pretrained": leaks.pretrained.get(split, 0) if leaks else None,
        }
    return counts


def notes(counts: Mapping[str, Counts]) -> list[str]:
    """Write the doubts that follow from what `count` counted; none where every image was new."""
    found = []
    for split, (who, so) in JUDGED.items():
        held = counts[split]
        of, same = f"of the {counted(held['images'] or 0, f'{split} image')}", held["copies"] or 0
        if held["near"]:
            verb = "is a near-duplicate" if held["near"] == 1 else "are near-duplicates"
            found.append(
                f"{held['near']} {of} {verb} of what {who} had met, {same} byte for byte the same: data.leaks let that through, "
                f"and {so}. Keep such images together with data.group_pattern, or remove them; `visor data report` shows them."
            )
        elif held["near"] == 0 and same:
            found.append(
                f"{same} {of} {'is' if same == 1 else 'are'} byte for byte the same as what {who} had met: blank pictures, which "
                "are compared with none. Remove what shows nothing."
            )
        if held["near"] is None:
            copies = f"; {same} {of} {'is' if same == 1 else 'are'} byte for byte the same, and {so}" if same else ""
            found.append(
                f"Nobody looked for near-duplicates of {split} images among what {who} had met, as by data.leaks: allow, or in a "
                f"run of an earlier version of visor{copies}."
            )
        if held["pretrained"]:
            found.append(
                f"{held['pretrained']} {of} had been met by the weights that the run began with (model.pretrained): data.leaks "
                f"let that through, and {so}. Split as the earlier run did, or start from other weights."
            )
    return found


def describe(metrics: Mapping[str, Any], unseen: str) -> str:
    """Say, to stand behind a number of test images, how new they were; `unseen` is what is said where every one was."""
    held = (metrics.get("leaks") or {}).get("test") or {"near": None, "copies": 0, "pretrained": None}
    if held["near"] or held["copies"] or held["pretrained"]:
        return ", not all of them new to the model"
    return ", which nobody compared with those of training" if held["near"] is None else unseen
