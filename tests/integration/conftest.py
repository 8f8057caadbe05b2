"""One trained, signed archive and one server, shared by the tests that only ask them something."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.running import QUICK, ROOT, Server, Workspace, start_server, stop_server


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a trained `digits` run and a key pair."""
    place = Workspace(tmp_path_factory.mktemp("workspace"))
    place.ok("train", str(ROOT / "training/configs/digits.yaml"), *QUICK)
    place.ok("keys")
    return place


@pytest.fixture(scope="session")
def archive(workspace: Workspace) -> Path:
    """The run's signed archive, version 1."""
    return workspace.path / workspace.ok("archive", "runs/digits").strip().splitlines()[-1]


@pytest.fixture(scope="session")
def server(workspace: Workspace, archive: Path) -> Iterator[Server]:
    """A server of that archive."""
    running = start_server(workspace, str(archive), workspace.path / "server.log")
    yield running
    stop_server(running)


@pytest.fixture(scope="session")
def images(workspace: Workspace) -> dict[Path, str]:
    """Twelve test images of the run, as path → true label."""
    root = Path(json.loads((workspace.home / "digits/run.json").read_text())["dataset_root"])
    samples = json.loads((workspace.home / "digits/manifest.json").read_text())["samples"]
    tests = [sample for sample in samples if sample["split"] == "test"][:12]
    return {(workspace.path / root / sample["path"]): sample["label"] for sample in tests}
