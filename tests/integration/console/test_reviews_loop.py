"""The loop, once round: answers, reviews, export, the next data set, training, comparison, a lineage that names the reviews."""

import io
import json
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageOps

from console.__main__ import main as console_command
from tests.integration.console.consoles import Console, running
from tests.integration.running import QUICK, ROOT, Server, Workspace

AUDITS, CHOSEN = 6, 12
TRAINING = (str(ROOT / "training/configs/digits.yaml"), *QUICK, "--set", "backend=torch", "--set", "explanation_images=0")


def pictures(workspace: Workspace, images: list[str]) -> list[bytes]:
    """Digits that the network has not seen like that: black on white, and three times as large."""
    made = []
    for path in images:
        file = io.BytesIO()
        with Image.open(workspace.home / "data/digits" / path) as image:
            ImageOps.invert(image.resize((24, 24), Image.Resampling.BICUBIC)).save(file, "PNG")
        made.append(file.getvalue())
    return made


def review_all(console: Console, items: int) -> dict[int, str]:
    """Label what waits, but for the last one, which is passed on; the labels by item."""
    given: dict[int, str] = {}
    deadline = time.monotonic() + 60
    while len(given) < items:
        answer = httpx.post(f"{console.url}/reviews/next")
        if answer.status_code == 404:
            assert time.monotonic() < deadline, f"only {len(given)} pictures came into the queue"
            time.sleep(0.1)
            continue
        held = answer.raise_for_status().json()
        label = held["labels"][held["id"] % 10]
        given[held["id"]] = label
        what = ("skip", None) if len(given) == items else ("label", {"label": label})
        httpx.post(f"{console.url}/reviews/{held['id']}/{what[0]}", json=what[1]).raise_for_status()
    return given


def test_what_people_label_becomes_the_next_archive(
    own: Workspace, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = json.loads((own.home / "digits/manifest.json").read_text())["samples"]
    made = pictures(own, [sample["path"] for sample in samples[:: len(samples) // (AUDITS + CHOSEN)]][: AUDITS + CHOSEN])
    with running(tmp_path, servers=f"http://{server.rest}", audit_share="1") as console:
        for content in made[:AUDITS]:  # every picture that is asked about is drawn, and none that is put into the queue
            httpx.post(f"{console.url}/predict", content=content, headers={"Content-Type": "image/png"}).raise_for_status()
        for content in made[AUDITS:]:
            httpx.post(f"{console.url}/reviews/items", content=content).raise_for_status()
        given = review_all(console, len(made))
    skipped = list(given)[-1]
    export, data, run = tmp_path / "reviews", tmp_path / "digits-2", tmp_path / "run"
    assert console_command(["export", "--folder", str(tmp_path / "console-data"), "--out", str(export)]) == 0
    assert f"{len(made) - 1} labelled pictures" in capsys.readouterr().out
    labels = {task["data"]["digest"]: given[task["id"]] for task in json.loads((export / "tasks.json").read_text())}
    assert skipped not in {task["id"] for task in json.loads((export / "tasks.json").read_text())}

    own.ok("data", "from-reviews", str(export), "--parent", "runs/digits", "--out", str(data))
    before = {sample["path"]: sample for sample in samples}
    after = {sample["path"]: sample for sample in json.loads((data / "manifest.json").read_text())["samples"]}
    assert before.items() <= after.items()
    new = [sample for path, sample in after.items() if path not in before]
    assert {sample["sha256"]: sample["label"] for sample in new}.items() <= labels.items()
    assert {"train", "sealed"} <= {sample["split"] for sample in new} <= {"train", "val", "sealed"}

    place = ("--set", "data.source=imagefolder", "--set", f"data.path={data}")
    own.ok("train", *TRAINING, *place, "--out", str(run))
    said = own.ok("compare", "runs/digits", str(run), "--audits", "--no-archives", "--out", str(tmp_path / "compared"))
    compared = json.loads((tmp_path / "compared/compare.json").read_text())
    audits = [sample for sample in new if sample["split"] == "sealed"]
    assert compared["audits"]["images"] == len(audits) > 0
    assert set(compared["audits"]["figures"]) == {"runs/digits", str(run)}
    assert f"On {len(audits)} audits, drawn at random of what a server was asked" in said

    assert f"{len(new)} pictures labelled by 1 reviewer" in (run / "model-card.md").read_text()
    archive = own.ok("archive", str(run), "--store", str(tmp_path / "store")).strip().splitlines()[-1]
    facts = json.loads(own.ok("inspect", archive, "--json"))
    [reviews] = facts["lineage"]["reviews"]
    assert reviews["taken"] == {split: sum(one["split"] == split for one in new) for split in {one["split"] for one in new}}
    assert sum(reviews["reviewers"].values()) == len(new)
    assert list(reviews["archives"]) == [json.loads(own.ok("inspect", "digits/1", "--json"))["archive_digest"]]
    named = facts["provenance"]["statement"]["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"name": "reviews", "digest": {"sha256": reviews["export_digest"]}} in named
    assert facts["provenance"]["holds"]
