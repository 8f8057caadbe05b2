"""docker/build, with programs in the place of Docker, kind, minikube and the stand-in that write down how they are called."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[3] / "docker" / "build"
ID = "sha256:0123456789abcdef"
VERSION = f"--build-arg VERSION={tomllib.loads((BUILD.parents[1] / 'pyproject.toml').read_text())['project']['version']}"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for the PATH, where no Docker engine answers yet, beside a copy of docker/ without a lock."""
    shutil.copytree(BUILD.parent, tmp_path / "docker", ignore=shutil.ignore_patterns("images.lock"))
    shutil.copy(BUILD.parents[1] / "pyproject.toml", tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    add(folder / "docker", "exit 1")
    return folder


def add(path: Path, script: str = "") -> None:
    """A program that runs a line of shell, after writing down its arguments."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{path.name} $*" >>"$CALLS"\n{script}\n')
    path.chmod(0o755)


def build(programs: Path, *arguments: str, **environment: str) -> tuple["subprocess.CompletedProcess[str]", list[str]]:
    """Run docker/build; how it went, and the calls that it made but for asking whether an engine answers."""
    calls = programs.parent / "calls"
    calls.touch()
    place = {"CALLS": str(calls), "PATH": f"{programs}:{os.environ['PATH']}", "CLUSTER_HOME": str(programs.parent / "home")}
    stand_in = {"STAND_IN": str(programs.parent / "stand-in")}
    kept = {key: value for key, value in os.environ.items() if key not in {"REGISTRY", "TAG", "REVISION", "SOURCE", "BACKEND"}}
    env = {**kept, "TORCH_INDEX": "", **place, **stand_in, **environment}
    done = subprocess.run(
        [str(programs.parent / "docker/build"), *arguments], env=env, capture_output=True, text=True, check=False
    )
    return done, [line for line in calls.read_text().splitlines() if line != "docker info"]


def test_docker_builds_all_with_their_arguments(programs: Path) -> None:
    add(programs / "docker")
    done, calls = build(programs, REGISTRY="r.example.com/x", TAG="1", REVISION="abc", BACKEND="torch", TORCH_INDEX="i")
    assert done.returncode == 0, done.stderr
    labels = f"{VERSION} --build-arg REVISION=abc"
    serving, index = "--build-arg BACKEND=torch", "--build-arg TORCH_INDEX=i"
    assert calls == [
        f"docker build --file docker/{image}/Dockerfile --tag r.example.com/x/visor-{image}:1 {labels}{more} ."
        for image, more in (
            ("serving", f" {serving} {index}"),
            ("transformer", ""),
            ("training", f" {index}"),
            ("console", ""),
            ("loadtest", ""),
        )
    ]


@pytest.mark.parametrize(
    ("context", "minikube", "call"),
    [
        ("kind-visor", "exit 1", "kind load docker-image --name visor localhost/visor-transformer:dev"),
        ("visor", "exit 0", "minikube image load --profile visor localhost/visor-transformer:dev"),
    ],
)
def test_load_puts_an_image_into_the_local_cluster(programs: Path, context: str, minikube: str, call: str) -> None:
    add(programs / "docker")
    add(programs / "kubectl", f"echo {context}")
    add(programs / "kind")
    add(programs / "minikube", minikube)
    done, calls = build(programs, "--load", "transformer")
    assert done.returncode == 0, done.stderr
    assert calls[-1] == call


def test_another_cluster_gets_its_images_from_a_registry(programs: Path) -> None:
    add(programs / "docker")
    add(programs / "kubectl", "echo production")
    add(programs / "minikube", "exit 1")
    done, calls = build(programs, "--load", "transformer")
    assert done.returncode == 0
    assert "docker push localhost/visor-transformer:dev" in done.stdout
    assert calls[-1] == "minikube status --profile production"


def test_a_locked_base_image_is_taken_by_its_digest(programs: Path) -> None:
    add(programs / "docker")
    pinned = f"python:3.11-slim-bookworm@{ID}"
    (programs.parent / "docker/images.lock").write_text(f"# a comment\npython:3.11-slim-bookworm-other@sha256:0\n{pinned}\n")
    done, calls = build(programs, "transformer")
    assert done.returncode == 0, done.stderr
    file = "docker/transformer/Dockerfile"
    assert calls == [f"docker build --file {file} --tag localhost/visor-transformer:dev --build-arg PYTHON={pinned} {VERSION} ."]


def test_a_base_image_that_the_lock_lacks_is_refused(programs: Path) -> None:
    add(programs / "docker")
    (programs.parent / "docker/images.lock").write_text("python:3.11-slim@sha256:0\n")
    done, calls = build(programs, "serving")
    assert (done.returncode, calls) == (1, [])
    assert "images.lock does not have python:3.11-slim-bookworm, which docker/serving/Dockerfile begins with" in done.stderr


def test_the_stand_in_has_a_base_of_its_own(programs: Path) -> None:
    add(programs.parent / "stand-in/build-image")
    (programs.parent / "docker/images.lock").write_text(f"python:3.11-slim-bookworm@{ID}\n")
    done, calls = build(programs, "transformer")
    assert done.returncode == 0, done.stderr
    assert calls == [f"build-image localhost/visor-transformer:dev . --file docker/transformer/Dockerfile {VERSION}"]


def test_operators_are_built_from_what_their_own_script_compiled(programs: Path) -> None:
    add(programs / "docker")
    place = programs.parent / "tests/e2e/images/operators"
    place.parent.mkdir(parents=True)
    add(place / "build", "echo /compiled")
    done, calls = build(programs, "operators", REGISTRY="r.example.com/x")
    assert done.returncode == 0, done.stderr
    file = "tests/e2e/images/operators/Dockerfile"
    assert calls == ["build ", f"docker build --file {file} --tag localhost/operators:local /compiled"]


def test_without_docker_the_stand_in_builds_and_loads_what_is_not_there(programs: Path) -> None:
    stand_in = programs.parent / "stand-in"
    add(stand_in / "build-image")
    add(stand_in / "load-image")
    add(programs / "buildah", f"echo {ID}")
    listed = 'echo "REF TYPE DIGEST"; [ ! -e "$CALLS.there" ] || echo "x y d"'
    add(programs / "ctr", f'case "$*" in *"images list"*) {listed};; *) cat "$CALLS.there";; esac')
    name = "localhost/visor-transformer:dev"

    def loads() -> bool:
        (programs.parent / "calls").unlink(missing_ok=True)
        done, calls = build(programs, "--load", "transformer")
        assert done.returncode == 0, done.stderr
        assert calls[0] == f"build-image {name} . --file docker/transformer/Dockerfile {VERSION}"
        return f"load-image {name}" in calls

    assert loads()  # there is none
    there = programs.parent / "calls.there"
    there.write_text('{"config": {"digest": "sha256:another"}}')
    assert loads()  # an older one
    there.write_text(f'{{"config": {{"digest": "{ID}"}}}}')
    assert not loads()


def test_without_anything_to_build_with_it_says_so(programs: Path) -> None:
    done, _ = build(programs)
    assert (done.returncode, done.stderr) == (1, "docker/build: no Docker engine answers; start one\n")


def test_an_unknown_image_is_an_error(programs: Path) -> None:
    done, calls = build(programs, "nothing")
    assert (done.returncode, calls) == (1, [])
    assert "nothing is neither an option nor an image" in done.stderr
