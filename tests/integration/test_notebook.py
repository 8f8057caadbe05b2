"""The notebooks of the docs run as they stand, and say of `digits` what is true of it."""

import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from sklearn.datasets import load_digits

from tests.integration.running import OWN, ROOT

FOLDER = ROOT / "docs/examples"


def run(name: str, place: Path) -> tuple[str, bool]:
    """Run a notebook in a folder; what it printed, and whether it showed a picture."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none are committed
    environment = {key: value for key, value in os.environ.items() if key not in OWN}
    environment |= {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(place / "ipython"), "MPLBACKEND": "agg"}
    environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environment["PATH"]))
    client = NotebookClient(notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(place)}})
    client.execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")
    return printed, any("image/png" in output.get("data", {}) for output in outputs)


def imports(name: str) -> set[str]:
    """The packages that a notebook imports."""
    cells = nbformat.read(FOLDER / name, as_version=4).cells
    return set(re.findall(r"^(?:import|from) (\w+)", "\n".join(cell.source for cell in cells), re.MULTILINE))


def test_the_notebook_on_data_runs_and_imports_of_ours_visor_alone(tmp_path: Path) -> None:
    assert imports("eda.ipynb") == {"pathlib", "visor"}
    printed, shows = run("eda.ipynb", tmp_path)
    assert f"{len(load_digits().target)} images, labels 0, 1, 2" in printed
    assert shows
    assert re.search(r"at most 16 bits: +0 pairs, +0 in two splits", printed)
    assert re.search(r"\d+ changes, such as \('resplit',\)", printed)


def test_the_notebook_on_answers_runs_and_imports_of_ours_visor_alone(tmp_path: Path) -> None:
    assert imports("answers.ipynb") == {"importlib", "pathlib", "visor"}
    printed, shows = run("answers.ipynb", tmp_path)
    assert shows
    assert float(re.findall(r"^(0\.\d\d) of the test images are right", printed, re.MULTILINE)[0]) > 0.5
    [(right, asked)] = re.findall(r"^(\d+) of (\d+) eights are read as one", printed, re.MULTILINE)
    assert int(right) > int(asked) / 2
    assert int(asked) == 40
    reviewed = [int(count) for count in re.findall(r"(\d+) of 40 to review", printed)]
    assert len(reviewed) == 3
    assert reviewed == sorted(reviewed)
