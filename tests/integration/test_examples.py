"""The examples of the docs run as they stand, each in a process of its own, and say what `visor predict` says."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.running import ROOT, Server, Workspace


@pytest.mark.parametrize("name", ["triton_client", "kserve_client"])
def test_a_client_of_the_docs_gets_the_answer_over_both_protocols(
    name: str, workspace: Workspace, server: Server, images: dict[Path, str]
) -> None:
    image = str(next(iter(images)))
    expected = json.loads(workspace.ok("predict", image, "--url", f"http://{server.rest}", "--json"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/examples" / f"{name}.py"), server.rest, server.grpc, "digits", image],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    answer = f"{expected['label']} {expected['confidence']:.3f} {expected['decision']} heatmap (2, 2)"
    assert len(lines) == 2
    assert [line.split(": ", 1)[1] for line in lines] == [answer, answer]


def test_the_protocols_page_asks_what_is_answered(server: Server, images: dict[Path, str], tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/v2.md").read_text(), re.MULTILINE | re.DOTALL)
    shutil.copy(next(iter(images)), tmp_path / "a.png")
    answers = []
    for block in blocks:
        here = block.replace("127.0.0.1:8080", server.rest)
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", here], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{here}\n{done.stdout}\n{done.stderr}"
        answers.append(done.stdout)
    plain, form, chosen, compressed = (json.loads(answer) for answer in answers[:4])
    assert plain["outputs"] == form["outputs"] == compressed["outputs"]
    assert chosen["id"] == "42"
    assert {output["name"]: output["shape"] for output in chosen["outputs"]} == {
        "label": [1],
        "heatmap": [1, 2, 2],
        "probabilities": [1, 3],
    }
    assert chosen["outputs"][0] == plain["outputs"][0]


def test_the_guide_shows_no_command_that_does_not_exist() -> None:
    shown = set()
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            shown |= set(re.findall(r"^visor ([a-z]+)", block, re.MULTILINE))
    helped = subprocess.run([sys.executable, "-m", "visor.cli", "--help"], capture_output=True, text=True, check=True).stdout
    assert shown
    assert {command for command in shown if not re.search(rf"^    {command} ", helped, re.MULTILINE)} == set()
