"""What `visor predict` puts on the wire besides the protocol itself."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.http import InferInput

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


class Server:
    """A client of tritonclient's form whose server answers two pictures, the second of which fails."""

    def __init__(self, parameters: dict[str, Any], outputs: dict[str, np.ndarray]) -> None:
        self.parameters, self.outputs, self.asked = parameters, outputs, {}

    def infer(self, _: str, __: list[Any], parameters: dict[str, Any]) -> "Server":
        self.asked = parameters
        return self

    def as_numpy(self, name: str) -> np.ndarray | None:
        return self.outputs.get(name)

    def get_response(self) -> dict[str, Any]:
        return {"parameters": self.parameters}

    def get_model_config(self, _: str) -> dict[str, Any]:
        return {"parameters": {"labels": {"string_value": '["damaged", "intact"]'}}}


ANSWERED = {
    "label": np.array(["intact", ""], object),
    "decision": np.array(["flag", "review"], object),
    "error": np.array(["", "image.undecodable"], object),
    "confidence": np.array([0.85, 0.0], np.float32),
}


def ask(server: Server, tmp_path: Path, **options: Any) -> list[client.Prediction]:
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    Image.new("RGB", (300, 300)).save(pictures[0])
    pictures[1].write_bytes(b"no picture")
    return list(client._ask(server, InferInput, "roofs", pictures, client.Request(**options)))


def test_the_rule_the_score_and_the_set_are_told(tmp_path: Path) -> None:
    rule = {"threshold": 0.1, "review_from": 0.05, "review_to": 0.1, "group": "site=north", "promise": "held"}
    more = {"score": np.array([0.15, 0], np.float32), "prediction_set": np.array([[True, True], [False, False]])}
    server = Server(rule, ANSWERED | more)
    first, failed = ask(server, tmp_path, threshold=0.1, group="site=north")
    assert server.asked == {"explain": False, "threshold": 0.1, "group": "site=north"}
    assert (first.label, first.decision, first.prediction_set) == ("intact", "flag", ("damaged", "intact"))
    assert first.score == pytest.approx(0.15)
    assert (first.review_from, first.review_to, first.group, first.promise) == (0.05, 0.1, "site=north", "held")
    assert (failed.error, failed.decision, failed.score, failed.prediction_set) == ("image.undecodable", "review", None, None)


def test_a_server_older_than_that_is_asked_and_drawn_all_the_same(tmp_path: Path) -> None:
    maps = {"heatmap": np.ones((2, 2, 2), np.float32), "heatmap_label": np.array([b"damaged", b""], object)}
    first, failed = ask(Server({"threshold": 0.1}, ANSWERED | maps), tmp_path, overlays=tmp_path / "out")
    assert (first.threshold, first.score, first.review_from, first.promise) == (0.1, None, None, "")
    assert first.overlay is not None
    assert [str(path) for path in (tmp_path / "out").iterdir()] == [first.overlay]
    assert failed.overlay is None
