"""The chart tools, compiled once, and the chart visor rendered by them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.charts.checks import ROOT, renderer

VISOR = ROOT / "charts" / "visor"


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where tools/build put helm, helm-unittest, kubeconform and helm-docs. Without Go there are none: an error, no skip."""
    done = subprocess.run([ROOT / "tools" / "build"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def helm(tools: Path) -> Any:
    """Run helm; the completed process, whatever its outcome."""

    def helm(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([tools / "helm", *args], cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)

    return helm


@pytest.fixture(scope="session")
def render(helm: Any) -> Any:
    """charts/visor, rendered; a module for another chart has a fixture of this name for its own."""
    return renderer(helm, VISOR)
