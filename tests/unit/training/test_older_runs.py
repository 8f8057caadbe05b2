"""What versions 0.1.0 and 0.2.0 left in a run's folder is read today: docs/upgrading.md."""

import re
from pathlib import Path

import pytest

from training import runs
from training.config import DataConfig
from training.data.manifest import Manifest, build
from training.errors import RunError
from training.jobs.common import previous

ROOT = Path(__file__).parents[3]
KEPT = ROOT / "tests/archives_0_2/runs"
VERSIONS = ("0.1.0", "0.2.0")


@pytest.mark.parametrize("version", VERSIONS)
def test_config_record_and_manifest_are_read(version: str) -> None:
    run = KEPT / version
    config, record, manifest = runs.read_config(run), runs.read_record(run), Manifest.read(run / runs.MANIFEST)
    assert (config.name, config.data.source, config.model.network, config.backend) == ("digits", "digits", "small_cnn", "auto")
    assert (record.job, record.model_version, record.pretrained) == ("train", "1", None)
    assert record.dataset_digest == manifest.digest
    assert runs.read_exports(run) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_data_set_has_the_digest_and_splits_that_it_had(version: str, tmp_path: Path) -> None:
    """The files of the kept manifests hold their label and number."""
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(8):
            (tmp_path / label / f"{number}.png").write_text(f"{label}{number}")
    today = build(tmp_path, DataConfig.model_validate({"source": "imagefolder", "path": tmp_path}))
    assert today == Manifest.read(KEPT / version / runs.MANIFEST)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_training_that_an_older_version_began_is_refused_and_not_resumed(version: str, tmp_path: Path) -> None:
    """New keys have changed the config's digest, and the arithmetic beside them."""
    run = tmp_path / "run"
    run.mkdir()
    for name in (runs.CONFIG, runs.RECORD, runs.MANIFEST):
        (run / name).write_bytes((KEPT / version / name).read_bytes())
    (run / runs.CHECKPOINT).write_text("of no matter here")
    with pytest.raises(RunError, match="--fresh"):
        previous(run, runs.read_config(run), Manifest.read(run / runs.MANIFEST))


def test_the_page_names_the_mlflow_that_all_versions_have() -> None:
    """0.1.0 and 0.2.0 locked 3.17.2, so that a database is as it was. Another version needs `mlflow db upgrade`, and words."""
    [locked] = re.findall(r"^mlflow==(\S+)", (ROOT / "requirements/visor.txt").read_text(), re.MULTILINE)
    assert f"MLflow {locked}" in (ROOT / "docs/upgrading.md").read_text()
    assert locked == "3.17.2"


def test_each_promise_of_the_page_names_a_test_that_there_is() -> None:
    promises, _, _ = (ROOT / "docs/upgrading.md").read_text().partition("\n## What to keep copies of\n")
    rows = re.findall(r"^\| (?!what |---)(.*) \|$", promises, re.MULTILINE)
    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named or row.endswith("| by reading"), row
        for file, test in named:
            assert not test or f"def {test}(" in (ROOT / file).read_text(), (file, test)
            assert (ROOT / file).is_file()
