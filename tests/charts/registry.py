"""A registry of OCI artifacts on this machine, and what a client without a library reads from it."""

import hashlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.charts.checks import ROOT

ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
START_S = 30


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """CNCF's distribution on a free port of loopback, which keeps what it gets in a folder; its HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = folder / "config.yaml"
    # A clean log: the registry warns of a secret that only several of them would have to share.
    http = {"addr": address, "secret": "of one registry"}
    storage = {"filesystem": {"rootdirectory": str(folder / "store")}}
    config.write_text(yaml.safe_dump({"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": http}))
    built = subprocess.run([ROOT / "tools/build", "registry"], capture_output=True, text=True, check=True).stdout.strip()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([f"{built}/registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while not answers(address):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, f"no registry at {address} within {START_S} s"
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/v2/", timeout=5).close()
    except OSError:
        return False
    return True


def get(address: str, name: str, what: str) -> bytes:
    """What lies at /v2/NAME/WHAT: `manifests/DIGEST`, `blobs/DIGEST`."""
    request = urllib.request.Request(f"http://{address}/v2/{name}/{what}", headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def pull(address: str, name: str, digest: str) -> tuple[Any, dict[str, bytes]]:
    """A manifest by its digest, and its blobs by theirs; every one has the digest that it is asked for by."""
    manifest = get(address, name, f"manifests/{digest}")
    assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == digest
    read = json.loads(manifest)
    blobs = {blob["digest"]: get(address, name, f"blobs/{blob['digest']}") for blob in (read["config"], *read["layers"])}
    for wanted, blob in blobs.items():
        assert f"sha256:{hashlib.sha256(blob).hexdigest()}" == wanted
    return read, blobs
