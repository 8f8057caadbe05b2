"""README, the quick start and the tutorial run as they stand; what needs Docker or a cluster is counted."""

import hashlib
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, closing
from csv import DictReader
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import pyarrow.parquet as pq
import pytest

from tests.integration.console.consoles import Console, running
from tests.integration.running import ROOT, BeginHome, Server, Workspace, shell, start_server, stop_server

Kind = Literal["run", "server", "make", "elsewhere"]
ELSEWHERE = re.compile(r"needs? (?:Docker|(?:a|the) cluster)")
NEEDS_MORE = re.compile(r"\b(?:docker|helm|kubectl|kind|cluster)\b|^visor rollout|127\.0\.0\.1:30080", re.MULTILINE)
SERVER = re.compile(r"^visor (?:console )?serve\b.*$", re.MULTILINE)
SMALL = [
    "--set", "model={network: small_cnn}",
    "--set", "preprocessing={height: 32, width: 32, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",
    "--set", "fit={batch_size: 64, phases: [{epochs: 3, learning_rate: 0.003, unfreeze: all}]}",
    "--set", "explanation_images=0",
]  # fmt: skip
"""What makes the tutorial's trainings take seconds; how good they get is not what this is about."""
DAMAGED = 300
"""Drawn roofs are damaged whose names are below this number: three in ten of a thousand."""


@dataclass(frozen=True)
class Block:
    """Commands of a page. `kind`: whether they end, serve until they are stopped, are make's, or need Docker or a cluster."""

    text: str
    kind: Kind


