"""What is not the archive that was asked for is refused by every command and by the pod, and nothing is left of it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from archives import signing
from archives.files import sha256
from tests.integration.kept import PICTURES, copy_kept
from tests.integration.running import Workspace

# A file's name that would be further lines of TorchServe's configuration, and load an archive from elsewhere.
HOSTILE_NAME = "d\nallowed_urls=.*\nload_models=probe=http:\\u002f\\u002f127.0.0.1:9\\u002fprobe.mar\n#.mar"
COMMANDS = ("inspect", "predict", "score", "register", "serve")


@pytest.fixture
def kept(tmp_path: Path) -> Workspace:
    """Two archives of one signer, digits and digits-band, both version 1."""
    return copy_kept(tmp_path / "kept")


def move(archive: Path, target: Path) -> Path:
    """Move an archive with its signature, and change no byte, as whoever can write to storage may."""
    target.parent.mkdir(parents=True, exist_ok=True)
    signing.signature_of(archive).rename(signing.signature_of(target))
    return archive.rename(target)


@dataclass(frozen=True)
class Asked:
    """How commands are asked for an archive, the file that they would take, and the error that they end with."""

    archive: str
    file: Path
    says: str
    flags: tuple[str, ...] = ()


def renamed(store: Path) -> Asked:
    return Asked("leaves", move(store / "digits/1/digits.mar", store / "leaves/1/leaves.mar"), "so it was renamed")


def renamed_to_configuration(store: Path) -> Asked:
    path = move(store / "digits/1/digits.mar", store / HOSTILE_NAME)
    return Asked(str(path), path, "so it was renamed")


def rolled_back(store: Path) -> Asked:
    path = move(store / "digits/1/digits.mar", store / "digits/9/digits.mar")
    return Asked("digits", path, "version 1 of 'digits', where version 9 belongs")


def another_digest(store: Path) -> Asked:
    """A release that was made for one archive, with an older one at its address."""
    path, wanted = store / "digits/1/digits.mar", sha256(store / "digits-band/1/digits-band.mar")
    return Asked("digits", path, f"has the digest {sha256(path)} and not {wanted}", ("--digest", wanted))


def unsigned(store: Path) -> Asked:
    path = store / "digits/1/digits.mar"
    signing.signature_of(path).unlink()
    return Asked("digits", path, "has no signature")


def other_bytes(store: Path) -> Asked:
    path = store / "digits/1/digits.mar"
    shutil.copy(store / "digits-band/1/digits-band.mar", path)
    return Asked("digits", path, "its bytes are not the ones that were signed")


CASES = {
    renamed: "archive.unexpected",
    renamed_to_configuration: "archive.unexpected",
    rolled_back: "archive.unexpected",
    another_digest: "archive.unexpected",
    unsigned: "archive.refused",
    other_bytes: "archive.refused",
}
each_case = pytest.mark.parametrize(("case", "code"), CASES.items(), ids=[case.__name__ for case in CASES])


@each_case
def test_every_command_refuses_it(kept: Workspace, case: Callable[[Path], Asked], code: str) -> None:
    asked = case(kept.store)
    arguments = {
        "inspect": (asked.archive,),
        "predict": (f"images/{PICTURES[0]}", "--archive", asked.archive),
        "score": (asked.archive, "images", "--out", "scores"),
        "register": (asked.archive,),
        "serve": (asked.archive, "--port", "0"),
    }
    for command in COMMANDS:
        done = kept.visor(command, *arguments[command], *asked.flags)
        said = done.stdout if command == "inspect" else done.stderr
        assert done.returncode == 1, command
        assert f"{code}: " in said, command
        assert asked.says in said, command
        assert "Traceback" not in done.stderr, command
        if command != "inspect":
            assert done.stdout == "", command
            assert done.stderr.startswith(f"visor: {code}: "), command
            assert done.stderr.count("\n") == 1, command
    assert not (kept.path / "scores").exists()
    assert not kept.home.exists()


@each_case
def test_a_pod_refuses_it(kept: Workspace, tmp_path: Path, case: Callable[[Path], Asked], code: str) -> None:
    asked = case(kept.store)
    models = tmp_path / "models"
    shutil.rmtree(kept.store / "digits-band")
    shutil.copytree(kept.store, models)
    (tmp_path / "last-words").touch()
    flags = ["--models", str(models), "--public-key", str(kept.public_key), "--work", str(tmp_path / "work"), "--wait-s", "0"]
    flags += ["--linger-s", "0", "--termination-log", str(tmp_path / "last-words"), *asked.flags]
    done = subprocess.run([sys.executable, "-m", "visor.pod", *flags], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"visor: {code}: ")
    assert asked.says in done.stderr
    assert (tmp_path / "last-words").read_text() + "\n" == done.stderr
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["refusal"]


def test_the_archive_that_was_asked_for_is_opened_and_its_key_is_named(kept: Workspace) -> None:
    digest, key = sha256(kept.store / "digits/1/digits.mar"), signing.fingerprint(kept.public_key)
    shown = json.loads(kept.ok("inspect", "digits", "--json", "--digest", digest))
    assert shown["signature"]["public_key_sha256"] == key
    assert shown["place"] == {"holds": True, "reason": None}
    assert f"signature  holds for keys/visor.pub, SHA-256 {key}" in kept.ok("inspect", "digits")
    done = kept.visor("predict", f"images/{PICTURES[0]}", "--archive", "digits", "--digest", digest)
    assert done.returncode == 0
    assert done.stderr == f"digits version 1 (archive {digest}, torch) is signed by the key keys/visor.pub (SHA-256 {key})\n"
    # Nobody stands in a folder of keys by accident where the key has a place of its own.
    kept.public_key.rename(kept.path / "mine.pub")
    asked = ("predict", f"images/{PICTURES[0]}", "--archive", "digits")
    assert "the public key keys/visor.pub cannot be read" in kept.visor(*asked).stderr
    assert kept.visor(*asked, env={"VISOR_PUBLIC_KEY": "mine.pub"}).returncode == 0


def test_an_archive_that_is_exchanged_meanwhile_is_not_the_one_that_answers(kept: Workspace) -> None:
    """Another archive, signed and of the right name, takes its place between its opening and the first image."""
    kept.ok("score", "digits", "images", "--out", "undisturbed.parquet", "--workers", "1")
    undisturbed = pq.read_table(kept.path / "undisturbed.parquet").to_pylist()
    paths = [row["path"] for row in undisturbed]
    listing = kept.path / "images" / "list.txt"
    os.mkfifo(listing)
    archive = kept.store / "digits/1/digits.mar"
    command = [sys.executable, "-m", "visor.cli", "score", "digits", str(listing), "--out", "scores.parquet", "--workers", "1"]
    process = subprocess.Popen(command, cwd=kept.path, stderr=subprocess.PIPE, text=True)
    with listing.open("w") as file:  # which waits until the command reads it
        shutil.copy(kept.store / "digits-band/1/digits-band.mar", archive)
        file.write("\n".join(paths) + "\n")
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert pq.read_table(kept.path / "scores.parquet").to_pylist() == undisturbed
