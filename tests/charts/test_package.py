"""Packages of the charts: the same bytes each time, what they say of themselves, and signatures by a key that is thrown away."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.checks import ROOT

CHARTS = ("visor", "visor-console", "visor-training")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NAME, WORDS = "tests@example.com", "two words"


def package(*args: str, root: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    """tools/package, as `make package` calls it."""
    kept = {key: value for key, value in os.environ.items() if key not in {"REGISTRY", "SOURCE_DATE_EPOCH"}}
    return subprocess.run(
        [root / "tools/package", *args],
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def packages(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """A folder with a package of each chart."""
    folder = tmp_path_factory.mktemp("packages")
    done = package(str(folder))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == [f"{folder}/{name}-{VERSION}.tgz" for name in CHARTS]
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def about(package: Path, chart: str) -> Any:
    """A package's Chart.yaml."""
    with tarfile.open(package) as tar:
        file = tar.extractfile(f"{chart}/Chart.yaml")
        assert file
        return yaml.safe_load(file)


def test_another_checkout_makes_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for part in ("charts", "tools"):
        shutil.copytree(ROOT / part, other / part, copy_function=shutil.copyfile)  # with times of its own
    for script in ("package", "build"):
        (other / "tools" / script).chmod(0o755)
    done = package(str(tmp_path / "made"), root=other)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "made") == digests(packages)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_package_holds_what_an_installation_needs(packages: Path, chart: str) -> None:
    with tarfile.open(packages / f"{chart}-{VERSION}.tgz") as tar:
        names = {name.removeprefix(f"{chart}/") for name in tar.getnames()}
    assert {"Chart.yaml", "README.md", "values.yaml", "values.schema.json", "templates/NOTES.txt"} <= names
    assert not {name for name in names if name.startswith(("tests/", "ci/")) or name.endswith(".gotmpl")}


def test_a_package_says_what_it_is(packages: Path) -> None:
    for chart in CHARTS:
        said = about(packages / f"{chart}-{VERSION}.tgz", chart)
        assert (said["version"], said["appVersion"], said["kubeVersion"][:4]) == (VERSION, VERSION, ">=1.")
        assert said["maintainers"]
        annotations = {key.removeprefix("artifacthub.io/"): value for key, value in said["annotations"].items()}
        assert (annotations["license"], annotations["category"]) == ("Apache-2.0", "ai-machine-learning")
        changes = yaml.safe_load(annotations["changes"])
        assert {change["kind"] for change in changes} <= {"added", "changed", "deprecated", "removed", "fixed", "security"}
        assert all(set(change) == {"kind", "description"} for change in changes)


@pytest.mark.parametrize("chart", CHARTS)
def test_the_images_that_it_lists_are_those_that_it_runs(helm: Any, chart: str, packages: Path) -> None:
    made = packages / f"{chart}-{VERSION}.tgz"
    listed = {one["image"] for one in yaml.safe_load(about(made, chart)["annotations"]["artifacthub.io/images"])}
    done = helm("template", "roofs", str(made), "--values", f"charts/{chart}/ci/pvc-values.yaml")
    assert done.returncode == 0, done.stderr
    assert set(images(list(yaml.safe_load_all(done.stdout)))) == listed


def images(value: Any) -> Iterator[str]:
    """Every value of a key `image` in it."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "image" and isinstance(part, str):
                yield part
            yield from images(part)
    elif isinstance(value, list):
        for part in value:
            yield from images(part)


def test_a_registry_s_packages_find_their_images_there(helm: Any, tmp_path: Path) -> None:
    done = package(str(tmp_path), REGISTRY="registry.example.com:5000/team")
    assert done.returncode == 0, done.stderr
    made = tmp_path / f"visor-training-{VERSION}.tgz"
    listed = about(made, "visor-training")["annotations"]["artifacthub.io/images"]
    assert "image: registry.example.com:5000/team/visor-training:" in listed
    done = helm("template", "roofs", str(made), "--values", "charts/visor-training/ci/pvc-values.yaml")
    assert done.returncode == 0, done.stderr
    assert set(images(list(yaml.safe_load_all(done.stdout)))) == {f"registry.example.com:5000/team/visor-training:{VERSION}"}
    assert "localhost/visor" not in done.stdout


@dataclass(frozen=True)
class Keys:
    """An OpenPGP key pair with a passphrase, as Helm reads it."""

    secret: Path
    public: Path
    words: Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    """A pair by gpg, which keeps it in a short-named folder of its own and is ended with it."""
    home, folder = tmp_path_factory.mktemp("g"), tmp_path_factory.mktemp("keys")
    home.chmod(0o700)

    def gpg(*args: str) -> bytes:
        command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", WORDS]
        return subprocess.run([*command, *args], capture_output=True, check=True).stdout

    try:
        gpg("--quick-generate-key", f"visor tests <{NAME}>", "rsa3072", "sign", "never")
        made = Keys(folder / "secret.gpg", folder / "public.gpg", folder / "words")
        made.secret.write_bytes(gpg("--export-secret-keys"))
        made.public.write_bytes(gpg("--export"))
        made.words.write_text(WORDS + "\n")
        yield made
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


def test_a_signed_package_is_verified_and_a_changed_one_is_refused(helm: Any, packages: Path, keys: Keys, tmp_path: Path) -> None:
    sign = ["--sign", NAME, "--keyring", str(keys.secret)]
    done = package(*sign, "--passphrase-file", str(keys.words), str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert digests(packages).items() <= digests(tmp_path).items()  # signing changes no package
    for chart in CHARTS:
        made = tmp_path / f"{chart}-{VERSION}.tgz"
        done = helm("verify", str(made), "--keyring", str(keys.public))
        assert done.returncode == 0, done.stderr
        assert f"Chart Hash Verified: sha256:{hashlib.sha256(made.read_bytes()).hexdigest()}" in done.stdout
        whole = bytearray(made.read_bytes())
        whole[len(whole) // 2] ^= 1
        made.write_bytes(whole)
        done = helm("verify", str(made), "--keyring", str(keys.public))
        assert done.returncode == 1
        assert "sha256 sum does not match" in done.stderr


def test_a_signature_needs_its_own_key(helm: Any, packages: Path, keys: Keys, tmp_path: Path) -> None:
    other = tmp_path / "empty.gpg"
    other.touch()
    made = shutil.copy(packages / f"visor-{VERSION}.tgz", tmp_path)
    done = helm("verify", str(made), "--keyring", str(keys.public))
    assert done.returncode == 1  # no signature
    for args, words in (
        (["--sign", NAME, "--keyring", str(other)], "no"),
        (["--sign", NAME], "--sign and --keyring belong together"),
        (["--keyring", str(keys.secret)], "--sign and --keyring belong together"),
        (["--unknown"], "--unknown is no option"),
    ):
        done = package(*args, str(tmp_path / "none"))
        assert done.returncode != 0
        assert words in done.stderr, args
