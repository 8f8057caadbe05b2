"""What `visor predict` puts on the wire besides the protocol itself."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from visor import cli, client
from visor.errors import ClientError


@contextmanager
def listener(answer: bytes, last: bytes) -> Iterator[tuple[str, bytearray]]:
    """A server of one connection: its address, and what arrived. It sends `answer` at once and hangs up after `last` came."""
    arrived = bytearray()

    def serve() -> None:
        with suppress(OSError):
            connection, _ = server.accept()
            with connection:
                connection.settimeout(5)
                connection.sendall(answer)
                while last not in arrived and (data := connection.recv(65536)):
                    arrived.extend(data)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", arrived
        finally:
            thread.join()


HEADERS = {"host": "roofs-demo.example.com", "x-visor-canary": "true"}


def test_headers_go_along_over_rest(tmp_path: Path) -> None:
    index = b'[{"name":"roofs"},{"name":"walls"}]'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(index), index)
    with listener(answer, b"\r\n\r\n") as (address, arrived), pytest.raises(ClientError, match="roofs, walls"):
        list(client.ask_server(f"http://{address}", None, [tmp_path / "a.jpg"], client.Request(headers=HEADERS)))
    lines = bytes(arrived).lower().split(b"\r\n")
    assert lines[0] == b"post /v2/repository/index http/1.1"
    assert [line for line in lines if line.startswith(b"host:")] == [b"host: roofs-demo.example.com"]
    assert b"x-visor-canary: true" in lines


def test_headers_go_along_over_grpc(tmp_path: Path) -> None:
    greeting = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # HTTP/2's empty SETTINGS frame; gRPC calls only after a server's
    with listener(greeting, b"x-visor-canary") as (address, arrived), pytest.raises(ClientError):
        list(client.ask_server(f"grpc://{address}", None, [tmp_path / "a.jpg"], client.Request(headers=HEADERS)))
    assert b"\x16roofs-demo.example.com" in arrived  # HPACK: the authority, after its length of 22
    assert b"x-visor-canary\x04true" in arrived


def test_a_header_is_a_name_and_a_value() -> None:
    args = cli.parse_args(["predict", "a.jpg", "--header", "Host: roofs-demo.example.com", "--header", "X-Visor-Canary:true"])
    assert dict(args.header) == HEADERS


@pytest.mark.parametrize("text", ["Host", "Host:", ": roofs", ""])
def test_a_header_without_both_is_an_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["predict", "a.jpg", "--header", text])
    assert left.value.code == 2
    assert f"{text!r} is not 'NAME: VALUE'" in capsys.readouterr().err
