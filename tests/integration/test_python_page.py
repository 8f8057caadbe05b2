"""docs/python.md runs as it stands, on a real archive and real servers, and its answers are the command line's."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.running import OWN, ROOT, Server, Workspace
from tests.unit.blocks import blocks_of

PAGE = ROOT / "docs/python.md"
CONFIG = """
name: any
data: {source: digits}
preprocessing: {height: 16, width: 16, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
model: {network: small_cnn}
backend: torch
fit: {batch_size: 64, phases: [{epochs: 1, learning_rate: 0.003, unfreeze: all}]}
"""


def as_here(text: str, server: Server) -> str:
    """The page's text with this test's model, servers and picture."""
    text = text.replace('"roofs"', '"digits"').replace("docs/examples/roof.jpg", "roof.jpg")
    return text.replace("127.0.0.1:8080", server.rest).replace("127.0.0.1:8081", server.grpc)


def run(script: str, workspace: Workspace) -> "subprocess.CompletedProcess[str]":
    """Run Python in the workspace's folder, to its end."""
    environment = {key: value for key, value in os.environ.items() if key not in OWN} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=workspace.path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_page_runs_as_it_stands(workspace: Workspace, archive: Path, server: Server, images: dict[Path, str]) -> None:
    blocks = blocks_of("docs/python.md", "tests/integration/test_python_page.py::test_the_page_runs_as_it_stands")
    assert len(blocks) == 7
    image = workspace.path / "roof.jpg"
    shutil.copy(next(iter(images)), image)
    shutil.copy(ROOT / "README.md", workspace.path)
    (workspace.path / "my.yaml").write_text(CONFIG)
    script = as_here("\n".join(block.text for block in blocks), server)
    script = script.replace("model-store/roofs/1/roofs.mar", str(archive.relative_to(workspace.path)))
    done = run(script, workspace)
    told = json.loads(workspace.ok("predict", str(image), "--archive", str(archive), "--json"))
    lines = done.stdout.splitlines()
    assert lines[0] == f"{told['label']} {told['confidence']:.3f} {told['decision']}"
    assert lines[1] == lines[2] == lines[3] == f"{told['label']} {told['decision']} {told['score']} {told['threshold']}"
    first, second, third = (line.split() for line in lines[5:8])
    assert first == [told["label"], f"{told['confidence']:.3f}"]
    assert float(first[1]) >= float(second[1]) >= float(third[1])
    assert lines[8] == f"digits {tuple(told['probabilities'])}"
    assert lines[9] == told["decision"]
    assert lines[10] == str([told["decision"]] * 2)
    assert lines[11] == "image.undecodable"
    assert lines[12].startswith("image.undecodable: 10 bytes are not a whole image")
    assert lines[12].endswith(told["decision"])
    assert lines[13] == "client.failed"
    assert lines[14] == f"1797 {tuple('0123456789')} None"  # scikit-learn's digits
    assert re.fullmatch(r"\d+", lines[15])
    assert "<html" in (workspace.path / "data.html").read_text()
    assert re.fullmatch(r"runs/my-roofs 0\.\d\d runs/my-roofs/report\.html", lines[16])
    assert (workspace.path / "roof-heatmap.png").is_file()
    assert (workspace.store / "my-roofs/1/my-roofs.mar").is_file()
    assert lines[17] in told["probabilities"]
    assert len(lines) == 18


@pytest.mark.usefixtures("archive")
def test_the_readmes_lines_run_as_they_stand(workspace: Workspace, server: Server, images: dict[Path, str]) -> None:
    [block] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    shutil.copy(next(iter(images)), workspace.path / "roof.jpg")
    done = run(as_here(block, server), workspace)
    told = json.loads(workspace.ok("predict", "roof.jpg", "--archive", "digits", "--json"))
    assert done.stdout == f"{told['label']} {told['confidence']} {told['decision']}\n"
    assert (workspace.path / "roof.png").is_file()


def test_the_page_names_every_error_and_no_other() -> None:
    import visor

    named = set(re.findall(r"`(\w+)`", PAGE.read_text().split("| error | |")[1].split("\n\n")[0]))
    errors = {name for place, names in visor._PLACES.items() if place.endswith(".errors") for name in names}
    assert named & errors == errors - {"VisorError"}
