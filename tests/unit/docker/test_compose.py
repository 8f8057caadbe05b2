"""docker/compose.yaml beside what it runs: the Dockerfiles, the commands' flags, the charts' limits, and .env.example."""

import json
import re
import shlex
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.access.keys import add_key
from console.settings import PREFIX, read_settings
from tools import watch_files
from training import settings
from transformer import check
from transformer.__main__ import make_parser as edge_parser
from visor import cli
from visor.pod.__main__ import make_parser as pod_parser

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker/compose.yaml").read_text()
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
IMAGES = {
    "pod": "transformer",
    "torchserve": "serving",
    "serve": "transformer",
    "console": "console",
    "mlflow": "training",
    "train": "training",
}
PUBLIC = {"prometheus": ("prom/prometheus:v3.5.0", "65534:65534")}
"""Images of others, of a version each, and the users that they have for themselves."""
MIB = 1 << 20
UNITS = {"M": MIB, "G": 1024 * MIB, "m": MIB, "Mi": MIB, "Gi": 1024 * MIB}


def filled(value: Any) -> Any:
    """What Compose makes of a value where no variable is set."""
    if isinstance(value, dict):
        return {key: filled(one) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one) for one in value]
    return VARIABLE.sub(r"\2", value) if isinstance(value, str) else value


COMPOSE = filled(yaml.safe_load(TEXT))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def dockerfile(service: str) -> str:
    return (ROOT / "docker" / IMAGES[service] / "Dockerfile").read_text()


def mounts(service: str) -> dict[str, dict[str, Any]]:
    """The volumes of a service by the path inside."""
    return {one["target"]: one for one in SERVICES[service].get("volumes", [])}


