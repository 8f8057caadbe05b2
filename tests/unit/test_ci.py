""".ci/run, with a `make` in the place of the real one that writes down how it is called: what fails first ends it, and shows."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[2]
MAKE = """#!/bin/bash
echo "make $*" >>calls
case " $* " in
  *" $SLOW "*) echo $$ >slow; sleep 60 & wait ;;
esac
case " $* " in
  *" $FAILING "*)
    [ "$SLOW" = nothing ] || until [ -s slow ]; do sleep 0.01; done
    echo "$* went wrong"; exit 2 ;;
esac
"""
FIRST = ["make setup TAKE_OVER=1", "make lint", "make verify", "make test-unit", "make browser postgres prometheus"]
ASIDE = ["make cluster", "make images IMAGES=serving transformer training console storage-initializer"]
BESIDE = ["make --assume-old test-unit test"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What of a checkout .ci/run looks at, and programs for the PATH."""
    for part in (".ci", "requirements"):
        shutil.copytree(ROOT / part, tmp_path / part)
    for name, script in (("make", MAKE), ("git", "#!/bin/sh\n")):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(script)
        program.chmod(0o755)
    return tmp_path


def start(clone: Path, **environment: str) -> "subprocess.Popen[str]":
    places = {"PATH": f"{clone / 'bin'}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(clone / "cache"), "TMPDIR": str(clone)}
    env = {**os.environ, "FAILING": "nothing", "SLOW": "nothing", **places, **environment}
    return subprocess.Popen([clone / ".ci/run"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(clone: Path, **environment: str) -> tuple[int, str, list[str]]:
    """Its exit code, what it said, and the calls of make."""
    process = start(clone, **environment)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said, (clone / "calls").read_text().splitlines()


def table(said: str) -> list[str]:
    """The steps of the table at the end."""
    *_, end = said.split("=== seconds by step, ")
    return [re.sub(r"^ +\d+ s  ", "", line) for line in end.splitlines()[1:]]


def test_each_step_is_run_once_and_listed_with_its_time(clone: Path) -> None:
    code, said, calls = run(clone)
    assert code == 0, said
    assert calls[: len(FIRST)] == FIRST
    assert sorted(calls[len(FIRST) : -1]) == sorted(ASIDE + BESIDE)
    assert calls[-1] == "make e2e"
    listed = table(said)
    assert sorted(listed) == sorted(
        [*FIRST, *(f"{step}, beside the others" for step in ASIDE), *BESIDE, "join_aside", "make e2e"]
    )
    assert {path.name for path in clone.iterdir()} == {".ci", "requirements", "bin", "cache", "calls", "local.mk"}


@pytest.mark.parametrize("number", range(len(FIRST)))
def test_the_first_failure_ends_it(clone: Path, number: int) -> None:
    failing = FIRST[number].removeprefix("make ")
    code, said, calls = run(clone, FAILING=failing)
    assert (code, calls) == (2, FIRST[: number + 1])
    assert f"{failing} went wrong" in said
    assert table(said) == [*FIRST[:number], f"{FIRST[number]}, failed"]


@pytest.mark.parametrize("failing", ["cluster", "images"])
def test_a_failure_beside_the_others_is_shown_and_ends_it(clone: Path, failing: str) -> None:
    code, said, calls = run(clone, FAILING=failing)
    assert code == 2
    assert re.search(rf"^{failing}.* went wrong$", said, re.MULTILINE)
    assert "make e2e" not in calls
    assert next(line for line in table(said) if line.startswith(f"make {failing}")).endswith(", beside the others, failed")


def test_a_failure_leaves_nothing_running_beside_it(clone: Path) -> None:
    code, said, calls = run(clone, FAILING="test", SLOW="cluster")
    assert code == 2
    assert "test went wrong" in said
    assert not psutil.pid_exists(int((clone / "slow").read_text()))
    assert not set(calls) & {"make e2e", ASIDE[1]}
    assert "make --assume-old test-unit test, failed" in table(said)


def test_when_it_is_ended_so_is_what_it_began(clone: Path) -> None:
    process = start(clone, SLOW="cluster")
    deadline = time.monotonic() + 30
    while not (clone / "slow").exists() or not (clone / "slow").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert not psutil.pid_exists(int((clone / "slow").read_text()))
    assert "make test-unit" in table(said)


def shown(folder: Path, **environment: str) -> list[str]:
    """STAND_IN, KUBECONFIG and PATH as the recipes of the real Makefile see them in a folder."""
    shutil.copy(ROOT / "Makefile", folder)
    recipe = 'show: ; @printf "%s\\n" "$(STAND_IN)" "$${KUBECONFIG:-none}" "$$PATH"'
    kept = {key: value for key, value in os.environ.items() if key not in {"STAND_IN", "KUBECONFIG", "CLUSTER_HOME", "MAKEFLAGS"}}
    env = {**kept, "XDG_CACHE_HOME": str(folder / "cache"), **environment}
    command = ["make", "--no-print-directory", "--eval", recipe, "show"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def test_make_knows_of_the_stand_in_what_local_mk_says(clone: Path) -> None:
    assert shown(clone) == ["", "none", os.environ["PATH"]]
    run(clone)
    assert shown(clone) == ["../shared/cluster", "none", os.environ["PATH"]]
    home = clone / "cache/local-cluster"
    home.mkdir(parents=True)
    (home / "kubeconfig").touch()
    stand_in, kubeconfig, path = shown(clone)
    assert (stand_in, kubeconfig) == ("../shared/cluster", str(home / "kubeconfig"))
    assert path == f"{home}/bin/kubernetes:{home}/bin/addons:{os.environ['PATH']}"
    assert shown(clone, STAND_IN="else/where", KUBECONFIG="mine")[:2] == ["else/where", "mine"]


def test_a_local_mk_that_is_there_is_left(clone: Path) -> None:
    (clone / "local.mk").write_text("STAND_IN = mine\n")
    run(clone)
    assert shown(clone)[0] == "mine"


def test_what_it_calls_are_targets_of_the_makefile(clone: Path) -> None:
    targets = set(re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    _, _, calls = run(clone)
    called = {word for call in calls for word in call.removeprefix("make ").split() if re.fullmatch("[a-z0-9][a-z0-9-]*", word)}
    images = {"transformer", "training", "storage-initializer"}  # of IMAGES="..."
    assert called - images <= targets
    assert {"setup", "lint", "verify", "test-unit", "test", "cluster", "images", "e2e"} <= called


def test_the_workflow_of_forks_runs_these_checks_and_no_list_of_its_own() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    workflow = yaml.safe_load(text)
    [job] = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in job
    assert job["timeout-minutes"] > job["steps"][-1]["timeout-minutes"] > 60
    used = re.findall(r"uses: (.*)$", text, re.MULTILINE)
    assert len(used) == len([step for step in job["steps"] if "uses" in step])
    assert [one for one in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []
    assert job["steps"][0]["with"] == {"persist-credentials": False}
    python = next(step for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert python["with"]["python-version"] == "3.11"
