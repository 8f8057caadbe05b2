"""`make publish` to a registry that runs here: charts are pulled and rendered from it by their digests."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.charts.checks import ROOT
from tests.charts.registry import pull, registry
from tests.charts.test_package import CHARTS, NAME, VERSION, Keys, keys

__all__ = ["keys"]
PACKAGE = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


@dataclass(frozen=True)
class Published:
    """A registry, and the digest that each chart has in it, as `make publish` said."""

    address: str
    digests: dict[str, str]

    def chart(self, name: str) -> str:
        return f"oci://{self.address}/team/charts/{name}@{self.digests[name]}"


def publish(*args: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "IMAGES": "", **environment}
    return subprocess.run([ROOT / "tools/publish", *args], env=env, capture_output=True, text=True, check=False)


def package_of(manifest: Any) -> str:
    """The digest of the chart's package, beside which lies its signature."""
    [found] = [one["digest"] for one in manifest["layers"] if one["mediaType"] == PACKAGE]
    return str(found)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Published]:
    """The charts in a registry of this module's, signed."""
    with registry(tmp_path_factory.mktemp("registry")) as address:
        sign = ("--sign", NAME, "--keyring", str(keys.secret), "--passphrase-file", str(keys.words))
        done = publish(*sign, f"{address}/team/")
        assert done.returncode == 0, done.stderr
        said = dict(re.findall(rf"^oci://{address}/team/charts/([\w-]+)@(sha256:[0-9a-f]{{64}})$", done.stdout, re.MULTILINE))
        assert set(said) == set(CHARTS)
        yield Published(address, said)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_is_pulled_by_its_digest_and_verified(
    helm: Any, published: Published, keys: Keys, tmp_path: Path, chart: str
) -> None:
    done = helm("pull", published.chart(chart), "--plain-http", "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    manifest, blobs = pull(published.address, f"team/charts/{chart}", published.digests[chart])
    package = package_of(manifest)
    [pulled] = tmp_path.glob("*.tgz")
    assert pulled.read_bytes() == blobs[package]

    address = f"oci://{published.address}/team/charts/{chart}"
    verify = ("--verify", "--keyring", str(keys.public), "--destination", str(tmp_path / "verified"))
    (tmp_path / "verified").mkdir()
    done = helm("pull", address, "--version", VERSION, "--plain-http", *verify)
    assert done.returncode == 0, done.stderr
    assert "Chart Hash Verified" in done.stdout
    assert (tmp_path / "verified" / f"{chart}-{VERSION}.tgz").read_bytes() == blobs[package]


@pytest.mark.parametrize("chart", CHARTS)
def test_a_published_chart_renders_as_the_one_here_but_for_its_images(helm: Any, published: Published, chart: str) -> None:
    least = ("--values", f"charts/{chart}/ci/pvc-values.yaml")
    there = helm("template", "roofs", published.chart(chart), "--plain-http", *least)
    assert there.returncode == 0, there.stderr
    here = helm("template", "roofs", f"charts/{chart}", *least)

    # What is made of the pod has another checksum, as the image is another one.
    def plain(text: str) -> str:
        return re.sub(r"roofs-[0-9a-f]{8}\b", "roofs-CHECKSUM", text)

    assert plain(there.stdout) == plain(here.stdout.replace("localhost/visor-", f"{published.address}/team/visor-"))
    assert f"image: {published.address}/team/visor-" in there.stdout


def test_another_publication_is_of_the_same_packages(published: Published) -> None:
    """Helm writes the time into the manifest, so that this has another digest; what is installed has not."""
    packages = []
    for _ in range(2):
        done = publish(f"{published.address}/again")
        assert done.returncode == 0, done.stderr
        said = re.findall(r"/again/charts/([\w-]+)@(\S+)$", done.stdout, re.MULTILINE)
        packages.append(
            {chart: package_of(pull(published.address, f"again/charts/{chart}", digest)[0]) for chart, digest in said}
        )
    assert packages[0] == packages[1]
    assert set(packages[0]) == set(CHARTS)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "which registry?"),
        (("localhost",), "localhost is where images are built, and no registry"),
        (("--unknown", "r.example.com"), "--unknown is no option"),
        (("127.0.0.1:9/team",), "connection refused"),
    ],
)
def test_what_cannot_be_published_is_said(args: tuple[str, ...], words: str) -> None:
    done = publish(*args)
    assert done.returncode == 1
    assert done.stderr.startswith("tools/publish: ")
    assert words in done.stderr
