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


def test_how_far_it_is_stands_in_the_log_and_a_failure_of_pip_ends_it(environment: Path, tmp_path: Path) -> None:
    lines = [f"Collecting package-{n}==1.0 (from -r requirements/visor.txt (line {n}))" for n in range(1, 61)]
    lines.insert(1, "  Downloading package_1-1.0-py3-none-any.whl (2.5 MB)")
    lines.insert(3, "  Downloading package_2-1.0-cp311-manylinux.whl (204.1 MB)")
    lines.append("Installing collected packages: package-1, package-2")
    lines.insert(0, "Ignoring appnope: markers 'sys_platform == \"darwin\"' don't match your environment")
    lines.insert(1, "Requirement already satisfied: package-0==1.0 in /venv (from -r requirements/visor.txt (line 9))")
    (tmp_path / "said").write_text("\n".join(lines) + "\n")
    program(environment / "bin/pip", f"case $* in *--editable*) ;; *) cat {tmp_path}/said ;; esac")
    first = checkout(tmp_path / "first")
    total = sum("==" in line for line in (first / "requirements/torch.txt").read_text().splitlines())
    done, _ = setup(first, environment, TORCH_INDEX="")
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[0].startswith(f"make setup: installing into {environment}, once, in two steps, ")
    step = "make setup: 1 of 2, torch"
    assert told[1:5] == [
        f"{step}: downloading package-2==1.0, 204.1 MB",
        f"{step}: 25 of {total - 1} packages",
        f"{step}: 50 of {total - 1} packages",
        f"{step}: all 61 packages are here and are unpacked now",
    ]
    assert told[5].startswith("make setup: 2 of 2, all else: downloading package-2")

    assert "packages" not in told[0]  # a sum of both steps would count what this platform does not need

    program(environment / "bin/pip", "echo 'no such package' >&2; exit 1")
    (environment / ".visor-lock").unlink()
    done, _ = setup(first, environment)
    assert done.returncode == 1
    assert "no such package" in done.stderr
    assert not (environment / ".visor-lock").exists()
