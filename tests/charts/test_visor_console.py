"""charts/visor-console by its own tools: unit tests, Pod Security, selectors, notes. `make lint` lints its examples."""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.settings import PREFIX, Settings, read_settings
from tests.charts.checks import ROOT, Values, renderer, restricted

CHART = ROOT / "charts" / "visor-console"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="session")
def render(helm: Any) -> Any:
    return renderer(helm, CHART)


def case(name: str) -> list[str]:
    """The arguments of one of the chart's own examples."""
    return ["--values", str(CHART / "ci" / f"{name}-values.yaml")]


def read(path: str) -> Any:
    return yaml.safe_load((CHART / path).read_text())


def deployment(objects: list[Values]) -> Values:
    [found] = [item for item in objects if item["kind"] == "Deployment"]
    return found


def pods(objects: list[Values]) -> dict[str, Values]:
    """The console's pod and the one that tests it."""
    [test] = [item["spec"] for item in objects if item["kind"] == "Pod"]
    return {"console": deployment(objects)["spec"]["template"]["spec"], "test": test}


def environment(objects: list[Values]) -> dict[str, Any]:
    """The console's variables; of those that come from elsewhere, from where."""
    [console] = pods(objects)["console"]["containers"]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in console["env"]}


def test_helm_unittest(tools: Path) -> None:
    done = subprocess.run([tools / "helm-unittest", "--strict", CHART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"Tests: +(\d+) passed", done.stdout)
    assert found, done.stdout
    assert int(found[1]) > 60


@each_case
def test_restricted_pod_security_accepts_the_pods(render: Any, name: str) -> None:
    for spec in pods(render(*case(name))).values():
        spec["containers"] += spec.pop("initContainers", [])
        assert spec["automountServiceAccountToken"] is False
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in spec["containers"])
        assert list(restricted(spec)) == []


@each_case
def test_volumes_and_mounts_are_the_same(render: Any, name: str) -> None:
    spec = pods(render(*case(name)))["console"]
    volumes = sorted(volume["name"] for volume in spec["volumes"])
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert sorted(mount["name"] for mount in container["volumeMounts"]) == volumes
        [config] = [mount for mount in container["volumeMounts"] if mount["name"] == "config"]
        assert config["readOnly"]


