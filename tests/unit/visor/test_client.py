"""What `visor predict` puts on the wire besides the protocol itself."""

import http.server
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.http import InferInput
from tritonclient.utils import InferenceServerException

from handlers.errors import OptionError
from visor import cli, load
from visor.answers import Answer, Question
from visor.client import Client
from visor.errors import ClientError
from visor.threads import MOST


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
    client._own.client, client._own.make_input = server, InferInput
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


class Answers(http.server.BaseHTTPRequestHandler):
    """A V2 server that answers every inference alike, and keeps its connections."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said: dict[str, Any] = {"label": "intact", "confidence": 0.5, "decision": "pass", "error": ""}
        outputs = [
            {"name": name, "datatype": "FP32" if isinstance(value, float) else "BYTES", "shape": [1], "data": [value]}
            for name, value in said.items()
        ]
        body = json.dumps({"model_name": "roofs", "parameters": {"threshold": 0.5}, "outputs": outputs}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def answering() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Page(http.server.BaseHTTPRequestHandler):
    """A web server that knows no V2, and answers a page to whatever is asked."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"<!DOCTYPE html><title>Welcome</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_server_that_knows_no_v2_is_told_in_a_sentence() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            for asked in (Client(url), Client(url, model="roofs")):
                with pytest.raises(ClientError, match=r"what is no Open Inference Protocol|does not speak V2") as told:
                    asked.predict(b"x")
                assert "html" not in str(told.value).lower()
        finally:
            server.shutdown()
            thread.join()


def test_threads_share_a_client_and_leave_no_files_open(answering: str) -> None:
    client = Client(answering, model="roofs")
    labels: list[str] = []

    def ask_thrice() -> None:
        labels.extend(client.predict(b"x").label for _ in range(3))

    def ask_from(threads: int) -> int:
        found = [threading.Thread(target=ask_thrice) for _ in range(threads)]
        for thread in found:
            thread.start()
        for thread in found:
            thread.join(60)
            assert not thread.is_alive()
        return len(list(Path("/proc/self/fd").iterdir()))

    def settled(most: int) -> bool:
        """The server, which is in this process, closes its ends a moment later."""
        deadline = time.monotonic() + 30
        while len(list(Path("/proc/self/fd").iterdir())) > most:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    assert client.predict(b"x").label == "intact"
    most = ask_from(2 * MOST)
    for _ in range(3):
        ask_from(2 * MOST)
        assert settled(most)
    assert labels == ["intact"] * 3 * 8 * MOST
    client.close()
    assert len(list(Path("/proc/self/fd").iterdir())) < most - MOST


def test_a_closed_client_says_so_in_every_thread(answering: str) -> None:
    with Client(answering, model="roofs") as client:
        client.predict(b"x")
    errors: list[ClientError] = []

    def ask_closed() -> None:
        with pytest.raises(ClientError, match="is closed; make another") as raised:
            client.predict(b"x")
        errors.append(raised.value)

    ask_closed()
    thread = threading.Thread(target=ask_closed)
    thread.start()
    thread.join()
    assert [error.code for error in errors] == ["client.failed"] * 2
    client.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": 5}, "the URL must be a text"),
        ({"token": "a\nb"}, "the token of `token` has spaces"),
        ({"token": b"a"}, "must be a text, got bytes"),
        ({"headers": {"x": "a\r\nb: c"}}, "header x has a value"),
        ({"headers": {"x": 3}}, "header x has a value"),
        ({"headers": {"a b": "c"}}, "no header has the name 'a b'"),
        ({"headers": "x: 3"}, "headers must be a mapping"),
        ({"model": 5}, "model must be a name, got 5"),
        ({"cacert": 5}, "cacert must be a path, got 5"),
    ],
)
def test_what_no_client_can_be_made_of_is_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words) as raised:
        Client(**options)
    assert "b: c" not in str(raised.value)


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -1, 2, "0.5", True, [0.5], 1j])
def test_a_threshold_that_is_none_is_told(answering: str, threshold: Any) -> None:
    with (
        Client(answering, model="roofs") as client,
        pytest.raises(OptionError, match="threshold must be a number from 0 to 1, got "),
    ):
        client.predict(b"x", threshold=threshold)


@pytest.mark.parametrize("option", [{"group": 3}, {"explain": "yes"}, {"explain": None}])
def test_an_option_of_another_type_is_told(option: Any) -> None:
    with pytest.raises(OptionError, match="must be"):
        Question(**option)


def test_numbers_of_numpy_are_numbers(answering: str) -> None:
    asked = Question(np.True_, np.float32(0.5), "site=north")  # type: ignore[arg-type]
    assert (asked, type(asked.threshold), type(asked.explain)) == (Question(True, 0.5, "site=north"), float, bool)
    with Client(answering, model="roofs") as client:
        assert client.predict(b"x", threshold=np.float32(0.5)).label == "intact"  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"archive": 3}, {"store": 3}, {"digest": 3}, {"archive": "a.mar", "public_key": 3}])
def test_what_no_archive_is_named_by_is_told(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "a.mar").touch()
    asked = {"archive": "roofs", **options}
    if asked["archive"] == "a.mar":
        asked["archive"] = tmp_path / "a.mar"
    with pytest.raises(OptionError, match=r"must be a .*, got 3"):
        load(**asked)
