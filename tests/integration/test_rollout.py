"""The counters of a release by evidence, read from a real Prometheus that scrapes a real server: every event, exactly.

Where there is no Prometheus these are left out, but in CI, which has it (`make prometheus`).
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from tritonclient import grpc as triton

from rollout.counters import COLD, EDGE_REQUESTS, Counters, look
from rollout.gates import Count
from rollout.plan import Pod
from rollout.prometheus import ask
from rollout.readings import by_pod, query_of, tallies
from tests.integration.running import Server, Workspace, start_server, stop_server
from tests.integration.running import ask as request
from visor.serving.ports import free_ports

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None and not os.environ.get("CI"), reason="no Prometheus: `make prometheus`"
)
PODS = {"roofs-1": Pod("stable", 0.0), "roofs-canary-1": Pod("canary", 0.0)}
BOUND_S = 0.5
WAIT_S = 30.0


@pytest.fixture(scope="module")
def served(workspace: Workspace, archive: Path) -> Iterator[Server]:
    """One server, which two targets name: it stands for a pod of each track."""
    running = start_server(workspace, str(archive), workspace.path / "released.log")
    yield running
    stop_server(running)


@pytest.fixture(scope="module")
def prometheus(served: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that labels its targets as a PodMonitor does, and scrapes one of them twice, as two jobs may."""
    folder = tmp_path_factory.mktemp("prometheus")
    targets = [{"targets": [served.rest], "labels": {"namespace": "demo", "pod": pod}} for pod in PODS]
    jobs = [{"job_name": "pods", "static_configs": targets}, {"job_name": "again", "static_configs": targets[:1]}]
    (folder / "config.json").write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    [port] = free_ports(1)
    command = ["prometheus", f"--config.file={folder}/config.json", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: {labels["pod"] for labels, _ in quietly(url)} == set(PODS))
        yield url
    finally:
        process.terminate()
        process.wait(30)


def quietly(url: str) -> list[tuple[dict[str, str], float]]:
    """What has been scraped so far; nothing while Prometheus starts."""
    try:
        httpx.get(f"{url}/-/ready").raise_for_status()
    except httpx.HTTPError:
        return []
    return ask(url, query_of("demo", PODS))


def wait(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def counted(url: str, known: Counters | None) -> tuple[Counters, dict[str, tuple[Count, Count]]]:
    """One look, which misses nothing."""
    there, counts, missing = look(
        known, by_pod(ask(url, query_of("demo", PODS)), known.sources if known else {}), PODS, time.time(), BOUND_S
    )
    assert missing == ""
    assert there is not None
    return there, counts


def test_each_request_is_counted_once_by_gate(served: Server, prometheus: str, images: dict[Path, str]) -> None:
    picture = next(iter(images)).read_bytes()
    known, _ = counted(prometheus, None)
    good, bad = EDGE_REQUESTS + 5, 7

    def requests_of(pod: str) -> int:
        return tallies(ask(prometheus, query_of("demo", PODS)))[pod].get("requests", 0)

    for _ in range(COLD):
        assert request(served.rest, picture).status_code == 200
    wait(lambda: all(requests_of(pod) - known.pods[pod].get("requests", 0) == COLD for pod in PODS))
    known, counts = counted(prometheus, known)
    assert (counts["errors"][0], counts["slow"][0]) == (Count(0, COLD), Count(0, 0))

    for _ in range(good):
        assert request(served.rest, picture).status_code == 200
    for _ in range(bad):
        assert request(served.rest, b"no picture").status_code == 400
    wait(lambda: all(requests_of(pod) - known.pods[pod].get("requests", 0) == good + bad for pod in PODS))
    known, counts = counted(prometheus, known)
    for side in (0, 1):
        assert counts["errors"][side] == Count(0, good + bad)
        assert counts["refusals"][side] == Count(bad, good + bad)
        assert counts["slow"][side].total == good
        assert counts["flagged"][side].total == counts["reviewed"][side].total == good
    assert known.drawn
    assert counts["errors"][0] == counts["errors"][1]
    assert known.edge is not None
    assert 0 < known.edge < 10
    again, counts = counted(prometheus, known)
    assert counts["errors"] == (Count(0, 0), Count(0, 0))
    assert counts["slower"] == (Count(0, 0), Count(0, 0))
    assert again.edge == known.edge


def test_of_several_images_of_one_request_one_counts_over_both_protocols(
    served: Server, prometheus: str, images: dict[Path, str]
) -> None:
    """16 alike over REST and gRPC, and 16 that are no pictures, of which nothing is decided: three requests, three images."""
    known, _ = counted(prometheus, None)
    picture = next(iter(images)).read_bytes()
    with httpx.Client(base_url=f"http://{served.rest}", timeout=60) as rest, triton.InferenceServerClient(served.grpc) as client:
        for content, status in ((picture, 200), (b"no picture", 400)):
            data = [base64.b64encode(content).decode()] * 16
            tensor = {"name": "image", "shape": [16], "datatype": "BYTES", "data": data}
            assert rest.post("/v2/models/digits/infer", json={"inputs": [tensor]}).status_code == status
        sent = triton.InferInput("image", [16], "BYTES")
        sent.set_data_from_numpy(np.array([picture] * 16, dtype=object))
        client.infer("digits", [sent])

    def answered() -> bool:
        read = tallies(ask(prometheus, query_of("demo", PODS)))
        return all(read[pod]["requests"] - known.pods[pod].get("requests", 0) == 3 for pod in PODS)

    wait(answered)
    _, counts = counted(prometheus, known)
    for side in (0, 1):
        assert counts["refusals"][side] == Count(1, 3)
        assert counts["flagged"][side].total == counts["reviewed"][side].total == 2