@each_case
def test_what_selects_pods_finds_the_console_and_not_its_test(render: Any, name: str) -> None:
    objects = render(*case(name))
    labels = deployment(objects)["spec"]["template"]["metadata"]["labels"]
    [test] = [item["metadata"]["labels"] for item in objects if item["kind"] == "Pod"]
    [service] = [item for item in objects if item["kind"] == "Service"]
    selecting = [service["spec"]["selector"], deployment(objects)["spec"]["selector"]["matchLabels"]]
    selecting += [item["spec"]["podSelector"]["matchLabels"] for item in objects if item["kind"] == "NetworkPolicy"]
    selecting += [item["spec"]["selector"]["matchLabels"] for item in objects if item["kind"] == "PodDisruptionBudget"]
    for selector in selecting:
        assert selector.items() <= labels.items()
        assert not selector.items() <= test.items()
    for monitor in (item for item in objects if item["kind"] == "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


@each_case
def test_the_files_that_the_environment_names_are_mounted(render: Any, name: str) -> None:
    objects = render(*case(name))
    told, spec = environment(objects), pods(objects)["console"]
    [config] = [volume["projected"]["sources"] for volume in spec["volumes"] if volume["name"] == "config"]
    paths = {f"/etc/visor-console/{item['path']}" for source in config for kind in source.values() for item in kind["items"]}
    servers = json.loads(told["VISOR_CONSOLE_SERVERS"])
    named = {told["VISOR_CONSOLE_KEYS_FILE"], told.get("VISOR_CONSOLE_SECRET_FILE")}
    named |= {server.get("token_file") for server in servers}
    assert paths == named - {None}
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts.get("releases") == told.get("VISOR_CONSOLE_RELEASES")


@each_case
def test_the_init_container_is_told_what_the_console_is(render: Any, name: str) -> None:
    spec = pods(render(*case(name)))["console"]
    for before in spec.get("initContainers", []):
        console = dict(spec["containers"][0])
        for key in ("name", "ports", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
            console.pop(key, None)
        assert {key: value for key, value in before.items() if key not in ("name", "command")} == console


def test_the_console_takes_the_environment_and_the_init_container_s_command(
    render: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(*case("full"), "--set", "database.migrate=true")
    [before] = pods(objects)["console"]["initContainers"]
    assert before["command"] == ["python", "-m", "console", "migrate"]
    for name, value in environment(objects).items():
        monkeypatch.setenv(name, value if isinstance(value, str) else "postgresql+psycopg2://reviews@database/reviews")
    for name in re.findall(rf"\b{PREFIX}\w+(?==)", (ROOT / "docker/console/Dockerfile").read_text()):
        monkeypatch.setenv(name, "0.0.0.0" if name.endswith("HOST") else "/var/lib/visor-console")
    monkeypatch.chdir(tmp_path)  # where no .env is
    made = read_settings()
    assert [server.url for server in made.servers] == ["http://roofs-predictor.vision", "http://gateway.kserve:8080"]
    assert (made.servers[1].host, made.servers[1].model) == ("leaves-vision.example.com", "leaves")
    assert made.database_url.startswith("postgresql")
    assert (made.audit_share, made.keep_days) == (0.05, 90)
    assert "console.example.org" in made.allowed_hosts
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert {name for name in environment(objects) if name.startswith(PREFIX)} <= known


@each_case
def test_no_secret_is_in_what_is_rendered(render: Any, name: str) -> None:
    objects = render(*case(name))
    assert not {"Secret", "Role", "RoleBinding", "ClusterRole"} & {item["kind"] for item in objects}
    told = environment(objects)
    secret = {"VISOR_CONSOLE_DATABASE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    assert all("secretKeyRef" in told[key] for key in secret & set(told))


def test_a_deployment_on_sqlite_or_one_node_s_volume_never_has_two_pods(render: Any) -> None:
    """Of all ways to keep tables and pictures: what is rolled shares nothing with what it takes the place of."""
    database, s3, shared = (
        {"database": {"secretName": "database"}},
        {"pictures": {"s3": {"uri": "s3://reviews"}}},
        {"persistence": {"accessModes": ["ReadWriteMany"]}},
    )
    for with_database in (False, True):
        for with_s3 in (False, True):
            for with_shared in (False, True):
                parts = [part for part, given in ((database, with_database), (s3, with_s3), (shared, with_shared)) if given]
                values = {"servers": [{"url": "http://roofs"}], "keys": {"secretName": "keys"}}
                for part in parts:
                    values |= part
                spec = deployment(render(values=values))["spec"]
                rolling = with_database and (with_s3 or with_shared)
                assert spec["strategy"]["type"] == ("RollingUpdate" if rolling else "Recreate"), values


def missing(part: Values, schema: Values, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of values that have a default and that the schema does not ask for."""
    for key, value in part.items():
        below = schema["properties"][key]
        below = read("values.schema.json")["definitions"][below["$ref"].rsplit("/", 1)[1]] if "$ref" in below else below
        if value is not None and key not in schema.get("required", []):
            yield (*path, key)
        if isinstance(value, dict) and "properties" in below:
            yield from missing(value, below, (*path, key))


def test_a_null_is_refused_by_name_or_means_something(helm: Any) -> None:
    """Helm takes a value that is null away, and templates would end in `nil pointer evaluating`."""
    for path in ("session", "pictures.s3", "route.gateway.name", "metrics.serviceMonitor.interval", "image.repository"):
        done = helm("template", "roofs", str(CHART), *case("full"), "--set", f"{path}=null")
        assert done.returncode == 1
        *above, name = path.split(".")
        assert f"at '{''.join(f'/{key}' for key in above)}': missing property '{name}'" in done.stderr
    free = {".".join(path) for path in missing(read("values.yaml"), read("values.schema.json"))}
    assert {path.split(".")[-2] for path in free} == {
        "resources",
        "readiness",
        "liveness",
        "podSecurityContext",
        "containerSecurityContext",
        "capabilities",
    }
    for path in sorted(free):
        done = helm("template", "roofs", str(CHART), *case("full"), "--set", f"{path}=null")
        assert done.returncode == 0, (path, done.stderr)
        assert "null" not in done.stdout, path


def test_the_chart_is_of_the_project_s_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = read("Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])


def notes(helm: Any, *args: str) -> str:
    done = helm("install", "roofs", str(CHART), "--namespace", "ns", "--dry-run=client", *args)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.split("NOTES:\n")[1])


def test_notes_say_the_next_commands(helm: Any) -> None:
    said = notes(helm, *case("pvc"))
    assert "kubectl rollout status -n ns deployment/roofs\n" in said
    assert "helm test -n ns roofs\n" in said
    assert (
        "kubectl get secret -n ns console-keys -o go-template='{{index .data \"keys.json\" | base64decode}}' >keys.json" in said
    )
    assert "curl -H 'Host: roofs-ns.example.com' " in said
    assert "kubectl port-forward -n ns service/roofs 8090:80" in said
    assert "the volume roofs, which stays when the release is uninstalled" in said

    said = notes(helm, *case("replicas"))
    assert "volume" not in said

    said = notes(helm, *case("full"))
    assert "http://console.example.org/" in said
    assert "the volume roofs-console. Back it up" in said
