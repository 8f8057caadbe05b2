"""From an answer back to the commit, the images and the run that it rests on."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest

from archives import provenance
from tests.integration.running import ROOT, Server, Workspace

CONFIG = str(ROOT / "training/configs/digits.yaml")


def inspect(workspace: Workspace, archive: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(workspace.ok("inspect", archive, "--json"))
    return facts


def test_an_answer_leads_to_commit_images_and_run(
    workspace: Workspace, archive: Path, server: Server, images: dict[Path, str]
) -> None:
    answer = json.loads(workspace.ok("predict", str(next(iter(images))), "--url", f"http://{server.rest}", "--json"))
    facts = inspect(workspace, str(archive))
    assert answer["archive_digest"] == facts["archive_digest"]
    assert answer["model_version"] == facts["spec"]["version"] == "1"
    assert facts["signature"]["holds"] is True
    lineage = facts["lineage"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    assert lineage["git_commit"] == head
    verified = workspace.ok("data", "verify", "runs/data/digits", "--manifest", "runs/digits/manifest.json")
    assert lineage["dataset_digest"] in verified
    run = mlflow.MlflowClient(lineage["tracking_uri"]).get_run(lineage["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["dataset_digest"] == lineage["dataset_digest"]
    assert run.data.metrics["accuracy"] == lineage["metrics"]["accuracy"]


def test_registering_moves_the_alias_to_the_archive(own: Workspace, archive: Path) -> None:
    assert own.ok("register", str(archive)).strip() == "models:/digits@champion"
    facts = inspect(own, str(archive))
    client = mlflow.MlflowClient(facts["lineage"]["tracking_uri"], facts["lineage"]["tracking_uri"])
    version = client.get_model_version_by_alias("digits", "champion")
    assert version.tags["archive_digest"] == facts["archive_digest"]
    assert version.run_id == facts["lineage"]["mlflow_run_id"]


def test_a_changed_image_is_named_and_training_refuses_to_go_on_with_it(workspace: Workspace, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(workspace.home / "data/digits", tmp_path / "digits"))
    changed = sorted((folder / "3").iterdir())[0]
    changed.write_bytes(changed.read_bytes() + b"\0")
    sorted((folder / "4").iterdir())[0].unlink()
    shutil.copy(changed, folder / "5" / "stranger.png")
    done = workspace.visor("data", "verify", str(folder), "--manifest", "runs/digits/manifest.json")
    assert done.returncode == 1
    assert "data.changed" in done.stderr
    for name in (f"3/{changed.name}", "4/", "5/stranger.png"):
        assert name in done.stderr


def test_inspect_refuses_a_changed_byte_by_name_and_still_shows_what_it_can(
    workspace: Workspace, archive: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copy(archive, tmp_path))
    shutil.copy(f"{archive}.sig", f"{copy}.sig")
    with copy.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        last = file.read(1)
        file.seek(-10, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    done = workspace.visor("inspect", str(copy))
    assert done.returncode == 1
    assert str(copy) in done.stdout + done.stderr
    assert "not the ones that were signed" in done.stdout + done.stderr


def test_the_text_of_inspect_says_the_same_as_its_json(workspace: Workspace, archive: Path) -> None:
    shown, facts = workspace.ok("inspect", "digits/1"), inspect(workspace, str(archive))
    for value in (facts["archive_digest"], facts["lineage"]["mlflow_run_id"], facts["lineage"]["dataset_digest"]):
        assert value in shown
    assert "signature  holds for keys/visor.pub" in shown
    assert facts["provenance"]["holds"] is True
    assert facts["provenance"]["statement"]["subject"][0]["digest"] == {"sha256": facts["archive_digest"]}
    assert re.search(
        rf"^provenance holds: made by visor .* data set {facts['lineage']['dataset_digest'][:12]}", shown, re.MULTILINE
    )
    backend, parity = facts["spec"]["backend"], facts["lineage"]["parity"]
    assert next(iter(parity)) == "openvino-int8"
    assert backend == next(name for name, one in parity.items() if one["holds"]) == facts["lineage"]["metrics"]["backend"]
    assert f"backend    {backend} (labels agree on {parity[backend]['label_agreement']:.1%} of" in shown
    for name, one in parity.items():
        assert (f"{name} does not answer as torch does: labels agree on" in shown) is not one["holds"]


def test_inspect_accepts_no_provenance_and_refuses_a_wrong_one(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(archive, tmp_path))
    shutil.copy(f"{archive}.sig", f"{copy}.sig")
    assert "\nprovenance none\n" in workspace.ok("inspect", str(copy))
    assert inspect(workspace, str(copy))["provenance"] is None
    for path in provenance.beside(archive):
        shutil.copy(path, tmp_path)
    statement = provenance.path_of(copy)
    statement.write_text(statement.read_text().replace("visor", "other"))
    done = workspace.visor("inspect", str(copy), "--json")
    assert (done.returncode, json.loads(done.stdout)["signature"]["holds"]) == (1, True)
    found = json.loads(done.stdout)["provenance"]
    assert (found["holds"], found["statement"], found["path"]) == (False, None, str(statement))
    assert found["reason"].startswith("provenance.refused: ")
    assert "provenance DOES NOT HOLD: provenance.refused: " in workspace.visor("inspect", str(copy)).stdout


def test_the_bill_of_materials_is_of_a_verified_archive_alone(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    sbom, facts = json.loads(workspace.ok("inspect", str(archive), "--sbom")), inspect(workspace, str(archive))
    assert sbom["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": facts["archive_digest"]}]
    copy = Path(shutil.copy(archive, tmp_path))
    done = workspace.visor("inspect", str(copy), "--sbom")
    assert (done.returncode, done.stdout) == (1, "")
    assert "digits.mar.sig is missing" in done.stderr


def test_evaluating_again_changes_nothing(workspace: Workspace) -> None:
    before = (workspace.home / "digits/metrics.json").read_bytes()
    workspace.ok("evaluate", "runs/digits")
    assert (workspace.home / "digits/metrics.json").read_bytes() == before


def test_metadata_tells_the_archive_and_the_metrics_too(server: Server, workspace: Workspace, archive: Path) -> None:
    digest = inspect(workspace, str(archive))["archive_digest"]
    assert httpx.get(f"http://{server.rest}/v2/models/digits").json()["parameters"]["archive_digest"] == digest
    assert digest in httpx.get(f"http://{server.rest}/metrics").text


@pytest.mark.parametrize("command", ["manifest", "make"])
def test_data_commands_print_where_things_are(workspace: Workspace, command: str, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "manifest.json")] if command == "manifest" else []
    shown = workspace.ok("data", command, CONFIG, *out)
    if command == "make":
        assert (workspace.path / shown.strip()).is_dir()
    else:
        wanted = json.loads((workspace.home / "digits/run.json").read_text())["dataset_digest"]
        assert wanted in shown
        assert (tmp_path / "manifest.json").read_bytes() == (workspace.home / "digits/manifest.json").read_bytes()
