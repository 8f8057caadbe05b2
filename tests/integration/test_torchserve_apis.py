"""TorchServe's own APIs, as another user of the machine or another container of the pod reaches them: they do nothing for it."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from tests.integration.running import Server, Workspace, start_server, stop_server
from visor.serving.launch import KEYS

MANAGEMENT, INFERENCE = (
    "org.pytorch.serve.grpc.management.ManagementAPIsService",
    "org.pytorch.serve.grpc.inference.InferenceAPIsService",
)
NAME = b"\x0a\x06digits"  # a message's first field, `model_name`
FILE = b"\x4a\x12file:///etc/x.mar"  # the ninth of RegisterModelRequest, `url`
GRPC_CALLS = [
    (MANAGEMENT, "ScaleWorker", NAME + b"\x18\x00\x20\x00"),  # max_worker and min_worker 0
    (MANAGEMENT, "RegisterModel", FILE),
    (MANAGEMENT, "UnregisterModel", NAME),
    (MANAGEMENT, "SetDefault", NAME + b"\x12\x011"),
    (MANAGEMENT, "DescribeModel", NAME),
    (MANAGEMENT, "ListModels", b""),
    (INFERENCE, "Predictions", NAME + b"\x1a\x09\x0a\x04body\x12\x01x"),
    (INFERENCE, "Ping", b""),
]
REST_CALLS = [
    ("management", "POST", "/workflows?url=file://{archive}&workflow_name=probe"),
    ("management", "POST", "/workflows?url=http://127.0.0.1:9/probe.war&workflow_name=probe"),
    ("management", "GET", "/workflows"),
    ("management", "DELETE", "/workflows/probe"),
    ("management", "POST", "/models?url=file://{archive}&initial_workers=1&model_name=probe"),
    ("management", "PUT", "/models/digits?min_worker=0&max_worker=0&synchronous=true"),
    ("management", "PUT", "/models/digits/1?min_worker=4"),
    ("management", "PUT", "/models/digits/1/set-default"),
    ("management", "DELETE", "/models/digits"),
    ("management", "GET", "/models/digits"),
    ("management", "GET", "/token?type=management"),
    ("management", "PUT", "/models/digits?min_worker=0&max_worker=0&of=/token&type=management"),
    ("inference", "POST", "/predictions/digits"),
    ("inference", "POST", "/explanations/digits"),
    ("inference", "POST", "/wfpredict/probe"),
]


def properties(server: Server) -> dict[str, str]:
    """TorchServe's configuration, as this run wrote it."""
    return dict(line.split("=", 1) for line in server.torchserve_config().read_text().splitlines())


def keys(server: Server) -> dict[str, dict[str, str]]:
    """TorchServe's keys by API, which only its user can read."""
    loaded: dict[str, dict[str, str]] = json.loads((server.torchserve_config().parent / KEYS).read_text())
    return loaded


@pytest.fixture
def workers(server: Server) -> set[int]:
    """The workers, once all of them were started: `visor serve` is ready with the first."""
    deadline = time.monotonic() + 60
    while len(workers := server.workers()) < len(os.sched_getaffinity(0)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return workers


def ask(server: Server, api: str, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.request(method, properties(server)[f"{api}_address"] + path, headers=headers, timeout=30)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer xWZ45Tyx"}, {"Origin": "http://evil.example"}])
@pytest.mark.parametrize(("api", "method", "path"), REST_CALLS)
def test_who_has_no_key_gets_nothing_over_rest(
    server: Server, workers: set[int], archive: Path, api: str, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = ask(server, api, method, path.format(archive=archive), headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "InvalidKeyException")
    assert server.workers() == workers


@pytest.mark.parametrize(("service", "method", "message"), GRPC_CALLS)
@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer xWZ45Tyx"),)])
def test_who_has_no_key_gets_nothing_over_grpc(
    server: Server, workers: set[int], service: str, method: str, message: bytes, metadata: tuple[tuple[str, str], ...]
) -> None:
    port = properties(server)[f"grpc_{'management' if service == MANAGEMENT else 'inference'}_port"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError, match="Token Authorization failed"):
        channel.unary_unary(f"/{service}/{method}")(message, timeout=30, metadata=metadata)
    assert server.workers() == workers


def test_the_keys_open_the_same_apis(server: Server) -> None:
    """Without this, the refusals above could be those of calls that nobody can make."""
    bearer = {"Authorization": f"Bearer {keys(server)['management']['key']}"}
    described = ask(server, "management", "GET", "/models/digits", bearer).json()
    assert {worker["status"] for worker in described[0]["workers"]} == {"READY"}
    with grpc.insecure_channel(f"127.0.0.1:{properties(server)['grpc_management_port']}") as channel:
        described = channel.unary_unary(f"/{MANAGEMENT}/DescribeModel")(
            NAME, timeout=30, metadata=[("authorization", bearer["Authorization"])]
        )
    assert b'"modelName": "digits"' in described


@pytest.mark.parametrize("url", ["file://{archive}", "http://127.0.0.1:9/probe.war", "https://127.0.0.1:9/probe.war"])
@pytest.mark.parametrize("call", ["/workflows?workflow_name=probe&url=", "/models?model_name=probe&url="])
def test_not_even_with_a_key_is_a_url_loaded(server: Server, archive: Path, call: str, url: str) -> None:
    bearer = {"Authorization": f"Bearer {keys(server)['management']['key']}"}
    answer = ask(server, "management", "POST", call + url.format(archive=archive), bearer)
    assert answer.status_code in (404, 405)
    assert answer.json()["type"] in ("WorkflowNotFoundException", "ModelNotFoundException", "MethodNotAllowedException")


def test_only_torchserves_user_can_read_its_keys(server: Server) -> None:
    file = server.torchserve_config().parent / KEYS
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent)] == [0o600, 0o700]
    expires = {entry["expiration time"][:4] for entry in keys(server).values() if "expiration time" in entry}
    assert min(map(int, expires)) > 2100  # nobody renews them


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    """A port of this machine at which nobody should ask for anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.5)
        yield listening


def test_neither_a_folders_name_nor_the_environment_configures_it(
    workspace: Workspace, archive: Path, tmp_path: Path, elsewhere: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ts.properties").write_text("disable_token_authorization=true\nallowed_urls=.*\n")
    monkeypatch.setenv("TS_CONFIG_FILE", str(tmp_path / "ts.properties"))
    monkeypatch.setenv("TS_MODEL_SERVER_HOME", str(tmp_path))
    port = elsewhere.getsockname()[1]
    # A file of such a name is refused: tests/integration/test_refusals.py.
    hostile = tmp_path / f"r\nallowed_urls=.*\nload_models=probe=http:\\u002f\\u002f127.0.0.1:{port}\\u002fprobe.mar\n#"
    hostile.mkdir()
    for end in ("", ".sig"):
        shutil.copy(f"{archive}{end}", hostile)
    running = start_server(workspace, str(hostile / archive.name), tmp_path / "log", "--workers", "1")
    try:
        assert properties(running)["load_models"] == "digits.mar"
        assert properties(running)["allowed_urls"] == "none"
        assert httpx.get(f"http://{running.rest}/v2/models/digits/ready").status_code == 200
        assert ask(running, "management", "GET", "/models", {}).json()["type"] == "InvalidKeyException"
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    finally:
        stop_server(running)
