"""The examples of the docs run as they stand, each in a process of its own, and say what `visor predict` says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.running import ROOT, Server, Workspace, shell
from tests.unit.blocks import blocks_of, commands


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


@pytest.mark.parametrize("name", ["triton_client", "kserve_client"])
def test_a_client_of_the_docs_says_what_it_is_to_be_given(name: str) -> None:
    command = [sys.executable, str(ROOT / "docs/examples" / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].endswith("HOST:PORT HOST:GRPC_PORT MODEL IMAGE")
    assert "Traceback" not in done.stderr


def test_the_protocols_page_asks_what_is_answered(server: Server, images: dict[Path, str], tmp_path: Path) -> None:
    blocks = blocks_of("docs/v2.md", "tests/integration/test_examples.py::test_the_protocols_page_asks_what_is_answered")
    assert len(blocks) == 6
    shutil.copy(next(iter(images)), tmp_path / "a.png")
    answers = []
    for block in blocks:
        here = block.text.replace("127.0.0.1:8080", server.rest)
        answers.append(shell(here, tmp_path, timeout=60).stdout)
    plain, form, chosen, compressed = (json.loads(answer) for answer in answers[:4])
    assert plain["outputs"] == form["outputs"] == compressed["outputs"]
    assert chosen["id"] == "42"
    assert {output["name"]: output["shape"] for output in chosen["outputs"]} == {
        "label": [1],
        "heatmap": [1, 2, 2],
        "probabilities": [1, 3],
    }
    assert chosen["outputs"][0] == plain["outputs"][0]


CURLS = [
    pytest.param(command.removeprefix("$ "), id=f"{page.name}-{command.split(' #')[0].strip()[-60:]}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for block in re.findall(r"^```(?:sh|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    if "curl " in block
    for command in (
        commands(block) if not block.startswith("$ ") else [block.split("\n{")[0]]  # what the screen shows is the answer
    )
    if "curl " in command and "127.0.0.1:808" in command
]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's folder with photos of several megabytes by the names of the docs, and a token."""
    folder = tmp_path_factory.mktemp("photo")
    (folder / "docs/examples").mkdir(parents=True)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), dtype=np.uint8))
    noise.save(folder / "docs/examples/roof.jpg", quality=95)
    noise.save(folder / "a.png")
    assert min((folder / name).stat().st_size for name in ("docs/examples/roof.jpg", "a.png")) > 2 << 20
    (folder / "tokens").write_text("a-token-of-this-test\n")
    return folder


def test_the_docs_have_curl_commands_to_run() -> None:
    assert len(CURLS) >= 17


@pytest.mark.parametrize("command", CURLS)
def test_each_curl_command_works_with_a_photo_of_any_size(command: str, server: Server, photo: Path) -> None:
    here = command.replace("127.0.0.1:8080", server.rest).replace("/roofs/", "/digits/").replace("curl -s ", "curl -sf ")
    environment = {**os.environ, "VISOR_TOKEN": "a-token-of-this-test"}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", here], cwd=photo, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{here}\n{done.stdout}\n{done.stderr}"
    if "/infer" in here:
        outputs = json.loads(done.stdout)["outputs"]
        assert outputs[0]["name"] == "label"
        assert len(outputs[0]["data"]) == 1


def test_the_guide_shows_no_command_that_does_not_exist() -> None:
    shown = set()
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            shown |= set(re.findall(r"^visor ([a-z]+)", block, re.MULTILINE))
    helped = subprocess.run([sys.executable, "-m", "visor.cli", "--help"], capture_output=True, text=True, check=True).stdout
    assert shown
    assert {command for command in shown if not re.search(rf"^    {command} ", helped, re.MULTILINE)} == set()
