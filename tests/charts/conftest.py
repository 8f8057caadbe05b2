"""The chart tools, compiled once, and the chart visor rendered by them."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
VISOR = ROOT / "charts" / "visor"
Values = dict[str, Any]


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
    """The objects that a release `roofs` in `ns` has, anew for each caller; fails with helm's words."""

    @cache
    def text(values: str, *args: str) -> str:
        done = helm("template", "roofs", str(VISOR), "--namespace", "ns", "--values", "-", *args, stdin=values)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def render(*args: str, values: Values | None = None) -> list[Values]:
        documents = yaml.load_all(text(json.dumps(values or {}), *args), yaml.CSafeLoader)
        return [document for document in documents if document]

    return render
