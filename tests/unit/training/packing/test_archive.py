"""A finished run becomes a signed .mar that says where it came from; half archives and strangers are refused."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from archives import provenance, signing
from archives.contents import read, unpacked
from archives.errors import KeyFileError
from handlers.errors import ArchiveBroken
from handlers.networks import build as build_network
from handlers.spec import BackendName
from tests.unit.specs import LINEAGE, TINY
from tests.volume import SOAK
from training.errors import RunError
from training.packing import archive
from visor.system import of_system


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(build_network("small_cnn", 2).state_dict(), folder / "model.safetensors")
    (folder / "spec.json").write_text(TINY.model_dump_json())
    np.savez(folder / "reference.npz", features=np.zeros((2, 128), np.float16))
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return signing.make_keys(tmp_path / "keys")


def test_an_archive_holds_what_it_should_and_nothing_else(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    path = archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert path == tmp_path / "store/tiny/1/tiny.mar"
    statement = "tiny.mar.provenance.json"
    assert sorted(p.name for p in path.parent.iterdir()) == ["tiny.mar", statement, f"{statement}.sig", "tiny.mar.sig"]
    with zipfile.ZipFile(path) as mar:
        names = set(mar.namelist())
        manifest = json.loads(mar.read("MAR-INF/MANIFEST.json"))
    roots = {"entry.py", "lineage.json", "model.safetensors", "reference.npz", "spec.json", "MAR-INF/MANIFEST.json"}
    modules = {"__init__", "arrays", "backends", "colours", "containers", "decision", "decode", "errors", "gradcam", "heif"}
    modules |= {"drift", "heif_boxes", "hevc", "memory", "modes", "networks", "predictor", "spec"}
    assert names == roots | {f"handlers/{module}.py" for module in modules}
    assert (manifest["model"]["modelName"], manifest["model"]["modelVersion"]) == ("tiny", "1")


def test_a_runs_model_card_travels_along(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    for name in ("model-card.md", "model-card.html"):
        (run / name).write_text(f"the card: {name}")
    with zipfile.ZipFile(archive.build(run, tmp_path / "store", LINEAGE, keys[0])) as mar:
        assert mar.read("model-card.md").decode() == "the card: model-card.md"
        assert "model-card.html" in mar.namelist()


def test_what_is_read_is_what_was_packed(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    path = archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    signing.verify(path, keys[1])
    contents = read(path)
    assert contents.spec == TINY
    assert contents.lineage == LINEAGE
    assert contents.size == path.stat().st_size
    assert provenance.read_verified(path, contents, keys[1]) == provenance.make_statement(contents)
    with unpacked(path) as folder:
        packed, original = load_file(folder / "model.safetensors"), load_file(run / "model.safetensors")
        assert packed.keys() == original.keys()
        assert all(torch.equal(packed[name], original[name]) for name in original)
    assert not folder.exists()


@pytest.mark.parametrize("backend", ["openvino-int8", "openvino", "torch"])
def test_the_graph_of_the_backend_that_was_fitted_for_is_held_and_no_other(
    run: Path, tmp_path: Path, keys: tuple[Path, Path], backend: BackendName
) -> None:
    (run / "spec.json").write_text(TINY.model_copy(update={"backend": backend}).model_dump_json())
    for name in ("model.xml", "model.bin", "model-int8.xml", "model-int8.bin"):
        (run / name).write_text(f"of {name}")
    path = archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert read(path).spec.backend == backend
    with zipfile.ZipFile(path) as mar:
        files = {name: mar.read(name) for name in mar.namelist()}
    held = {"openvino-int8": ["model-int8.bin", "model-int8.xml"], "openvino": ["model.bin", "model.xml"], "torch": []}
    assert sorted(name for name in files if name.endswith((".xml", ".bin"))) == held[backend]
    assert all(files[name] == f"of {name}".encode() for name in held[backend])
    assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()


def test_each_archive_is_a_version_of_its_own(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    first = archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    before = first.read_bytes()
    second = archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert second == tmp_path / "store/tiny/2/tiny.mar"
    assert read(second).spec.version == "2"
    assert first.read_bytes() == before


def test_a_build_that_fails_leaves_nothing(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    store = tmp_path / "store"
    with pytest.raises(KeyFileError):
        archive.build(run, store, LINEAGE, keys[1])  # a public key cannot sign
    assert list((store / "tiny").iterdir()) == []


def test_what_a_killed_build_left_is_swept_away_in_time(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    old, fresh = tmp_path / "store/tiny/.building-old", tmp_path / "store/tiny/.building-fresh"
    for left in (old, fresh):
        left.mkdir(parents=True)
    os.utime(old, (0, 0))
    archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert sorted(p.name for p in (tmp_path / "store/tiny").iterdir()) == [".building-fresh", "1"]


def test_an_archive_that_is_too_large_is_refused(
    run: Path, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not SOAK:
        monkeypatch.setattr(archive, "MAX_BYTES", archive.MAX_BYTES // 20)
    noise = np.random.default_rng(0).integers(0, 256, archive.MAX_BYTES, dtype=np.uint8)
    (run / "reference.npz").write_bytes(noise.tobytes())
    with pytest.raises(ArchiveBroken, match=f"over {120 if SOAK else 6} MB"):
        archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert list((tmp_path / "store/tiny").iterdir()) == []


@pytest.mark.parametrize("step", ["writing the members", "the archiver"])
def test_a_full_disk_is_told_by_the_store(
    run: Path, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    if step == "the archiver":
        program = tmp_path / "python"
        program.write_text("#!/bin/sh\necho 'OSError: [Errno 28] No space left on device' >&2; exit 1\n")
        program.chmod(0o755)
        monkeypatch.setattr(archive.sys, "executable", str(program))
    else:
        monkeypatch.setattr(archive, "_stage", lambda *_: Path("/dev/full").write_text("1"))
    with pytest.raises(OSError, match="No space left") as raised:
        archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert str(of_system(raised.value)).startswith(f"disk.full: no space is left for {tmp_path / 'store'}; free some")


def test_a_folder_of_the_same_name_in_the_temporary_directory_survives(
    run: Path, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "temporary" / "tiny" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("member", ["model.safetensors", "model-card.md"])
def test_a_link_out_of_the_run_is_not_packed(run: Path, tmp_path: Path, keys: tuple[Path, Path], member: str) -> None:
    """As a training would leave one that foreign images have taken over, to read the key that signs."""
    (run / member).unlink(missing_ok=True)
    (run / member).symlink_to(keys[0])
    with pytest.raises(RunError, match=rf"{member} is not packed: .*a run's files are files of its own"):
        archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    (run / member).unlink()
    os.mkfifo(run / member)
    with pytest.raises(RunError, match=rf"{member} is not packed: it is no file"):
        archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert list((tmp_path / "store/tiny").iterdir()) == []


def test_a_key_with_a_passphrase_signs_archive_and_statement(run: Path, tmp_path: Path) -> None:
    private, public = signing.make_keys(tmp_path / "locked", "secret")
    path = archive.build(run, tmp_path / "store", LINEAGE, private, "secret")
    signing.verify(path, public)
    assert provenance.read_verified(path, read(path), public) is not None
