"""Runs answer the audits of a data set: an honest comparison on what is asked today, which no run has learnt from."""

from training import runs
from training.data.derived import audits_of
from training.data.manifest import Manifest
from training.data.pixels import Pictures
from training.errors import CompareError
from training.jobs.sealed import answer
from training.selection import comparison
from training.selection.comparison import Audits, Comparison


def answer_audits(found: Comparison) -> Audits:
    """Have each run that has a folder answer the audits of the run with most of them, with the backend that it serves.

    They are set beside the champion, or beside the first run where that was not asked. Raises CompareError (no run has audits, or
    one has learnt from them), DataError (images that are gone or changed).
    """
    rows = [(row.candidate, row.candidate.folder) for row in found.rows if row.candidate.folder is not None]
    manifests = {folder: Manifest.read(folder / runs.MANIFEST) for _, folder in rows}
    newest = max(manifests, key=lambda folder: len(audits_of(manifests[folder])), default=None)
    samples = audits_of(manifests[newest]) if newest else []
    if newest is None or not samples:
        raise CompareError("no run that is compared was trained on a data set with audits; `visor data from-reviews` makes one")
    digests = {sample.sha256 for sample in samples}
    for folder, manifest in manifests.items():
        if learnt := [one for one in manifest.samples if one.sha256 in digests and one.split != "sealed"]:
            raise CompareError(f"{folder} has audits of {newest} in its {learnt[0].split} split, such as {learnt[0].path}")
    pictures = Pictures(runs.read_record(newest).dataset_root, manifests[newest])
    answered = {one.name: answer(one, folder, samples, pictures, f"asking {one.name}") for one, folder in rows}
    reference = answered.get(found.champion or "") or next(iter(answered.values()))
    drawn = comparison.resamples(len(samples), found.resamples, found.seed, reference.groups)
    others = [one for one in answered.values() if one is not reference]
    level = comparison.FAMILY / max(1, len(others))
    beside = comparison.family([comparison.versus(one, reference, drawn, level, found.seed) for one in others])
    return Audits(
        len(samples),
        reference.name,
        {name: comparison.intervals(one, drawn) for name, one in answered.items()},
        {one.name: versus for one, versus in zip(others, beside, strict=True)},
        tuple(row.candidate.name for row in found.rows if row.candidate.folder is None),
    )
