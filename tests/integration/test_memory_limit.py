"""A worker that meets its memory limit refuses that one picture and lives, whatever takes the memory."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.running import Server, Workspace, ask, picture, start_server, stop_server

MIB = 1 << 20
ROOM = 64 * MIB
"""What a worker of the server below has for one picture."""


@pytest.fixture(scope="module")
def tight(workspace: Workspace, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one worker that has little room for pictures."""
    log = tmp_path_factory.mktemp("tight") / "log"
    server = start_server(workspace, str(archive), log, "--workers", "1", "--picture-memory-mib", str(ROOM // MIB))
    yield server
    stop_server(server)


def ask_pixels(rest: str, side: int) -> httpx.Response:
    body = bytes(side * side * 3)
    shape = {"name": "pixels", "datatype": "UINT8", "shape": [1, side, side, 3], "parameters": {"binary_data_size": len(body)}}
    head = json.dumps({"inputs": [shape]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return httpx.post(f"http://{rest}/v2/models/digits/infer", content=head + body, headers=headers, timeout=60)


def test_a_picture_over_the_limit_is_refused_and_the_worker_lives(tight: Server) -> None:
    [worker] = tight.workers()
    small = picture("PNG", 64, 64)
    assert ask(tight.rest, small).status_code == 200
    # Each takes more than there is, the first by 4 bytes a pixel, and is within the archive's limits.
    too_large = [
        picture("PNG", 4500, 4500),
        picture("PNG", 3000, 3000, "RGBA"),
        picture("JPEG", 5000, 5000, progressive=True),
        picture("WEBP", 3500, 3500),
        picture("TIFF", 4500, 4500, compression="tiff_lzw"),
        picture("PNG", 4_500_000 // 10, 50),
    ]
    for data in too_large:
        answer = ask(tight.rest, data)
        assert (answer.status_code, answer.json()["code"]) == (400, "image.too_large"), (data[:12], answer.text)
        assert ask(tight.rest, small).status_code == 200
    assert ask(tight.rest, picture("PNG", 3500, 3500)).status_code == 200  # 49 MB fit
    assert ask_pixels(tight.rest, 2000).status_code == 200
    for side in (4000, 4700):  # the pixels fit and their picture does not; nor do the pixels themselves
        answer = ask_pixels(tight.rest, side)
        assert (answer.status_code, answer.json()["code"]) == (400, "image.too_large"), answer.text
    assert ask(tight.rest, small).status_code == 200
    assert tight.workers() == {worker}


def test_the_worker_alone_is_limited(tight: Server) -> None:
    [worker] = tight.workers()
    soft, hard = psutil.Process(worker).rlimit(psutil.RLIMIT_DATA)
    assert ROOM < soft < ROOM + 400 * MIB
    assert hard == psutil.RLIM_INFINITY
    [java] = [process for process in tight.family() if process.name() == "java"]
    assert java.rlimit(psutil.RLIMIT_DATA)[0] == psutil.RLIM_INFINITY


def test_what_a_refused_picture_took_is_given_back(tight: Server) -> None:
    [worker] = tight.workers()

    def data() -> int:
        return int(Path(f"/proc/{worker}/statm").read_text().split()[5]) * 4096

    large = picture("PNG", 4500, 4500)
    ask(tight.rest, large)
    before = data()
    for _ in range(20):
        assert ask(tight.rest, large).status_code == 400
    assert data() - before < 4 * MIB
