"""requirements/setup.sh, with programs in the place of Java and pip: whose code an environment runs is not changed silently."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def checkout(path: Path) -> Path:
    """What of a checkout setup.sh reads."""
    shutil.copytree(ROOT / "requirements", path / "requirements")
    shutil.copy(ROOT / "pyproject.toml", path)
    return path.resolve()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment that two checkouts name; its pip writes down where it is called and with which arguments."""
    venv = tmp_path / "venv"
    program(tmp_path / "bin/java", "echo 'openjdk version \"17.0.1\"' >&2")
    for name in ("python", "visor"):
        program(venv / "bin" / name, "exit 0")
    program(venv / "bin/pip", f'echo "$PWD $*" >>{tmp_path}/calls')
    return venv


def setup(checkout: Path, venv: Path, **variables: str) -> tuple["subprocess.CompletedProcess[str]", list[str]]:
    """Run setup.sh of a checkout: how it went, and what pip was called with."""
    calls = venv.parent / "calls"
    calls.write_text("")
    kept = {key: value for key, value in os.environ.items() if key not in {"JAVA_HOME", "TORCH_INDEX", "TAKE_OVER"}}
    env = {**kept, "PATH": f"{venv.parent / 'bin'}:{os.environ['PATH']}", "VENV": str(venv), **variables}
    done = subprocess.run([checkout / "requirements/setup.sh"], env=env, capture_output=True, text=True, check=False)
    return done, calls.read_text().splitlines()


def points_at(call: str, checkout: Path) -> bool:
    return call.startswith(f"{checkout} install") and call.endswith("--editable .")


def test_an_environment_is_installed_once_and_then_left(environment: Path, tmp_path: Path) -> None:
    first = checkout(tmp_path / "first")
    done, calls = setup(first, environment)
    assert done.returncode == 0, done.stderr
    assert [call.split()[-1] for call in calls] == ["requirements/torch.txt", "requirements/visor.txt", "."]
    assert points_at(calls[-1], first)
    assert setup(first, environment)[1] == []
    with (first / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    (call,) = setup(first, environment)[1]  # its metadata alone
    assert points_at(call, first)


def test_another_checkout_is_refused_it_and_told_whose_it_is(environment: Path, tmp_path: Path) -> None:
    first, second = checkout(tmp_path / "first"), checkout(tmp_path / "second")
    setup(first, environment)
    done, calls = setup(second, environment)
    assert (done.returncode, calls) == (1, [])
    assert f"{environment} runs the code of another checkout, {first}; " in done.stderr
    assert f"make setup VENV={environment} TAKE_OVER=1" in done.stderr
    assert setup(first, environment)[1] == []  # still its own


def test_another_checkout_may_take_it_over_and_says_so(environment: Path, tmp_path: Path) -> None:
    first, second = checkout(tmp_path / "first"), checkout(tmp_path / "second")
    setup(first, environment)
    done, (call,) = setup(second, environment, TAKE_OVER="1")
    assert points_at(call, second)
    assert done.stdout == f"make setup: {environment} ran the code of {first}; it runs the code of {second} now\n"
    assert setup(first, environment)[0].returncode == 1


def test_what_a_checkout_that_is_gone_leaves_is_taken_over(environment: Path, tmp_path: Path) -> None:
    first, second = checkout(tmp_path / "first"), checkout(tmp_path / "second")
    setup(first, environment)
    shutil.rmtree(first)
    done, (call,) = setup(second, environment)
    assert points_at(call, second)
    assert done.stdout == f"make setup: {environment} ran the code of {first}, which is gone; it runs the code of {second} now\n"