def amount(text: str) -> int:
    """Bytes of a memory limit, of Compose or of Kubernetes."""
    number, unit = re.fullmatch(r"(\d+)(\w+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def values(chart: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "charts" / chart / "values.yaml").read_text()))


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_confined(service: str) -> None:
    one = SERVICES[service]
    if service in PUBLIC:
        assert (one["image"], one["user"]) == PUBLIC[service]
    else:
        assert one["image"] == f"localhost/visor-{IMAGES[service]}:dev"
        assert one["user"] == "1000:1000" == re.findall(r"^USER (.*)$", dockerfile(service), re.MULTILINE)[-1]
    assert (one["read_only"], one["cap_drop"], one["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert one["tmpfs"] == ["/tmp:size=1g,mode=1777"]
    assert set(one["deploy"]["resources"]["limits"]) >= {"memory", "pids"}
    assert all(mount["read_only"] for target, mount in mounts(service).items() if target.startswith("/etc/visor"))
    assert all(mount["bind"] == {"create_host_path": False} for mount in mounts(service).values() if mount["type"] == "bind")
    assert all(port.startswith("127.0.0.1:") for port in one.get("ports", []))


@pytest.mark.parametrize("service", ["torchserve", "serve", "console", "train"])
def test_a_command_is_its_image_s_own(service: str) -> None:
    """No entrypoint but the Dockerfile's, or the same."""
    said = re.findall(r"^ENTRYPOINT \[(.*)\]$", dockerfile(service), re.MULTILINE)[-1]
    expected = {
        "torchserve": ["python", "-m", "visor.pod"],
        "serve": ["python", "-m", "transformer"],
        "console": ["python", "-m", "console"],
        "train": ["visor"],
    }[service]
    assert yaml.safe_load(f"[{said}]") == expected == SERVICES[service].get("entrypoint", expected)


def test_the_limits_are_the_charts() -> None:
    limits = {name: one["deploy"]["resources"]["limits"] for name, one in SERVICES.items()}
    chart, training = values("visor")["resources"], values("visor-training")
    work = re.search(r"size=(\w+)", COMPOSE["volumes"]["work"]["driver_opts"]["o"])[1]  # type: ignore[index]
    pairs = {
        "torchserve": (chart["serving"], amount(work)),  # which lies in memory here, and on a disk there
        "serve": (chart["transformer"], 0),
        "console": (values("visor-console")["resources"], 0),
        "mlflow": (training["mlflow"]["server"]["resources"], 0),
        "train": (training["resources"], 0),
    }
    for name, (resources, more) in pairs.items():
        assert amount(limits[name]["memory"]) == amount(resources["limits"]["memory"]) + more, name
        assert str(limits[name]["cpus"]) == str(resources["limits"]["cpu"]), name
    # Three times the largest archive would not fit by default, as .env.example says.
    assert f"VISOR_WORK_SIZE={work}" in (ROOT / "docker/.env.example").read_text()


def test_torchserve_finds_archive_and_key_where_they_are_mounted() -> None:
    args = pod_parser().parse_args(SERVICES["torchserve"]["command"])
    places = mounts("torchserve")
    assert set(places) == {str(args.models), str(args.public_key), str(args.work)}
    assert places["/mnt/models"]["source"] == "../model-store/roofs/1"
    assert all(places[str(one)]["read_only"] for one in (args.models, args.public_key))
    assert not places[str(args.work)].get("read_only")
    assert args.grace_s < float(SERVICES["torchserve"]["stop_grace_period"].removesuffix("s"))


def test_the_edge_finds_what_torchserve_leaves_and_listens_where_the_ports_lead() -> None:
    args = edge_parser().parse_args(SERVICES["serve"]["command"])
    serving = pod_parser().parse_args(SERVICES["torchserve"]["command"])
    assert args.archive == serving.work / "archive"
    assert args.worker_sockets == serving.work / "torchserve/workers"
    assert args.torchserve_keys.parent == serving.work
    assert mounts("serve") == {str(serving.work): {"type": "volume", "source": "work", "target": "/run/visor", "read_only": True}}
    inside = [int(port.rpartition(":")[2]) for port in SERVICES["pod"]["ports"]]
    assert inside == [args.http_port, args.grpc_port] == serving.edge_port
    assert re.findall(r"^EXPOSE (.*)$", dockerfile("serve"), re.MULTILINE) == [" ".join(map(str, inside))]
    assert args.grace_s < float(SERVICES["serve"]["stop_grace_period"].removesuffix("s"))
    # Both live in the loopback of `pod`, which holds the ports, so that either may be started anew.
    assert {name for name, one in SERVICES.items() if one.get("network_mode") == "service:pod"} == {"serve", "torchserve"}
    assert f"http://127.0.0.1:{serving.inference_port}" == args.inference_url


def test_the_pod_s_memory_belongs_to_its_user() -> None:
    options = COMPOSE["volumes"]["work"]["driver_opts"]
    user = SERVICES["torchserve"]["user"]
    assert (options["type"], "uid={},gid={}".format(*user.split(":")) in options["o"]) == ("tmpfs", True)


def test_health_checks_are_commands_that_there_are() -> None:
    for name, parse in (("torchserve", pod_parser().parse_args), ("serve", check.parse_args)):
        kind, python, flag, module, *arguments = SERVICES[name]["healthcheck"]["test"]
        assert (kind, python, flag) == ("CMD", "python", "-m")
        assert (ROOT / module.replace(".", "/")).exists() or (ROOT / f"{module.replace('.', '/')}.py").exists()
        parse(arguments)
    for name in ("console", "mlflow"):
        kind, python, flag, code = SERVICES[name]["healthcheck"]["test"]
        assert (kind, python, flag) == ("CMD", "python", "-c")
        compile(code, "healthcheck", "exec")


def test_the_console_asks_the_edge_and_finds_keys_and_folder_where_they_are_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, places = SERVICES["console"], mounts("console")
    environment = {**dict(re.findall(rf"\b({PREFIX}\w+)=(\S+)", dockerfile("console"))), **one["environment"]}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # where no .env is
    made = read_settings()
    assert {str(made.keys_file), str(made.folder)} == set(places)
    assert [path for path, mount in places.items() if not mount.get("read_only")] == [str(made.folder)]
    assert made.host == "0.0.0.0"
    assert one["ports"] == [f"127.0.0.1:{made.port}:{made.port}"]
    edge = edge_parser().parse_args(SERVICES["serve"]["command"])
    assert [server.url for server in made.servers] == [f"http://pod:{edge.http_port}"]
    assert made.mlflow == "http://" + SERVICES["mlflow"]["ports"][0].rpartition(":")[0]
    assert made.mlflow_inside == "http://mlflow:" + SERVICES["mlflow"]["ports"][0].rpartition(":")[2]
    allowed = SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert made.mlflow_inside.removeprefix("http://") in allowed
    assert made.prometheus == "http://prometheus:" + SERVICES["prometheus"]["ports"][0].rpartition(":")[2]
    # By default, `visor console key` writes the file that is mounted.
    args = cli.parse_args(["console", "key", "me", "--scope", "admin"])
    assert (ROOT / "docker" / places[str(made.keys_file)]["source"]).resolve() == ROOT / args.keys_file
    add_key(tmp_path / "keys.json", "me", {"admin"})
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0  # so that the container has to be its owner's


def test_prometheus_reads_what_is_written_for_it(tmp_path: Path) -> None:
    one, places = SERVICES["prometheus"], mounts("prometheus")
    assert (ROOT / "docker" / places["/etc/prometheus"]["source"]).resolve() == watch_files.COMPOSED
    watch_files.write_composed(tmp_path)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        place = path.relative_to(tmp_path)
        assert path.read_text() == (watch_files.COMPOSED / place).read_text(), f"make chart-watch writes {place} anew"
    flags = dict(flag.split("=") for flag in one["command"])
    assert (tmp_path / Path(flags["--config.file"]).relative_to("/etc/prometheus")).is_file()
    assert (tmp_path / Path(flags["--web.console.templates"]).relative_to("/etc/prometheus") / "visor.html").is_file()
    assert places[flags["--storage.tsdb.path"]] == {"type": "volume", "source": "metrics", "target": "/prometheus"}
    config = json.loads((tmp_path / "prometheus.json").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    edge = edge_parser().parse_args(SERVICES["serve"]["command"])
    assert targets == {"visor": [f"pod:{edge.http_port}"], "console": ["console:8090"]}
    assert "file:" not in (tmp_path / "rules.json").read_text()
    if promtool := shutil.which("promtool"):
        done = subprocess.run(
            [promtool, "check", "config", tmp_path / "prometheus.json"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_mlflow_shows_the_embedded_store_and_tells_nobody() -> None:
    one, environment = SERVICES["mlflow"], SERVICES["mlflow"]["environment"]
    [(home, mount)] = mounts("mlflow").items()
    assert mount["source"] == home == "/srv/visor/runs"
    # One path inside and outside, as the database names files by theirs; the two are those of training.tracking.
    assert environment["MLFLOW_BACKEND_STORE_URI"] == settings.embedded_uri(Path(home))
    assert environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == f"{home}/mlartifacts"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == settings.MLFLOW_DEFAULTS["MLFLOW_DISABLE_TELEMETRY"]
    assert one["entrypoint"] == ["python", "-m", "mlflow", "server"]
    # The chart's, which runs on a cluster, but for the folder of artifacts: its server has a place of its own for them.
    chart = (ROOT / "charts/visor-training/templates/mlflow.yaml").read_text()
    assert {name for name in environment if f"name: {name}\n" not in chart} == {"HOME", "LOGNAME", "MLFLOW_DEFAULT_ARTIFACT_ROOT"}
    command = Path(str(find_spec("mlflow").origin)).parent / "cli/__init__.py"  # type: ignore[union-attr]
    assert '"MLFLOW_DEFAULT_ARTIFACT_ROOT"' in command.read_text()
    assert all(f"- {flag.partition('=')[0]}=" in chart for flag in one["command"])
    assert one["ports"] == ["127.0.0.1:5000:5000"]


def test_training_finds_its_files_and_needs_no_network() -> None:
    one = SERVICES["train"]
    args = cli.parse_args(one["command"])
    places = mounts("train")
    assert set(places) == {str(path) for path in (args.home, args.store, args.key, args.config, Path("/data"))}
    writable = {target for target, mount in places.items() if not mount.get("read_only")}
    assert writable == {str(args.home), str(args.store)}
    assert (one["profiles"], one["network_mode"], args.home) == (["train"], "none", Path("/srv/visor/runs"))
    assert one["environment"] == {"HOME": "/tmp", "LOGNAME": "visor", "VISOR_KEY_PASSPHRASE": ""}
    assert [name for name, other in SERVICES.items() if "profiles" in other] == ["train"]
    for source in (places[str(args.config)]["source"], places["/data"]["source"]):
        assert (ROOT / "docker" / source).exists()


def test_every_variable_is_explained_with_its_default() -> None:
    lines = (ROOT / "docker/.env.example").read_text().splitlines()
    explained = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert explained == dict(VARIABLE.findall(TEXT))
    assert all(len({default for one, default in VARIABLE.findall(TEXT) if one == name}) == 1 for name in explained)
    assert len(re.findall(r"\$\{?\w", TEXT)) == len(VARIABLE.findall(TEXT))  # none without a default


def test_the_page_s_commands_name_what_there_is() -> None:
    page = (ROOT / "docs/containers.md").read_text()
    commands = [
        shlex.split(line.partition("  #")[0].replace("\\\n", " "))
        for block in re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("docker ")
    ]
    composed = [command for command in commands if command[1] == "compose"]
    assert len(composed) >= 4
    for command in composed:
        named = [word for word in command[3:] if not word.startswith("-")]
        if command[2] in {"up", "run", "logs"}:
            assert named[0] in SERVICES, command
        if command[2] == "run" and len(named) > 1:
            cli.parse_args(command[command.index(named[0]) + 1 :])
    [single] = [command for command in commands if command[1] == "run"]
    at = single.index("localhost/visor-training:dev")
    flags, args = single[:at], cli.parse_args(single[at + 1 :])
    assert {"--read-only", "--network=none", "--cap-drop=ALL"} <= set(flags)
    inside = [one.split(":")[1] for one in flags if one.count(":") and "/" in one]
    assert {str(args.store), str(args.public_key), str(args.images), str(args.out.parent)} <= set(inside)
