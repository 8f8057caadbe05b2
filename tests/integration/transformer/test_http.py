"""What other programs' HTTP clients and a standard error that nobody reads do to an edge of its own process."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.transformer.edges import begin

PICTURE = b"\xff\xd8 of no further interest"
JAVA = """
import java.net.URI; import java.net.http.*; import java.nio.file.*;
public class Ask { public static void main(String[] a) throws Exception {
  var client = HttpClient.newHttpClient();  // its default: HTTP/2, by Upgrade
  for (int i = 0; i < 3; i++) {
    var request = HttpRequest.newBuilder(URI.create(a[0])).header("Inference-Header-Content-Length", "0")
      .POST(HttpRequest.BodyPublishers.ofFile(Path.of(a[1]))).build();
    System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
  } } }
"""


class Edge:
    """A process whose standard error is a pipe that nobody reads until its end."""

    def __init__(self) -> None:
        self.process, (_, self.port, _) = begin(
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which nohup has children ignore
        )

    @property
    def infer(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/roofs/infer"

    def ask(self, data: bytes, wait_s: float = 5.0) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as connection:
            connection.sendall(data)
            return connection.recv(1 << 16)


@pytest.fixture
def edge() -> Iterator[Edge]:
    edge = Edge()
    yield edge
    edge.process.kill()
    edge.process.communicate()  # closes the pipes


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "a.jpg"
    file.write_bytes(PICTURE)
    return file


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java here")
def test_the_jdk_s_http_client_infers(edge: Edge, picture: Path, tmp_path: Path) -> None:
    source = tmp_path / "Ask.java"
    source.write_text(JAVA)
    done = subprocess.run(
        ["java", str(source), edge.infer, str(picture)], capture_output=True, text=True, timeout=120, check=False
    )
    if "jdk.compiler" in done.stderr:
        pytest.skip("a Java without a compiler")
    assert done.stdout.split() == ["200"] * 3, done.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("flag", ["--http2", "--http1.1", "--http1.0"])
def test_curl_infers(edge: Edge, picture: Path, flag: str) -> None:
    command = ["curl", "-s", flag, edge.infer, "-H", "Content-Type: image/jpeg", "--data-binary", f"@{picture}"]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
    assert answer["outputs"]


def test_a_standard_error_that_nobody_reads_stops_nothing_and_is_told_of(edge: Edge) -> None:
    bad = b"POST /v2/models/roofs/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{"
    for _ in range(1000):  # 300 KB of lines, of which a pipe takes 64 KiB
        assert edge.ask(bad).startswith(b"HTTP/1.1 400 ")
    assert edge.ask(b"GARBAGE\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    upgrade = b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert edge.ask(upgrade).startswith(b"HTTP/1.1 200 ")
    metrics = edge.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP/1.1 200 " in metrics
    start = time.monotonic()
    edge.process.terminate()
    assert edge.process.wait(20) == 0
    assert time.monotonic() - start < 15


def test_what_is_under_way_at_the_end_of_the_terminal_is_told_and_the_process_ends_in_order(edge: Edge) -> None:
    with socket.create_connection(("127.0.0.1", edge.port)) as upload:
        upload.sendall(b"POST /v2/models/roofs/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\npart")
        time.sleep(0.1)
        edge.process.send_signal(signal.SIGHUP)
        upload.settimeout(10)
        assert upload.recv(4096).startswith(b"HTTP/1.1 503 ")
    _, log = edge.process.communicate(timeout=20)
    assert edge.process.returncode == 0
    assert b"drained" in log
    assert b"Traceback" not in log
