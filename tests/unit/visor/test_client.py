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
from tritonclient.utils import InferenceServerException

from visor import cli
from visor.answers import Answer, Question
from visor.client import Client
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


HEADERS = {"Host": "roofs-demo.example.com", "X-Visor-Canary": "true"}


def test_headers_go_along_over_rest() -> None:
    index = b'[{"name":"roofs"},{"name":"walls"}]'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(index), index)
    with listener(answer, b"\r\n\r\n") as (address, arrived), pytest.raises(ClientError, match="roofs, walls"):
        Client(f"http://{address}", headers=HEADERS).predict(b"picture")
    lines = bytes(arrived).lower().split(b"\r\n")
    assert lines[0] == b"post /v2/repository/index http/1.1"
    assert [line for line in lines if line.startswith(b"host:")] == [b"host: roofs-demo.example.com"]
    assert b"x-visor-canary: true" in lines


def test_headers_go_along_over_grpc() -> None:
    greeting = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # HTTP/2's empty SETTINGS frame; gRPC calls only after a server's
    with listener(greeting, b"x-visor-canary") as (address, arrived), pytest.raises(ClientError):
        Client(f"grpc://{address}", headers=HEADERS).predict(b"picture")
    assert b"\x16roofs-demo.example.com" in arrived  # HPACK: the authority, after its length of 22
    assert b"x-visor-canary\x04true" in arrived


def test_a_header_is_a_name_and_a_value() -> None:
    args = cli.parse_args(["predict", "a.jpg", "--header", "Host: roofs-demo.example.com", "--header", "X-Visor-Canary:true"])
    assert dict(args.header) == {name.lower(): value for name, value in HEADERS.items()}


@pytest.mark.parametrize("text", ["Host", "Host:", ": roofs", ""])
def test_a_header_without_both_is_an_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["predict", "a.jpg", "--header", text])
    assert left.value.code == 2
    assert f"{text!r} is not 'NAME: VALUE'" in capsys.readouterr().err


class Server:
    """A client of tritonclient's form whose server answers two pictures, the second of which fails, and alone says why."""

    def __init__(self, parameters: dict[str, Any], outputs: dict[str, np.ndarray]) -> None:
        self.parameters, self.outputs, self.asked = parameters, outputs, []

    def infer(self, _: str, tensors: list[Any], parameters: dict[str, Any]) -> "Server":
        self.asked.append((tensors[0].name(), tensors[0].shape(), parameters))
        if tensors[0].shape() == [1]:
            raise InferenceServerException("image.undecodable: 10 bytes are not a whole image")
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
RULE = {"threshold": 0.1, "review_from": 0.05, "review_to": 0.1, "group": "site=north", "promise": "held"}


def ask(server: Server, tmp_path: Path, question: Question = Question()) -> list[Answer]:  # noqa: B008 - frozen
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    Image.new("RGB", (300, 300)).save(pictures[0])
    pictures[1].write_bytes(b"no picture")
    client = Client(model="roofs")
    client._client, client._make_input = server, InferInput
    return list(client.ask(pictures, question))


def test_the_rule_the_score_and_the_set_are_told(tmp_path: Path) -> None:
    more = {
        "score": np.array([0.15, 0], np.float32),
        "probabilities": np.array([[0.15, 0.85], [0, 0]], np.float32),
        "prediction_set": np.array([[True, True], [False, False]]),
        "error_message": np.array(["", "image.undecodable: no header"], object),
    }
    server = Server(RULE, ANSWERED | more)
    first, failed = ask(server, tmp_path, Question(threshold=0.1, group="site=north"))
    assert server.asked == [("image", [2], {"explain": False, "threshold": 0.1, "group": "site=north"})]
    assert (first.label, first.decision, first.prediction_set) == ("intact", "flag", ("damaged", "intact"))
    assert first.score == pytest.approx(0.15)
    assert first.probabilities == {"damaged": pytest.approx(0.15), "intact": pytest.approx(0.85)}
    assert (first.review_from, first.review_to, first.group, first.promise) == (0.05, 0.1, "site=north", "held")
    assert (str(failed.error), failed.decision, failed.score) == ("image.undecodable: no header", "review", None)
    assert (failed.prediction_set, failed.probabilities) == (None, {})


def test_a_server_older_than_that_is_asked_and_drawn_all_the_same(tmp_path: Path) -> None:
    maps = {"heatmap": np.ones((2, 2, 2), np.float32), "heatmap_label": np.array([b"damaged", b""], object)}
    first, failed = ask(Server({"threshold": 0.1}, ANSWERED | maps), tmp_path, Question(explain=True))
    assert (first.threshold, first.score, first.review_from, first.promise) == (0.1, None, None, "")
    assert first.overlay().width == 300
    assert failed.heatmap is None


def test_a_picture_that_fails_beside_others_is_asked_about_alone_for_its_sentence(tmp_path: Path) -> None:
    nothing_decided = {"decision": np.array(["flag", ""], object)}
    server = Server(RULE, ANSWERED | nothing_decided)
    first, failed = ask(server, tmp_path)
    assert [shape for _, shape, _ in server.asked] == [[2], [1]]
    assert first.error is None
    assert str(failed.error) == "image.undecodable: 10 bytes are not a whole image"
    assert failed.source == tmp_path / "b.png"


def test_requests_are_full_by_number_and_by_bytes_and_keep_the_order() -> None:
    """Nine of one byte, one that fills a request, an array, one that is none, and one more."""
    asked: list[tuple[str, int]] = []

    class Recording(Client):
        def _infer(self, pictures: Any, _: Question) -> list[Answer]:
            if pictures:
                asked.append(("pixels" if isinstance(pictures[0].content, np.ndarray) else "image", len(pictures)))
            return [Answer(source=one.source) for one in pictures]

    pixels = np.zeros((2, 2, 3), np.uint8)
    pictures = [*[bytes([n]) for n in range(9)], bytes(17 << 20), pixels, np.zeros((2, 2)), b"last"]
    answers = Recording(model="roofs").predict(pictures)
    assert asked == [("image", 8), ("image", 1), ("image", 1), ("pixels", 1), ("image", 1)]
    assert [answer.source is one for answer, one in zip(answers, pictures, strict=True)] == [True] * len(pictures)
    assert [answer.error is None for answer in answers] == [True] * 11 + [False, True]
