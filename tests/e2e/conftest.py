"""The cluster, two signed versions of one classifier, and a namespace for each module of tests."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.e2e.cluster import kubectl, run
from tests.e2e.releases import CLAIM, Archives, Release, base_values, folder_of, namespace_of, remove_all
from tests.e2e.worse_archives import Archivist
from tests.integration.running import QUICK, ROOT, Workspace

# What sends thousands of requests goes one after the other, beside the rest.
LOADED = {"test_canary", "test_gates", "test_keda", "test_knative", "test_rollout"}


class FilesScheduling(LoadScopeScheduling):
    """A file's tests share their fixtures, so that they go to one of pytest-xdist's workers; so do all files of LOADED."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.split("::")[0]).stem
        return "load" if file in LOADED else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesScheduling:
    """Not xdist_group: pytest 9 does not take the names by which pytest-xdist 3.8 tells groups apart."""
    return FilesScheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Wait for what the modules left to go; in pytest-xdist's own process, once its workers are done."""
    if not (hasattr(session.config, "workerinput") or session.config.option.collectonly):  # a run may be under way elsewhere
        remove_all()


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """A reachable cluster with KServe; none is an error, never a skip. A missing image shows as ErrImageNeverPull."""
    assert "condition met" in kubectl("wait", "--for", "condition=Established", "crd/inferenceservices.serving.kserve.io")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a trained `digits` run, two archives of it and a key pair; pytest-xdist's workers share one."""
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):  # a worker's own folder, in the session's
        shared = shared.parent
    place = Workspace(shared / "workspace")
    with FileLock(shared / "workspace.lock"):
        if not (place.store / "digits/2").exists():
            place.path.mkdir()
            place.ok("train", str(ROOT / "training/configs/digits.yaml"), *QUICK)
            place.ok("keys")
            for _ in range(2):
                place.ok("archive", "runs/digits")
    return place


@pytest.fixture(scope="session")
def archives(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Versions 1 and 2 of `digits`, and what no pod may serve of them, by folder: see `Archives`."""
    folder = tmp_path_factory.mktemp("volume")
    for version in ("1", "2"):
        shutil.copytree(workspace.store / "digits" / version, folder / f"v{version}")
    tampered = Path(shutil.copytree(folder / "v2", folder / "tampered")) / "digits.mar"
    data = bytearray(tampered.read_bytes())
    data[len(data) // 2] ^= 1
    tampered.write_bytes(data)
    for name, place in (("renamed", "leaves.mar"), ("rolled-back", "digits/9/digits.mar")):
        (folder / name / place).parent.mkdir(parents=True)
        for end in ("", ".sig"):
            shutil.copy(folder / "v1" / f"digits.mar{end}", folder / name / f"{place}{end}")
    shutil.copytree(folder / "v1", folder / "unsigned", ignore=shutil.ignore_patterns("*.sig"))
    dataset = workspace.path / json.loads((workspace.home / "digits/run.json").read_text())["dataset_root"]
    picture = next(dataset.rglob("*.png")).read_bytes()
    return Archives(folder, workspace.public_key.read_text(), picture)


@pytest.fixture(scope="module")
def namespace(request: pytest.FixtureRequest, archives: Archives) -> Iterator[str]:
    """A namespace of the test module's own."""
    name = f"visor-{request.module.__name__.rsplit('test_', 1)[-1].replace('_', '-')}"
    with namespace_of(name, archives) as made:
        yield made


@pytest.fixture(scope="module")
def archivist(namespace: str, workspace: Workspace) -> Archivist:
    """Makes archives on the namespace's volume."""
    return Archivist(folder_of(namespace) / CLAIM, workspace.public_key.with_suffix(".key"))


@pytest.fixture(scope="module")
def release(namespace: str, archives: Archives) -> Iterator[Release]:
    """A release in Standard mode, Ready and routed; each test leaves it serving version 1 without a canary."""
    made = Release("digits", namespace, base_values(archives))
    made.upgrade()
    made.wait_ready()
    yield made
    run("helm", "uninstall", made.name, "--namespace", namespace, "--ignore-not-found", "--wait")
