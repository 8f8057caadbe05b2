"""One trained, signed archive and one server, shared by the tests that only ask them something; exports, each made once."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.peers.environment import make
from tests.integration.exports import Exports
from tests.integration.running import QUICK, ROOT, BeginHome, Server, Workspace, start_server, stop_server
from tests.unit.networks import random_network, write_weights
from tests.unit.specs import TINY
from tools import browser
from training.tracking import Tracker

LONGEST = (
    "test_doc_blocks.py", "test_pipeline.py", "test_conformance.py", "test_search.py", "test_tutorial.py",
    "test_full_disk.py", "test_loadtest.py", "handlers/test_backends.py", "test_mlflow_server.py", "test_bench.py",
    "test_soak.py", "test_demo.py", "test_heic.py", "test_notebook.py", "test_pod.py", "test_score.py", "test_dvc.py",
    "test_serve.py", "test_compare.py", "test_torchrun.py", "test_hanging.py", "handlers/test_decode_memory.py",
    "test_interruption.py",
)  # fmt: skip
"""Files that take longest, and are begun first: where one came last, the other process of `make test` would wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in places)
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def begin_home(tmp_path_factory: pytest.TempPathFactory) -> BeginHome:
    """Make a home with an embedded MLflow store that has no runs yet: a copy, as MLflow takes seconds to make its tables."""
    first = tmp_path_factory.mktemp("first-home")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        Tracker.open(first)

    def begin(home: Path) -> Path:
        home.mkdir(parents=True)
        shutil.copy(first / "mlflow.db", home)
        return home

    return begin


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, begin_home: BeginHome) -> Workspace:
    """A workspace with a trained `digits` run and a key pair, for tests that change nothing in its registry (see `own`)."""
    place = Workspace(tmp_path_factory.mktemp("workspace"))
    begin_home(place.home)
    place.ok("train", str(ROOT / "training/configs/digits.yaml"), *QUICK)
    place.ok("keys")
    return place


@pytest.fixture(scope="session")
def archive(workspace: Workspace) -> Path:
    """The run's signed archive, version 1."""
    return workspace.path / workspace.ok("archive", "runs/digits").strip().splitlines()[-1]


@pytest.fixture
def own(workspace: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """The workspace for a test that trains or moves an alias: its registry is as it was before, once the test has ended."""
    kept = shutil.copy(workspace.home / "mlflow.db", tmp_path)
    yield workspace
    shutil.copy(kept, workspace.home)


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


@pytest.fixture(scope="session")
def exports() -> Exports:
    """Conversions that are made once."""
    return Exports()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of a network for `TINY`."""
    classes, size = len(TINY.labels), TINY.preprocessing
    return write_weights(tmp_path_factory.mktemp("tiny"), random_network(TINY.network, classes, size.height, size.width))


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Browser]:
    """A tab of a Chromium. Where there is none its tests are left out, but in CI, which installs one."""
    chromium = browser.find()
    if chromium is None and not os.environ.get("CI"):
        pytest.skip("no Chromium; `make browser` installs one")
    assert chromium, "CI has a Chromium: `make browser`"
    with browser.started(chromium) as found:
        yield found


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core, the script that judges a page."""
    lock = Path(__file__).parent / "axe/requirements.txt"
    [source] = make("axe", lock).parents[1].glob("lib/*/site-packages/axe_playwright_python/axe.min.js")
    return source.read_text()
