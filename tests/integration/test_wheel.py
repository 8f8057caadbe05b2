"""The wheel holds every module and data file of the packages that are installed, and nothing else of the checkout."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def packages_installed() -> set[str]:
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    return {pattern.removesuffix("*") for pattern in include}


def test_the_wheel_holds_the_packages_whole_and_nothing_else(tmp_path: Path) -> None:
    packages = packages_installed()
    assert packages == {"archives", "console", "drawing", "handlers", "rollout", "training", "transformer", "visor", "watch"}
    source = tmp_path / "source"
    without = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for folder in (*packages, "loadtests", "tests/unit/visor"):  # two that are left out
        shutil.copytree(ROOT / folder, source / folder, ignore=without)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    subprocess.run([sys.executable, "-W", "ignore", "-c", BUILD, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("visor-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}
    there = {str(path.relative_to(source)) for package in packages for path in (source / package).rglob("*") if path.is_file()}
    assert held == there


def test_the_keys_of_configs_are_described_from_the_wheel(tmp_path: Path) -> None:
    """Descriptions stand below the fields in the source, which an installed wheel has, too."""
    for folder in packages_installed():
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-P", "-c", "import sys; from visor.cli import main; sys.exit(main(['config']))"]
    done = subprocess.run(command, cwd="/", env={"PYTHONPATH": str(tmp_path)}, capture_output=True, check=True)
    assert (
        "fit.batch_size  (whole number ≥ 1, ≤ 1000000; default 32)\n    Number of images in a batch, over all"
        in done.stdout.decode()
    )
