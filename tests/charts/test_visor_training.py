"""charts/visor-training by its own tools: unit tests, Pod Security, the Job's name, notes. `make lint` lints its examples."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.checks import ROOT, Values, kubeconform, renderer, restricted, with_value
from visor.cli import parse_args
from visor.commands import pipeline

CHART = ROOT / "charts" / "visor-training"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))


@pytest.fixture(scope="session")
def render(helm: Any) -> Any:
    return renderer(helm, CHART)


def case(name: str) -> list[str]:
    """The arguments of one of the chart's own examples."""
    return ["--values", str(CHART / "ci" / f"{name}-values.yaml")]


def read(path: str) -> Any:
    return yaml.safe_load((CHART / path).read_text())


def test_helm_unittest(tools: Path) -> None:
    done = subprocess.run([tools / "helm-unittest", "--strict", CHART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"Tests: +(\d+) passed", done.stdout)
    assert found, done.stdout
    assert int(found[1]) > 50


@pytest.mark.parametrize("path", [("spec",), ("spec", "runtimePatches", 0, "trainingRuntimeSpec", "template", "spec")])
def test_the_crd_of_a_train_job_notices_an_unknown_field(render: Any, tools: Path, path: tuple[str | int, ...]) -> None:
    [train] = [item for item in render(*case("train-job")) if item["kind"] == "TrainJob"]
    part = train
    for key in path:
        part = part[key]
    part["podSpecOverrides"] = []  # as an earlier version of Kubeflow Trainer called it
    code, said = kubeconform(tools, [train])
    assert code == 1
    assert "podSpecOverrides" in said


PLAIN: Values = {
    "config": {"text": "name: tiny\n"},
    "modelStore": {"pvc": {"claim": "models"}},
    "signing": {"secretName": "signing"},
}
TRAIN_JOB: Values = {**PLAIN, "trainJob": {"enabled": True}}


def job_name(objects: list[Values]) -> str:
    [name] = [item["metadata"]["name"] for item in objects if item["kind"] in ("Job", "TrainJob")]
    return str(name)


@pytest.mark.parametrize("base", [PLAIN, TRAIN_JOB], ids=["Job", "TrainJob"])
def test_the_name_is_of_what_the_job_is_made_of(render: Any, base: Values) -> None:
    name = job_name(render(values=base))
    assert re.fullmatch(r"roofs-[0-9a-f]{8}", name)
    assert job_name(render("--is-upgrade", values=base)) == name
    for path, value in {
        ("job", "backoffLimit"): 9,
        ("job", "ttlSecondsAfterFinished"): 9,
        ("extraLabels",): {"a": "b"},
        ("mlflow", "server", "resources"): {"requests": {"cpu": "7"}},
    }.items():
        assert job_name(render(values=with_value(base, path, value))) == name, path
    others = {
        job_name(render(values=with_value(base, path, value)))
        for path, value in {
            ("config", "text"): "name: tiny\nseed: 1\n",
            ("set",): ["seed=1"],
            ("image", "tag"): "next",
            ("job", "trigger"): 2,
            ("resources", "limits", "memory"): "5Gi",
        }.items()
    }
    assert len(others) == 5
    assert name not in others


def test_a_scoring_s_name_is_of_what_it_is_made_of(render: Any) -> None:
    base = read("ci/score-values.yaml")
    name = job_name(render(values=base))
    assert re.fullmatch(r"roofs-score-[0-9a-f]{8}", name)
    for path, value in {("scoring", "parallelism"): 4, ("scoring", "backoffLimitPerIndex"): 9, ("resources",): {}}.items():
        assert job_name(render(values=with_value(base, path, value))) == name, path
    changes = {("scoring", "archive"): "roofs/4", ("scoring", "publicKey"): "other", ("scoring", "trigger"): 2}
    others = {job_name(render(values=with_value(base, path, value))) for path, value in changes.items()}
    assert len(others - {name}) == 3


def pods(objects: list[Values]) -> dict[str, Values]:
    """The pods that a release makes, a TrainJob's as its patches make it."""
    found = {}
    for item in objects:
        spec, kind = item.get("spec", {}), item["kind"]
        if kind in ("Job", "Deployment"):
            found[kind] = spec["template"]["spec"]
        elif kind == "CronJob":
            found[kind] = spec["jobTemplate"]["spec"]["template"]["spec"]
        elif kind == "TrainJob":
            [patch] = spec["runtimePatches"]
            [replicated] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
            found[kind] = replicated["template"]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("name", CASES)
def test_restricted_pod_security_accepts_the_pods(render: Any, name: str) -> None:
    found = pods(render(*case(name)))
    assert found
    for spec in found.values():
        spec["containers"] += spec.get("initContainers", [])
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert {pod: list(restricted(spec)) for pod, spec in found.items()} == {pod: [] for pod in found}


@pytest.mark.parametrize("name", CASES)
def test_volumes_and_mounts_are_the_same(render: Any, name: str) -> None:
    for spec in pods(render(*case(name))).values():
        mounts = [mount["name"] for mount in spec["containers"][0]["volumeMounts"]]
        assert sorted(mounts) == sorted(volume["name"] for volume in spec["volumes"])


@pytest.mark.parametrize("name", CASES)
def test_visor_takes_the_command_line(render: Any, name: str) -> None:
    found = False
    for item in render(*case(name)):
        if item["kind"] == "TrainJob":
            trainer = item["spec"]["trainer"]
        elif item["kind"] in ("Job", "CronJob"):
            trainer = pods([item])[item["kind"]]["containers"][0]
        else:
            continue
        found = True
        assert trainer["command"][-2:] == ["-m", "visor.cli"]
        args = parse_args([arg.replace("$(JOB_COMPLETION_INDEX)", "7") for arg in trainer["args"]])
        if name == "score":
            assert args.shard == (7, 8)
            assert (args.archive, args.images, args.out) == ("roofs/3", Path("/images/roofs/2026"), Path("/scores/roofs-2026"))
            continue
        assert args.run is pipeline.run
        assert args.config == Path("/etc/visor/config/config.yaml")
    assert found


def test_the_chart_is_of_the_project_s_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = read("Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])


def notes(helm: Any, *args: str) -> str:
    done = helm("install", "roofs", str(CHART), "--namespace", "ns", "--dry-run=client", *args)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.split("NOTES:\n")[1])


def test_notes_say_the_next_commands(helm: Any, render: Any) -> None:
    job = job_name(render(*case("pvc")))
    said = notes(helm, *case("pvc"))
    assert f"kubectl wait -n ns --for=condition=Complete --timeout=1h job/{job}" in said
    assert "helm install -n ns digits charts/visor --set archive.uri=pvc://models/digits/1 " in said
    assert "CronJob" not in said
    assert "port-forward" not in said

    said = notes(helm, *case("s3"))
    assert "kubectl create job -n ns --from=cronjob/roofs roofs-now" in said
    assert "--set archive.uri=s3://models/store/MODEL/1 " in said  # the config is in a ConfigMap that exists
    assert "kubectl port-forward -n ns service/roofs-mlflow 5000:5000" in said
    assert "job/roofs-" not in said

    assert "archive.uri=pvc://models/store/leaves/1 " in notes(helm, *case("train-job"))

    said = notes(helm, *case("score"))
    assert f"--for=condition=Complete --timeout=1h job/{job_name(render(*case('score')))}" in said
    assert "helm install" not in said
