"""charts/visor-training by its own tools: unit tests, Pod Security, the Job's name, notes. `make lint` lints its examples."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
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
    """What trains: a TrainJob, or the one Job."""
    named = {item["kind"]: item["metadata"]["name"] for item in objects if item["kind"] in ("Job", "TrainJob")}
    return str(named.get("TrainJob") or named["Job"])


@pytest.mark.parametrize("base", [PLAIN, TRAIN_JOB], ids=["Job", "TrainJob"])
def test_the_name_is_of_what_the_job_is_made_of(render: Any, base: Values) -> None:
    name = job_name(render(values=base))
    assert re.fullmatch(r"roofs-[0-9a-f]{8}", name)
    assert job_name(render("--is-upgrade", values=base)) == name
    for path, value in {
        ("job", "backoffLimit"): 9,
        ("job", "ttlSecondsAfterFinished"): 9,
        ("extraLabels",): {"a": "b"},
        ("mlflow", "server", "resources"): {"requests": {"cpu": "50m"}},
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
        spec["containers"] += spec.pop("initContainers", [])
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert {pod: list(restricted(spec)) for pod, spec in found.items()} == {pod: [] for pod in found}


@pytest.mark.parametrize("name", CASES)
def test_volumes_and_mounts_are_the_same(render: Any, name: str) -> None:
    for spec in pods(render(*case(name))).values():
        containers = [*spec["containers"], *spec.get("initContainers", [])]
        mounts = {mount["name"] for container in containers for mount in container["volumeMounts"]}
        volumes = [volume["name"] for volume in spec["volumes"]]
        assert sorted(mounts) == sorted(volumes)


SECRET = {"key", "passphrase", "models", "signing-tmp"}


@pytest.mark.parametrize("name", sorted(set(CASES) - {"score"}))
def test_what_decodes_images_has_no_key_and_shares_no_place_of_programs_with_what_has(render: Any, name: str) -> None:
    """Python reads modules from below HOME, and a `.pth` file there would run where the key is."""
    trained = 0
    for spec in pods(render(*case(name), "--set", "signing.passphrase.secretName=words")).values():
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            home = next(mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/tmp")
            if container["name"] in ("train", "node"):
                trained += 1
                assert not mounts & SECRET
                assert home == "tmp"
            elif container["name"] in ("check", "deliver"):
                assert {"key", "passphrase"} <= mounts
                assert home == "signing-tmp"
                assert "data" not in mounts
    assert trained


def missing(part: Values, schema: Values, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of values that have a default and that the schema does not ask for."""
    for key, value in part.items():
        below = schema["properties"][key]
        below = schema_of(below["$ref"]) if "$ref" in below else below
        if value is not None and key not in schema.get("required", []):
            yield (*path, key)
        if isinstance(value, dict) and "properties" in below:
            yield from missing(value, below, (*path, key))


def schema_of(reference: str) -> Any:
    return read("values.schema.json")["definitions"][reference.rsplit("/", 1)[1]]


def test_a_null_is_refused_by_name_or_means_something(helm: Any) -> None:
    """Helm takes a value that is null away, and templates would end in `nil pointer evaluating`."""
    for path in ("mlflow", "networkPolicy", "scoring.images", "signing.passphrase", "cronJob.schedule", "image.repository"):
        done = helm("template", "roofs", str(CHART), *case("full"), "--set", f"{path}=null")
        assert done.returncode == 1
        *above, name = path.split(".")
        assert f"at '{''.join(f'/{key}' for key in above)}': missing property '{name}'" in done.stderr
    free = {".".join(path) for path in missing(read("values.yaml"), read("values.schema.json"))}
    assert {path.split(".")[-2] for path in free} == {
        "resources",
        "podSecurityContext",
        "containerSecurityContext",
        "capabilities",
    }
    for path in sorted(free):
        done = helm("template", "roofs", str(CHART), *case("full"), "--set", f"{path}=null")
        assert done.returncode == 0, (path, done.stderr)
        assert "null" not in done.stdout, path


@pytest.mark.parametrize("name", CASES)
def test_visor_takes_the_command_line(render: Any, name: str) -> None:
    found = False
    for item in render(*case(name)):
        if item["kind"] == "TrainJob":
            containers = [item["spec"]["trainer"]]
        elif item["kind"] in ("Job", "CronJob"):
            pod = pods([item])[item["kind"]]
            containers = [*pod.get("initContainers", []), *pod["containers"]]
        else:
            continue
        for container in containers:
            found = True
            assert container["command"][-2:] == ["-m", "visor.cli"]
            args = parse_args([arg.replace("$(JOB_COMPLETION_INDEX)", "7") for arg in container["args"]])
            if name == "score":
                assert args.shard == (7, 8)
                assert (args.archive, args.images) == ("roofs/3", Path("/images/roofs/2026"))
                assert args.out == Path("/scores/roofs-2026")
                continue
            assert args.run is pipeline.run
            assert args.config == Path("/etc/visor/config/config.yaml")
            assert args.step == container.get("name", "train")
    assert found


def test_a_train_job_names_its_run_to_the_job_that_waits(render: Any) -> None:
    objects = {item["kind"]: item for item in render(*case("train-job"))}
    train, deliver = objects["TrainJob"], objects["Job"]["spec"]["template"]["spec"]["containers"][0]
    file = f"--run-file=/runs/{train['metadata']['name']}.run"
    assert file in train["spec"]["trainer"]["args"]
    assert file in deliver["args"]


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
    assert f"kubectl logs -n ns --follow --pod-running-timeout=5m -c train job/{job}" in said
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
