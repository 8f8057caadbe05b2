"""tools/publish, with programs in the place of Docker and helm that write down how they are called."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGES = ("serving", "transformer", "training", "console", "loadtest")
DIGESTS = {image: "sha256:" + digit * 64 for image, digit in zip(IMAGES, "abcef", strict=True)}
PUSHED = [f'*visor-{image}:*) echo "{VERSION}: digest: {digest} size: 1234" ;;' for image, digest in DIGESTS.items()]
PUSH = f"case $2 in {' '.join(PUSHED)} esac"
HELM = f"""case $1 in
  package) made=$4/$(basename "$2")-{VERSION}.tgz; touch "$made"; echo "Successfully packaged chart and saved it to: $made" ;;
  push) echo "Pushed: $3" >&2; echo "Digest: sha256:{"d" * 64}" >&2 ;;
esac"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout's charts and tools, whose helm only says what it was asked for, and a folder `bin` for the PATH."""
    shutil.copytree(ROOT / "charts", tmp_path / "charts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for tool in ("package", "publish"):
        (tmp_path / "tools").mkdir(exist_ok=True)
        shutil.copy(ROOT / "tools" / tool, tmp_path / "tools")
    add(tmp_path / "tools/build", f'echo "{tmp_path}/bin"', quiet=True)
    add(tmp_path / "bin/helm", HELM)
    return tmp_path


def add(path: Path, script: str, quiet: bool = False) -> None:
    """A program that runs lines of shell, after writing down its arguments."""
    path.parent.mkdir(exist_ok=True)
    noted = "" if quiet else f'echo "{path.name} $*" >>"$CALLS"\n'
    path.write_text(f"#!/bin/bash\n{noted}{script}\n")
    path.chmod(0o755)


def publish(place: Path, *args: str, **environment: str) -> tuple["subprocess.CompletedProcess[str]", list[str]]:
    """Run tools/publish; how it went, and the calls of Docker, buildah and helm."""
    calls = place / "calls"
    calls.touch()
    kept = {key: value for key, value in os.environ.items() if key not in {"TAG", "IMAGES", "REGISTRY"}}
    env = {**kept, "CALLS": str(calls), "PATH": f"{place}/bin:{os.environ['PATH']}", **environment}
    done = subprocess.run([place / "tools/publish", *args], env=env, capture_output=True, text=True, check=False)
    return done, [line for line in calls.read_text().splitlines() if line != "docker info"]


def test_docker_pushes_all_images_and_then_the_charts(place: Path) -> None:
    add(place / "bin/docker", f"case $1 in push) {PUSH} ;; esac")
    done, calls = publish(place, "r.example.com:5000/team/", TAG="local")
    assert done.returncode == 0, done.stderr
    to = "r.example.com:5000/team"
    assert calls[: 2 * len(IMAGES)] == [
        line
        for image in DIGESTS
        for line in (
            f"docker tag localhost/visor-{image}:local {to}/visor-{image}:{VERSION}",
            f"docker push {to}/visor-{image}:{VERSION}",
        )
    ]
    pushed = sorted((call.split()[2:] for call in calls if call.startswith("helm push")), key=lambda call: Path(call[0]).stem)
    assert [(Path(package).name, *rest) for package, *rest in pushed] == [
        (f"{chart}-{VERSION}.tgz", f"oci://{to}/charts", "--plain-http=false")
        for chart in ("visor", "visor-console", "visor-training")
    ]
    lines, values = done.stdout.split("\n\n")
    assert {f"{to}/visor-{image}@{digest}" for image, digest in DIGESTS.items()} < set(lines.splitlines())
    assert f"oci://{to}/charts/visor@sha256:{'d' * 64}" in lines
    pinned = {image: {"repository": f"{to}/visor-{image}", "digest": digest} for image, digest in DIGESTS.items()}
    of_visor = {image: pinned[image] for image in ("serving", "transformer")}
    others = [{"image": pinned[image]} for image in ("training", "console")]
    assert list(yaml.safe_load_all(values)) == [{"images": of_visor}, *others]


def test_without_an_engine_buildah_pushes_to_this_machine_over_http(place: Path) -> None:
    add(place / "bin/docker", "exit 1")
    add(place / "bin/buildah", 'while [ "$1" != --digestfile ]; do shift; done; printf %s "' + DIGESTS["training"] + '" >"$2"')
    done, calls = publish(place, "127.0.0.1:5000", IMAGES="training")
    assert done.returncode == 0, done.stderr
    assert calls[0].startswith("buildah push --quiet --tls-verify=false --digestfile ")
    assert calls[0].endswith(f" localhost/visor-training:dev docker://127.0.0.1:5000/visor-training:{VERSION}")
    assert all(call.endswith(" --plain-http") for call in calls if call.startswith("helm push"))
    visor, training = yaml.safe_load_all(done.stdout.split("\n\n")[1])
    assert training["image"] == {"repository": "127.0.0.1:5000/visor-training", "digest": DIGESTS["training"]}
    assert not visor["images"]


@pytest.mark.parametrize(
    ("script", "words"),
    [("exit 1", "visor-serving:dev was not pushed"), ("", "the push of visor-serving:dev told no digest")],
)
def test_an_image_that_was_not_pushed_ends_it_before_a_chart_names_it(place: Path, script: str, words: str) -> None:
    add(place / "bin/docker", f"case $1 in push) {script or 'true'} ;; esac")
    done, calls = publish(place, "r.example.com")
    assert done.returncode == 1
    assert f"tools/publish: {words}" in done.stderr
    assert not [call for call in calls if call.startswith("helm push")]


def test_what_signs_packages_is_handed_on(place: Path) -> None:
    add(place / "bin/docker", "")
    done, calls = publish(place, "--sign", "me", "--keyring", "k.gpg", "--passphrase-file", "words", "r.example.com", IMAGES="")
    assert done.returncode == 0, done.stderr
    made = [call for call in calls if call.startswith("helm package")]
    assert len(made) == 3
    assert all(call.endswith("--sign --key me --keyring k.gpg --passphrase-file words") for call in made)
    assert "images" not in done.stdout