def blocks(page: str) -> list[Block]:
    """The blocks of shell in a page, each judged by its commands and by the paragraph before it."""
    text, found = (ROOT / page).read_text(), []
    for block in re.finditer(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        before = " ".join(text[: block.start()].rstrip().rpartition("\n\n")[2].split())
        commands = block[1].splitlines()
        kind: Kind = "run"
        if ELSEWHERE.search(before):
            kind = "elsewhere"
        elif SERVER.match(commands[-1]):
            kind = "server"
        elif all(line.startswith("make ") for line in commands):
            kind = "make"
        found.append(Block(block[1], kind))
    return found


@pytest.mark.parametrize(
    ("page", "counts"),
    [
        ("README.md", {"make": 1, "server": 1}),
        ("docs/quick-start.md", {"make": 3, "run": 3, "server": 1, "elsewhere": 2}),
        ("docs/tutorial.md", {"run": 16, "server": 2, "elsewhere": 4}),
    ],
)
def test_each_block_runs_here_or_says_what_it_needs(page: str, counts: dict[Kind, int]) -> None:
    found = blocks(page)
    assert Counter(block.kind for block in found) == counts
    for block in found:
        assert bool(NEEDS_MORE.search(block.text)) == (block.kind == "elsewhere"), block.text


@pytest.mark.parametrize("page", ["README.md", "docs/quick-start.md"])
def test_make_knows_its_targets(page: str) -> None:
    """What they do is `test_demo.py`'s, and CI's own `make test`."""
    for block in blocks(page):
        if block.kind == "make":
            for line in block.text.splitlines():
                words = shlex.split(line, comments=True)
                dry = ["make", "--dry-run", "--assume-old", "setup", *words[1:]]
                done = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
                assert ("/visor demo" in done.stdout) == ("demo" in words)


def test_the_quick_start_as_it_stands(
    workspace: Workspace, archive: Path, server: Server, images: dict[Path, str], tmp_path: Path
) -> None:
    """On the archive and server of the other tests, in the place of the demo's."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for image, label in images.items():
        (tmp_path / "FOLDER" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / "FOLDER" / label)
    places = {
        "VISOR_HOME": str(workspace.home),
        "VISOR_STORE": str(workspace.store),
        "VISOR_PUBLIC_KEY": str(workspace.public_key),
    }
    said = []
    for block in blocks("docs/quick-start.md"):
        if block.kind == "run":
            text = re.sub(r"\broofs\b", "digits", block.text)
            text = text.replace("visor predict ", f"visor predict --url http://{server.rest} ")
            said.append(shell(text, tmp_path, **places).stdout)
    inspected, predicted, _ = said
    digest = json.loads(workspace.ok("inspect", str(archive), "--json"))["archive_digest"]
    assert f"digest     {digest}" in inspected
    [heatmap] = (tmp_path / "heatmaps").iterdir()
    assert predicted.startswith("docs/examples/roof.jpg")
    assert heatmap.name in predicted
    assert "<html" in (tmp_path / "report.html").read_text()


@dataclass
class Walk:
    """Somebody who follows the tutorial in a folder, with a server and a console once they are started."""

    place: Workspace
    running: ExitStack
    server: Server | None = None
    console: Console | None = None

    def take(self, block: Block) -> str:
        """Do what a block says; what it wrote to standard output."""
        if block.kind == "server":
            self._serve(shlex.split(block.text))
            return ""
        return shell(self._as_here(block.text), self.place.path).stdout

    def _serve(self, words: list[str]) -> None:
        if words[1] == "serve":
            self.server = start_server(self.place, words[2], self.place.path / "server.log", *words[3:])
            self.running.callback(stop_server, self.server)
        else:
            assert self.server
            self.console = self.running.enter_context(running(self.place.path, *words[3:], servers=f"http://{self.server.rest}"))

    def _as_here(self, text: str) -> str:
        """The text with this test's trainings and ports."""
        text = text.replace("visor train ", f"visor train {shlex.join(SMALL)} ")
        if self.server:
            text = text.replace("visor predict ", f"visor predict --url http://{self.server.rest} ")
        return text.replace("http://127.0.0.1:8090", self.console.url) if self.console else text

    def label_all(self, at_least: int) -> int:
        """Label everything that waits, and at least so many pictures, as the page does it for a person; how many there were."""
        assert self.console
        truth = {
            hashlib.sha256(path.read_bytes()).hexdigest(): "damaged" if int(path.stem) < DAMAGED else "intact"
            for path in (self.place.path / "survey/new").iterdir()
        }
        labelled, idle_since = 0, time.monotonic()
        while labelled < at_least or time.monotonic() < idle_since + 2:
            assert time.monotonic() < idle_since + 60, f"only {labelled} of {at_least} pictures came into the queue"
            answer = httpx.post(f"{self.console.url}/reviews/next")
            if answer.status_code == 404:  # answers go into the queue by themselves, a moment later
                time.sleep(0.1)
                continue
            number = answer.raise_for_status().json()["id"]
            with closing(sqlite3.connect(self.place.path / "console-data/console.db")) as database:
                [digest] = database.execute("SELECT digest FROM items WHERE id = ?", (number,)).fetchone()
            label = {"label": truth[digest]}
            httpx.post(f"{self.console.url}/reviews/{number}/label", json=label).raise_for_status()
            labelled, idle_since = labelled + 1, time.monotonic()
        return labelled


def test_the_tutorial_as_it_stands(tmp_path: Path, begin_home: BeginHome) -> None:
    place, folder = Workspace(tmp_path), tmp_path / "survey"
    begin_home(place.home)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    told = {}
    with ExitStack() as running_now:
        walk = Walk(place, running_now)
        for block in blocks("docs/tutorial.md"):
            if block.kind == "elsewhere":
                continue
            if "visor console export" in block.text:
                with (folder / "answers.csv").open() as file:
                    decisions = Counter(row["decision"] for row in DictReader(file))
                labelled = walk.label_all(at_least=max(decisions["review"], 1))
            told[block.text] = walk.take(block)
    assert {path.name for path in folder.iterdir()} == {
        "photos", "new", "data.html", "survey.yaml", "heatmaps", "scores.parquet", "new.zip", "answers.csv", "reviews",
        "photos-2", "compared", "dusk",
    }  # fmt: skip

    def said(command: str) -> str:
        """What the block with a command wrote."""
        [text] = [text for block, text in told.items() if command in block]
        return text

    pictures = list((folder / "new").iterdir())
    assert len(pictures) == decisions.total() == 100
    for run in ("survey", "survey-2"):
        assert {"report.html", "model-card.html", "spec.json"} <= {path.name for path in (place.home / run).iterdir()}
    assert json.loads((place.home / "survey/spec.json").read_text())["decision"]["positive"] == ["damaged"]
    for version in ("1", "2"):
        assert (place.store / "survey" / version / "survey.mar.sig").is_file()
    assert "signature  holds" in said("visor inspect survey\n")
    assert len(list((folder / "heatmaps").iterdir())) == said("visor predict").count(".png") == 2
    scored = pq.read_table(folder / "scores.parquet").to_pandas()
    assert len(scored) == 100
    assert scored.groupby("decision").size().to_dict() == decisions
    for decision, number in decisions.items():
        assert re.search(rf"^{decision} +{number}$", said("visor score"), re.MULTILINE)
    assert said("visor console export") == f"{labelled} labelled pictures in survey/reviews\n"
    assert len((folder / "reviews/reviews.jsonl").read_text().splitlines()) == labelled
    before, after = (
        json.loads((path / "manifest.json").read_text())["samples"] for path in (place.home / "survey", folder / "photos-2")
    )
    assert 0 < len(after) - len(before) <= labelled
    assert "sealed" in {sample["split"] for sample in after} - {sample["split"] for sample in before}
    assert "audits, drawn at random of what a server was asked" in said("visor compare")
    assert "<html" in (folder / "compared/compare.html").read_text()
    assert "\n  reviews:\n  - parent_digest: " in said("visor inspect survey/2")
    assert said("visor drift survey/1 survey/dusk").endswith("exit code 3\n")
