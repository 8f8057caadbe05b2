"""What any chart is held against: its objects' schemas, the restricted Pod Security Standard, values that are all explained."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SCHEMAS = "tools/schemas/{{.ResourceKind}}{{.KindSuffix}}.json"
Values = dict[str, Any]


@dataclass(frozen=True)
class ChartValues:
    """What the tests of a chart's values have to be told.

    `least`: helm's arguments for what has no default. `open_parts`: paths of the schema's parts that take any key. `refused`: a
    setting each, and helm's words for it. `bases`: values, by a value's name or by the first part of its name, beside which it
    matters; `all_on` for every other. `other`: another value for each one whose type does not tell one. `instead`: for what
    cannot change alone, the values as a whole. `unseen`: values that change no object.
    """

    chart: Path
    least: list[str]
    open_parts: set[str]
    refused: list[tuple[str, str]]
    bases: dict[str, Values]
    all_on: Values
    other: Values
    instead: dict[str, Values] = field(default_factory=dict)
    unseen: frozenset[str] = frozenset()

    def read(self, name: str) -> Any:
        """One of the chart's YAML files; its schema is one, too."""
        return yaml.safe_load((self.chart / name).read_text())

    def leaves(self) -> list[tuple[str, ...]]:
        """The paths of all values that values.yaml explains."""
        text = (self.chart / "values.yaml").read_text()
        return list(values_of(yaml.compose(text), text.splitlines()))


class OnceLoader(yaml.CSafeLoader):
    """YAML in which no key stands twice; PyYAML and helm take the last one, and what the first one said is gone."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice in {sorted(map(str, keys))}{node.start_mark}"
        return super().construct_mapping(node, deep)


def renderer(helm: Any, chart: Path) -> Callable[..., list[Values]]:
    """A function that gives the objects of a release `roofs` in `ns`, anew for each caller; it fails with helm's words."""

    @cache
    def text(values: str, *args: str) -> str:
        done = helm("template", "roofs", str(chart), "--namespace", "ns", "--values", "-", *args, stdin=values)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def render(*args: str, values: Values | None = None) -> list[Values]:
        documents = yaml.load_all(text(json.dumps(values or {}), *args), OnceLoader)
        return [document for document in documents if document]

    return render


def kubeconform(tools: Path, objects: list[Values]) -> tuple[int, str]:
    """Its exit code and what it says of these objects, unknown fields and all."""
    done = subprocess.run(
        [tools / "kubeconform", "-strict", "-output", "json", "-schema-location", SCHEMAS],
        cwd=ROOT,
        input=yaml.safe_dump_all(objects),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def restricted(pod: Values) -> Iterator[str]:
    """What the Pod Security Standard `restricted` forbids of a pod, from its table in Kubernetes' documentation."""
    whole = pod.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield key
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= allowed:
            yield f"volume {volume}"
    for container in pod["containers"]:
        own = container["securityContext"]
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield "privilege"
        if "ALL" not in own.get("capabilities", {}).get("drop", []) or own["capabilities"].get("add"):
            yield "capabilities"
        if not own.get("runAsNonRoot", whole.get("runAsNonRoot")) or 0 in (own.get("runAsUser"), whole.get("runAsUser")):
            yield "root"
        if own.get("seccompProfile", whole.get("seccompProfile", {})).get("type") not in ("RuntimeDefault", "Localhost"):
            yield "seccomp"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield "hostPort"


def schemas(schema: Any, path: str = "") -> Iterator[tuple[str, Values]]:
    """Every part of a JSON schema that describes an object, by its path."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, part in schema.items():
            yield from schemas(part, f"{path}.{key}".strip("."))


def values_of(node: Any, lines: list[str], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths that `# --` comments explain, each with all below it. A value that none explains is an error."""
    for key, value in node.value:
        above = key.start_mark.line
        while lines[above - 1].strip().startswith("#"):
            above -= 1
        if any(line.strip().startswith("# -- ") for line in lines[above : key.start_mark.line]):
            yield (*path, key.value)
        else:
            assert isinstance(value, yaml.MappingNode), f"{'.'.join((*path, key.value))} has no `# --` comment"
            yield from values_of(value, lines, (*path, key.value))


def with_value(values: Values, path: tuple[str, ...], value: Any) -> Values:
    """Values with another one at a path."""
    head, *rest = path
    return {**values, head: with_value(values.get(head, {}), tuple(rest), value) if rest else value}


def at(values: Values, path: tuple[str, ...]) -> Any:
    """What stands at a path; an empty mapping where nothing does."""
    for key in path:
        values = values.get(key, {})
    return values
