"""`visor serve --token-file`, asked by the clients that people have: who has a token is answered, over REST and gRPC."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.integration.running import Server, Workspace, start_server, stop_server

OLD, NEW = "old-token-0123456789abcdef", "new-token-0123456789abcdef"
PROTOCOLS = pytest.mark.parametrize(("kind", "protocol"), [(triton_http, "rest"), (triton_grpc, "grpc")])


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"{OLD}\n")
    return path


@pytest.fixture(scope="module")
def guarded(workspace: Workspace, archive: Path, token_file: Path) -> Iterator[Server]:
    """A server that asks for a token."""
    log = token_file.with_name("log")
    running = start_server(workspace, str(archive), log, "--workers", "1", "--token-file", str(token_file))
    yield running
    stop_server(running)


def ask(kind: Any, address: str, image: bytes, headers: dict[str, str] | None) -> str:
    """One answer's label, by tritonclient as people use it."""
    with kind.InferenceServerClient(address) as client:
        tensor = kind.InferInput("image", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([image], dtype=np.object_))
        result = client.infer("digits", [tensor], headers=headers)
        return str(result.as_numpy("label")[0], "ascii")


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@PROTOCOLS
def test_tritonclient_is_answered_with_a_token_alone(kind: Any, protocol: str, guarded: Server, images: dict[Path, str]) -> None:
    address, image = getattr(guarded, protocol), next(iter(images)).read_bytes()
    assert ask(kind, address, image, {"authorization": f"Bearer {OLD}"}).isdigit()
    for headers in (None, {"authorization": f"Bearer {NEW}"}, {"authorization": f"Basic {OLD}"}):
        with pytest.raises(InferenceServerException, match=r"request\.unauthenticated") as caught:
            ask(kind, address, image, headers)
        assert caught.value.status() == ("401" if protocol == "rest" else "StatusCode.UNAUTHENTICATED")
    with kind.InferenceServerClient(address) as client:  # as a probe asks
        assert client.is_server_live()
        assert client.is_server_ready()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_visor_predict_is_answered_with_a_token_alone(
    protocol: str, workspace: Workspace, guarded: Server, images: dict[Path, str], token_file: Path
) -> None:
    url = f"http://{guarded.rest}" if protocol == "rest" else f"grpc://{guarded.grpc}"
    command = ("predict", str(next(iter(images))), "--url", url)
    refused = workspace.visor(*command)
    assert refused.returncode == 1
    assert "request.unauthenticated" in refused.stderr
    assert workspace.visor(*command, "--token-file", str(token_file)).returncode == 0
    assert workspace.visor(*command, env={"VISOR_TOKEN": OLD}).returncode == 0


def test_the_server_says_how_to_ask_it_and_its_log_has_no_token(guarded: Server, token_file: Path) -> None:
    log = guarded.log.read_text()
    assert f"visor predict IMAGE --url http://{guarded.rest} --token-file {token_file}" in log
    assert httpx.get(f"http://{guarded.rest}/v2", headers={"Authorization": f"Bearer {OLD}x"}).status_code == 401
    eventually(lambda: '"status":401' in guarded.log.read_text())
    assert OLD not in guarded.log.read_text()


@PROTOCOLS
def test_a_token_is_rotated_without_a_restart(
    kind: Any, protocol: str, guarded: Server, images: dict[Path, str], token_file: Path
) -> None:
    """As one does it: both are valid for a while, and then the old one is not any more."""
    address, image = getattr(guarded, protocol), next(iter(images)).read_bytes()

    def answered(token: str) -> bool:
        try:
            return bool(ask(kind, address, image, {"authorization": f"Bearer {token}"}))
        except InferenceServerException:
            return False

    def write(*tokens: str) -> None:
        new = token_file.with_suffix(".new")
        new.write_text("".join(f"{token}\n" for token in tokens))
        new.replace(token_file)

    try:
        write(OLD, NEW)
        eventually(lambda: answered(NEW))
        assert answered(OLD)
        write(NEW)
        eventually(lambda: not answered(OLD))
        assert answered(NEW)
    finally:
        write(OLD)
        eventually(lambda: answered(OLD))


def test_a_server_without_usable_tokens_does_not_start(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    empty = tmp_path / "tokens"
    empty.write_text("# none yet\n")
    done = workspace.visor("serve", str(archive), "--port", "0", "--token-file", os.fspath(empty))
    assert done.returncode == 1
    assert f"visor: serve.tokens: {empty} holds no token" in done.stderr
