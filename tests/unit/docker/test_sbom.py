"""docker/sbom on a file system made for it: what is installed there is listed, in CycloneDX's form, and twice the same."""

import json
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "tests/schemas/cyclonedx-1.6.json").read_text())
DPKG = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Description: GNU C Library
 Status: of the description's, which is no field

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.2.13.dfsg-1
"""
NETTY = "netty-codec.version=4.1.53.Final\nnetty-codec.buildDate=2020\n"
MAVEN = "groupId=com.example\nartifactId=tool\nversion=1.2\n"
GRPC = b"\xca\xfe\xba\xbe\x01\x00\x0agrpc-java-\x01\x00\x061.50.0\x0c\x00"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The part of an image's file system that is looked at."""
    packages = tmp_path / "opt/visor/lib/python3.11/site-packages"
    for name, version, more in (("Pillow", "12.1.0", "License-Expression: MIT-CMU\n"), ("my_torch", "2.15.0+cpu", "")):
        folder = packages / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{more}")
    (packages / "ts").mkdir()
    with zipfile.ZipFile(packages / "ts/server.jar", "w") as jar:
        jar.writestr("META-INF/io.netty.versions.properties", NETTY)
        jar.writestr("META-INF/maven/com.example/tool/pom.properties", MAVEN)
        jar.writestr("io/grpc/internal/GrpcUtil.class", GRPC)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(DPKG)
    (tmp_path / "release").write_text('JAVA_VERSION="17.0.16"\nMODULES="java.base"\n')
    return tmp_path


def sbom(root: Path, *more: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "docker/sbom"), "visor-serving", "0.2.0", "--root", str(root), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_each_package_is_listed_by_its_url(root: Path) -> None:
    found = sbom(root, "--java", str(root / "release"), "--base", "python:3.11-slim@sha256:" + "0" * 64)
    jsonschema.validate(found, SCHEMA)
    assert [one["bom-ref"] for one in found["components"]] == [
        f"container:python:3.11-slim@sha256:{'0' * 64}",
        "operating-system:debian@12",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12",
        "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64&distro=debian-12",
        "pkg:generic/openjdk@17.0.16",
        f"pkg:generic/python@{platform.python_version()}",
        "pkg:maven/com.example/tool@1.2",
        "pkg:maven/io.grpc/grpc-core@1.50.0",
        "pkg:maven/io.netty/netty-codec@4.1.53.Final",
        "pkg:pypi/my-torch@2.15.0%2Bcpu",
        "pkg:pypi/pillow@12.1.0",
    ]
    pillow = found["components"][-1]
    assert pillow["licenses"] == [{"expression": "MIT-CMU"}]
    assert (found["metadata"]["component"]["name"], found["metadata"]["component"]["version"]) == ("visor-serving", "0.2.0")
    assert found["dependencies"][0]["dependsOn"] == [one["bom-ref"] for one in found["components"]]


def test_two_builds_of_the_same_packages_are_described_alike(root: Path) -> None:
    assert sbom(root) == sbom(root)
    assert [one["bom-ref"] for one in sbom(root)["components"] if one["type"] == "container"] == []


def test_torchserves_old_libraries_are_found_and_named_in_the_docs(root: Path) -> None:
    """The jar that is installed here: what docs/security.md says of it is so."""
    import ts

    jar = Path(ts.__file__).parent / "frontend/model-server.jar"
    place = root / "opt/visor/lib/python3.11/site-packages/ts/server.jar"
    place.unlink()
    place.symlink_to(jar)
    versions = {one["name"]: one["version"] for one in sbom(root)["components"] if "pkg:maven" in one.get("purl", "")}
    page = (ROOT / "docs/security.md").read_text()
    assert re.search(rf"netty\s{re.escape(versions['netty-codec-http'].removesuffix('.Final'))}\b", page)
    assert re.search(rf"gRPC\s{re.escape(versions['grpc-core'])}\b", page)


@pytest.mark.parametrize("image", ["serving", "transformer", "training", "console", "loadtest"])
def test_each_image_is_built_with_its_bill(image: str) -> None:
    text = (ROOT / "docker" / image / "Dockerfile").read_text()
    assert re.search(
        rf'^RUN /build/sbom visor-{image} "\$VERSION".* --base "\$PYTHON" >/opt/visor/sbom\.cdx\.json$', text, re.MULTILINE
    )
    assert "\nCOPY --from=packages /opt/visor /opt/visor\n" in text
