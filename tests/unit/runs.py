"""A run's folder for tests that are not about training: every file of a finished run, and next to nothing in them."""

from pathlib import Path
from typing import Any

import torch

from training import runs


def make_record(**fields: Any) -> runs.Record:
    """Make the record of a run that has begun; `fields` take the place of what stands here."""
    given = {
        "mlflow_run_id": "abc",
        "tracking_uri": "http://mlflow:5000",
        "dataset_root": "data",
        "dataset_digest": "d" * 64,
        "config_digest": "c" * 64,
        "git_commit": "1" * 40,
        "git_dirty": True,
        "versions": {"torch": "2.0"},
        **fields,
    }
    return runs.Record(**given)


def make_run(folder: Path, **fields: Any) -> runs.Record:
    """Write a finished run into `folder`, with one small tensor for weights, and return its record."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = runs.write_weights(folder, {"head.bias": torch.zeros(2)})
    for name in runs.RESULTS:
        if name != runs.WEIGHTS:
            (folder / name).write_text('{"accuracy": 0.75}')
    record = make_record(**{"weights_digest": digest, "model_version": "1", **fields})
    runs.write_record(folder, record)
    return record
