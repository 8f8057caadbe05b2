"""Debian's Prometheus beside the cluster, which scrapes the pods of a release, as an operator's would in it.

It listens on the node's own address, where pods reach it. Its targets are a file: Debian builds it without Kubernetes' discovery.
"""

import json
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.e2e.cluster import items, kubectl, wait_until
from tests.e2e.releases import Release

SCRAPED_S = 3
PORT = 8080  # of the pods' metrics


@contextmanager
def scraping(release: Release) -> Iterator[str]:
    """Scrape every pod of the release until the block ends; Prometheus's address."""
    program = shutil.which("prometheus")
    assert program, "there is no Prometheus on this machine; `make prometheus` installs Debian's"
    node = kubectl("get", "nodes", "--output", 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
    with tempfile.TemporaryDirectory(prefix="visor-e2e-prometheus-") as name, socket.create_server((node, 0)) as listening:
        folder, port = Path(name), listening.getsockname()[1]
        listening.close()
        config = {
            "global": {"scrape_interval": f"{SCRAPED_S}s"},
            "scrape_configs": [
                {"job_name": "visor", "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": f"{SCRAPED_S}s"}]}
            ],
        }
        (folder / "prometheus.json").write_text(json.dumps(config))  # JSON is YAML
        write_targets(release, folder)
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(SCRAPED_S):
                write_targets(release, folder)

        command = [program, f"--config.file={folder / 'prometheus.json'}", f"--storage.tsdb.path={folder / 'data'}"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([*command, f"--web.listen-address={node}:{port}"], stdout=log, stderr=subprocess.STDOUT)
        following = threading.Thread(target=follow, name="targets")
        following.start()
        url = f"http://{node}:{port}"
        try:
            wait_until(lambda: answers(url), 60, "Prometheus answers", (folder / "log").read_text)
            yield url
        finally:
            ended.set()
            following.join()
            process.terminate()
            process.wait(30)


def answers(url: str) -> bool:
    """Whether Prometheus is up."""
    try:
        return httpx.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def write_targets(release: Release, folder: Path) -> None:
    """Write the pods that have an address, with the labels that a PodMonitor gives them."""
    there = items("pods", release.namespace, "component=predictor")
    targets = [
        {
            "targets": [f"{pod['status']['podIP']}:{PORT}"],
            "labels": {"namespace": release.namespace, "pod": pod["metadata"]["name"]},
        }
        for pod in there
        if pod["status"].get("podIP")
    ]
    (folder / "new.json").write_text(json.dumps(targets))
    (folder / "new.json").rename(folder / "targets.json")
