"""The images and charts as a registry has them: pushed by `make publish`, pulled and installed by their digests."""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest
import yaml

from tests.charts.registry import pull, registry
from tests.e2e.cluster import ROOT, items, run, state
from tests.e2e.load import call_many
from tests.e2e.releases import TAG, Archives, Release, Values, base_values

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]  # some 900 MB are compressed

IMAGES = ("serving", "transformer")


@contextmanager
def published() -> Iterator[str]:
    """A tag whose images are gone afterwards: buildah, which looks at no label, would take them for the next ones of the code."""
    tag = f"{TAG}-published"
    docker = which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    try:
        yield tag
    finally:
        images = [f"localhost/visor-{image}:{tag}" for image in IMAGES]
        subprocess.run(["docker" if docker else "buildah", "rmi", *images], check=False, capture_output=True)


def test_a_release_of_what_was_published_serves(namespace: str, archives: Archives, tmp_path: Path) -> None:
    """The node pulls from this machine's loopback, so it has to be this machine, as the stand-in's is and kind's is not."""
    with registry(tmp_path) as address, published() as tag:
        # Of their own: the kubelet remembers what it pulled from where, and gives it to nobody who names it otherwise.
        env = {**os.environ, "IMAGES": " ".join(IMAGES), "TAG": tag, "REVISION": secrets.token_hex(8)}
        subprocess.run([ROOT / "docker/build", *IMAGES], env=env, check=True)
        done = subprocess.run([ROOT / "tools/publish", address], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said, values = done.stdout.split("\n\n")
        digests = dict(re.findall(rf"^{address}/visor-(\w+)@(sha256:[0-9a-f]{{64}})$", said, re.MULTILINE))
        [chart] = re.findall(r"^oci://\S+/charts/visor@sha256:[0-9a-f]{64}$", said, re.MULTILINE)
        for image, digest in digests.items():
            manifest, blobs = pull(address, f"visor-{image}", digest)
            assert len(blobs) == len({layer["digest"] for layer in manifest["layers"]}) + 1
        assert set(digests) == set(IMAGES)

        pinned: Values = {"images": yaml.safe_load(values)["images"]}
        release = Release("digits", namespace, {**base_values(archives), **pinned})
        release.helm("install", chart, "--plain-http", "--values", "-", stdin=json.dumps(release.values))
        release.wait_ready()
        outcomes = call_many(release.target, archives.picture, 4)
        assert [outcome.error for outcome in outcomes] == [""] * 4, state(namespace)
        [pod] = items("pods", namespace, "serving.kserve.io/inferenceservice=digits")
        ran = {one["name"]: one["imageID"] for one in pod["status"]["containerStatuses"]}
        assert ran["kserve-container"].endswith(digests["serving"])
        assert ran["transformer-container"].endswith(digests["transformer"])
        run("helm", "uninstall", "digits", "--namespace", namespace, "--wait")
