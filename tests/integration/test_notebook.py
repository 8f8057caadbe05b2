"""The notebook of the docs runs as it stands, and says of `digits` what is true of it."""

import os
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from sklearn.datasets import load_digits

from tests.integration.running import OWN, ROOT

NOTEBOOK = ROOT / "docs/examples/eda.ipynb"


def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none are committed
    environment = {key: value for key, value in os.environ.items() if key not in OWN}
    environment |= {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython"), "MPLBACKEND": "agg"}
    client = NotebookClient(notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")
    assert f"{len(load_digits().target)} images, labels 0, 1, 2" in printed
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert re.search(r"at most 16 bits: +0 pairs, +0 in two splits", printed)
    assert re.search(r"\d+ changes, such as \('resplit',\)", printed)
