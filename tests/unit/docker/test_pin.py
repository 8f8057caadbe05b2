"""docker/pin against a registry on this machine: digests are computed, written, compared, and never taken on trust."""

import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

DOCKER = Path(__file__).parents[3] / "docker"
MANIFEST = json.dumps({"schemaVersion": 2, "manifests": [{"digest": "sha256:" + "1" * 64}]}).encode()


@dataclass
class Registry:
    """A registry of one image for each path. `token`: what it asks for; `realm`: where it sends for it; `said`: its digests."""

    port: int
    manifests: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None
    realm: str = ""
    said: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture
def registry() -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            found.asked.append(self.path)
            if url.path == "/token":
                known = parse_qs(url.query) == {"service": ["test"], "scope": ["repository:python:pull"]}
                self.answer(200 if known else 400, json.dumps({"token": found.token}).encode())
            elif found.token and self.headers["Authorization"] != f"Bearer {found.token}":
                challenge = f'Bearer realm="{found.realm}",service="test",scope="repository:python:pull"'
                self.answer(401, b"{}", {"WWW-Authenticate": challenge})
            elif url.path not in found.manifests or "application/vnd.oci.image.index.v1+json" not in self.headers["Accept"]:
                self.answer(404, b"{}")
            else:
                digest = found.said.get(url.path)
                self.answer(200, found.manifests[url.path], {"Docker-Content-Digest": digest} if digest else {})

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Registry(server.server_port)
        found.realm = f"http://{found.host}/token"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path, registry: Registry) -> Path:
    """A folder docker/ with the script and two Dockerfiles, which begin with one image of the registry."""
    folder = tmp_path / "docker"
    for image in ("serving", "training"):
        (folder / image).mkdir(parents=True)
        (folder / image / "Dockerfile").write_text(f"ARG PYTHON={registry.host}/python:3.11-slim\nFROM $PYTHON AS packages\n")
    registry.manifests["/v2/python/manifests/3.11-slim"] = MANIFEST
    shutil.copy(DOCKER / "pin", folder)
    return folder


def pin(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return subprocess.run([str(folder / "pin"), *arguments], env=env, capture_output=True, text=True, check=False)


def pinned(registry: Registry, manifest: bytes = MANIFEST) -> str:
    return f"{registry.host}/python:3.11-slim@sha256:{hashlib.sha256(manifest).hexdigest()}"


def test_the_digest_of_each_base_image_is_written_and_compared(folder: Path, registry: Registry) -> None:
    lock = folder / "images.lock"
    done = pin(folder, "--check")
    assert (done.returncode, done.stdout, lock.exists()) == (1, "", False)
    assert f"images.lock does not have {pinned(registry)}" in done.stderr
    done = pin(folder)
    assert (done.returncode, done.stdout.split()) == (0, [pinned(registry)]), done.stderr
    assert [line for line in lock.read_text().splitlines() if not line.startswith("#")] == [pinned(registry)]
    assert pin(folder, "--check").returncode == 0


def test_a_tag_that_has_moved_is_named_and_taken_when_asked(folder: Path, registry: Registry) -> None:
    pin(folder)
    newer = MANIFEST.replace(b"1", b"2")
    registry.manifests["/v2/python/manifests/3.11-slim"] = newer
    done = pin(folder, "--check")
    assert (done.returncode, pinned(registry, newer) in done.stderr) == (1, True)
    assert pinned(registry) in (folder / "images.lock").read_text()
    assert pin(folder).returncode == 0
    assert (folder / "images.lock").read_text().splitlines()[1:] == [pinned(registry, newer)]


def test_a_registry_that_wants_a_token_gets_one(folder: Path, registry: Registry) -> None:
    registry.token = "open sesame"
    done = pin(folder)
    assert (done.returncode, done.stdout.split()) == (0, [pinned(registry)]), done.stderr
    assert [path.split("?")[0] for path in registry.asked] == [
        "/v2/python/manifests/3.11-slim",
        "/token",
        "/v2/python/manifests/3.11-slim",
    ]


def test_a_token_is_asked_for_over_tls_alone(folder: Path, registry: Registry) -> None:
    registry.token, registry.realm = "open sesame", "http://elsewhere.example.com/token"
    done = pin(folder)
    assert done.returncode == 1
    assert "it sends for a token to 'http://elsewhere.example.com/token'" in done.stderr


def test_a_digest_that_the_manifest_has_not_is_refused(folder: Path, registry: Registry) -> None:
    registry.said["/v2/python/manifests/3.11-slim"] = "sha256:" + "0" * 64
    done = pin(folder)
    assert (done.returncode, (folder / "images.lock").exists()) == (1, False)
    assert f"says sha256:{'0' * 64}, and its manifest has {pinned(registry).partition('@')[2]}" in done.stderr


def test_what_does_not_answer_is_named_and_the_lock_stays(folder: Path, registry: Registry) -> None:
    pin(folder)
    before = (folder / "images.lock").read_text()
    registry.manifests.clear()
    done = pin(folder)
    assert (done.returncode, (folder / "images.lock").read_text()) == (1, before)
    assert f"{registry.host}/python:3.11-slim: {registry.host} does not answer with a manifest: HTTP Error 404" in done.stderr


def test_a_reference_that_is_none_is_named(folder: Path) -> None:
    (folder / "serving/Dockerfile").write_text("ARG PYTHON=python\nFROM $PYTHON\n")
    done = pin(folder)
    assert (done.returncode, "python is not [REGISTRY/]NAME:TAG" in done.stderr) == (1, True)


def test_the_dockerfiles_of_this_repository_have_a_base_that_can_be_pinned() -> None:
    files = sorted(DOCKER.glob("*/Dockerfile"))
    assert len(files) == 5
    bases = {line for file in files for line in file.read_text().splitlines() if line.startswith("ARG PYTHON=")}
    assert bases == {"ARG PYTHON=python:3.11-slim-bookworm"}
    for file in files:
        stages = {line.split()[1] for line in file.read_text().splitlines() if line.startswith("FROM ")}
        assert stages <= {"$PYTHON", "scratch", "packages"}, file
