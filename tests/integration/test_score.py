"""`visor score` as processes: killed at random moments and resumed, sharded, damaged; the rows are always the same."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.integration.running import STOP_TIMEOUT_S, Workspace

IMAGES = 500


@pytest.fixture(scope="module")
def pictures(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the run's images, and three files that are none."""
    root = Path(json.loads((workspace.home / "digits/run.json").read_text())["dataset_root"])
    samples = json.loads((workspace.home / "digits/manifest.json").read_text())["samples"]
    folder = tmp_path_factory.mktemp("pictures")
    for sample in samples[:IMAGES]:
        (folder / sample["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(workspace.path / root / sample["path"], folder / sample["path"])
    (folder / "0" / "empty.png").write_bytes(b"")
    (folder / "zz-broken.png").write_bytes((workspace.path / root / samples[0]["path"]).read_bytes()[:60])
    (folder / "gone.png").symlink_to("nowhere")  # no file: it is not listed
    return folder


@pytest.fixture(scope="module")
def undisturbed(workspace: Workspace, archive: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, scored without an interruption."""
    out = tmp_path_factory.mktemp("scores") / "scores.parquet"
    said = workspace.ok("score", str(archive), str(pictures), "--out", str(out))
    assert f"{IMAGES + 2}  ({IMAGES + 2} now" in said
    assert said.splitlines()[-1] == str(out)
    assert not out.with_name("scores.parquet.parts").exists()
    return out


def test_rows_are_the_answers_of_visor_predict_in_the_order_of_paths(
    workspace: Workspace, archive: Path, pictures: Path, undisturbed: Path
) -> None:
    rows = pq.read_table(undisturbed).to_pylist()
    assert [row["path"] for row in rows] == sorted(
        path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png") if path.is_file()
    )
    assert {row["path"]: row["error"] for row in rows if row["error"]} == {
        "0/empty.png": "image.empty",
        "zz-broken.png": "image.undecodable",
    }
    asked = [*rows[5:400:40], rows[-1]]
    done = workspace.visor("predict", "--archive", str(archive), "--json", *[str(pictures / row["path"]) for row in asked])
    for row, line in zip(asked, done.stdout.splitlines(), strict=True):
        answer = json.loads(line)
        names = ("label", "confidence", "decision", "error")
        assert [row[name] or type(answer[name])() for name in names] == [answer[name] for name in names]


def test_killed_twice_at_random_and_resumed(
    workspace: Workspace, archive: Path, pictures: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    arguments = ["score", str(archive), str(pictures), "--out", str(out), "--workers", "2"]
    parts = tmp_path / "scores.parquet.parts"
    chance, done = random.Random(), 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-m", "visor.cli", *arguments], cwd=workspace.path, stderr=subprocess.DEVNULL)
        aim, deadline = done + chance.randint(1, 5), time.monotonic() + 120
        while (done := len(list(parts.glob("part-*.parquet")))) < aim and time.monotonic() < deadline:
            time.sleep(0.002)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not psutil.wait_procs(family, timeout=30)[1]  # nobody is left to write
        done = len(list(parts.glob("part-*.parquet")))
        assert not out.exists()
    written = list(parts.glob("part-*.parquet"))
    assert 2 <= len(written) < 16
    damaged, *whole = sorted(written)
    damaged.write_bytes(damaged.read_bytes()[:-9])  # as a power cut may leave it
    rows = sum(pq.ParquetFile(path).metadata.num_rows for path in whole)
    assert f"({IMAGES + 2 - rows} now" in workspace.ok(*arguments)
    assert pq.read_table(out).equals(pq.read_table(undisturbed), check_metadata=True)
    assert "(0 now)" in workspace.ok(*arguments)


@pytest.mark.parametrize("name", ["scores.parquet", "scores"])
def test_images_that_were_not_there_are_answered_once_they_are(
    workspace: Workspace, archive: Path, pictures: Path, undisturbed: Path, tmp_path: Path, name: str
) -> None:
    whole = pq.read_table(undisturbed)
    paths = whole["path"].to_pylist()
    (tmp_path / "list.txt").write_text("\n".join(paths))
    for path in paths[:-1]:
        (tmp_path / "some" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / path, tmp_path / "some" / path)
    arguments = ["score", str(archive), str(tmp_path / "list.txt"), "--out", str(tmp_path / name), "--root"]
    refused = workspace.visor(*arguments, str(tmp_path / "nowhere"))
    assert (refused.returncode, (tmp_path / name).exists()) == (1, False)
    assert f"data.invalid: --root {tmp_path}/nowhere is not there" in refused.stderr
    first = workspace.visor(*arguments, str(tmp_path / "some"))
    assert first.returncode == 0
    assert "image.unreadable               1" in first.stdout
    assert f"1 image below {tmp_path}/some could not be read" in first.stderr
    part = len(paths) % 32  # of the last part alone
    assert f"({part} now" in workspace.ok(*arguments, str(pictures))
    found = ds.dataset(tmp_path / name).to_table()
    assert found.equals(whole)
    assert "(0 now)" in workspace.ok(*arguments, str(pictures))


def test_shards_make_the_same_rows(
    workspace: Workspace, archive: Path, pictures: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    for index in (2, 0, 1):
        said = workspace.ok("score", str(archive), str(pictures), "--out", str(out), "--shard", f"{index}/3", "--workers", "1")
        assert said.splitlines()[-1] == str(out)
    whole = pq.read_table(undisturbed)
    assert ds.dataset(out).to_table().equals(whole)
    assert "(0 now)" in workspace.ok("score", str(archive), str(pictures), "--out", str(out))  # another number of shards
    assert ds.dataset(out).to_table().equals(whole)


def test_a_stopped_scoring_stops_in_order(workspace: Workspace, archive: Path, pictures: Path, tmp_path: Path) -> None:
    for copy in range(20):  # enough that it is not done a moment after its first part
        shutil.copytree(pictures, tmp_path / "many" / str(copy), symlinks=True)
    command = [
        sys.executable,
        "-m",
        "visor.cli",
        "score",
        str(archive),
        str(tmp_path / "many"),
        "--out",
        str(tmp_path / "scores"),
    ]
    process = subprocess.Popen(command, cwd=workspace.path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "scores").glob("part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=STOP_TIMEOUT_S)
    assert process.returncode == 130
    assert "interrupted; the same command goes on from here" in said
    assert "Traceback" not in said


def test_what_cannot_be_scored_is_said(
    workspace: Workspace, archive: Path, pictures: Path, undisturbed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.mar"
    shutil.copy(archive, other)
    done = workspace.visor("score", str(other), str(pictures), "--out", str(tmp_path / "scores"))
    assert (done.returncode, "archive.refused" in done.stderr) == (1, True)
    done = workspace.visor("score", str(archive), str(pictures), "--out", str(undisturbed), "--threshold", "0.5")
    assert (done.returncode, "holds another scoring (threshold " in done.stderr) == (1, True)
    done = workspace.visor("score", str(archive), str(pictures), "--out", str(tmp_path / "x.parquet"), "--shard", "0/2")
    assert (done.returncode, "score.failed" in done.stderr) == (1, True)
    for flags in (["--out", str(pictures / "scores")], ["--out", str(tmp_path / "y"), "--explain", str(pictures / "maps")]):
        done = workspace.visor("score", str(archive), str(pictures), *flags)
        assert (done.returncode, "output.refused: --" in done.stderr) == (1, True)
    assert not list(pictures.glob("[sm]*"))
    assert not (tmp_path / "y").exists()
