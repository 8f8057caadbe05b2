import re
import subprocess
from datetime import UTC, datetime

import numpy
import pytest

from archives.lineage import Lineage
from tests.unit.runs import make_run
from training.errors import RunError
from training.packing import lineage
from training.packing.lineage import collect, environment, git_state, package_versions


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("runs/\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(repository):
    head = git(repository, "rev-parse", "HEAD")
    assert git_state(repository / "package") == (head, False)
    (repository / "runs").mkdir()
    (repository / "runs" / "model.bin").touch()
    assert git_state(repository / "package") == (head, False)


def test_a_changed_or_a_new_file_makes_it_dirty(repository):
    head = git(repository, "rev-parse", "HEAD")
    (repository / "new.py").touch()
    assert git_state(repository / "package") == (head, True)
    (repository / "new.py").unlink()
    (repository / "package" / "code.py").write_text("x = 2\n")
    assert git_state(repository / "package") == (head, True)


def test_outside_git_and_before_the_first_commit_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == ("unknown", None)
    git(tmp_path, "init", "--quiet")
    assert git_state(tmp_path) == ("unknown", None)


def test_without_git_nothing_is_known(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state(repository) == ("unknown", None)


def test_versions_are_the_installed_ones():
    versions = package_versions()
    assert list(versions) == ["python", "visor", "torch", "torchvision", "timm", "numpy", "pillow", "pi-heif", "cykooz-resizer"]
    assert versions["numpy"] == numpy.__version__
    assert re.fullmatch(r"3\.11\.\d+", versions["python"])


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(lineage, "PACKAGES", ("no-such-package",))
    assert package_versions()["no-such-package"] == "unknown"


def test_the_environment_is_a_sorted_list_of_requirements():
    lines = environment().splitlines()
    assert f"numpy=={numpy.__version__}" in lines
    assert lines == sorted(lines)


def test_collect_takes_the_runs_record_and_metrics_and_the_time_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    record = make_run(tmp_path / "run")
    found = collect(tmp_path / "run")
    assert found.created == datetime(1970, 1, 2, tzinfo=UTC)
    assert (found.git_commit, found.git_dirty) == ("1" * 40, True)
    assert (found.archive_git_commit, found.archive_git_dirty) == git_state()
    assert (found.dataset_digest, found.config_digest) == ("d" * 64, "c" * 64)
    assert found.weights_digest == record.weights_digest
    assert (found.mlflow_run_id, found.tracking_uri) == ("abc", "http://mlflow:5000")
    assert found.versions == {"torch": "2.0"}
    assert found.metrics == {"accuracy": 0.75}
    assert found.parity == {}
    assert Lineage.parse(found.model_dump_json(), "lineage.json") == found


def test_a_run_that_is_not_finished_has_no_lineage(tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(RunError, match="is not finished"):
        collect(tmp_path / "run")
