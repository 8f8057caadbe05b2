"""The GET that serving and the liveness probe send to TorchServe."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from visor.serving import loopback
from visor.serving.ports import free_ports


@pytest.mark.parametrize(("key", "sent"), [("abc", "Bearer abc"), (None, None)])
def test_the_body_comes_whatever_the_status(key: str | None, sent: str | None) -> None:
    class Models(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b'{"code": 404}')

        def log_message(self, *_: object) -> None:
            pass

    asked: list[tuple[str, str | None]] = []
    with HTTPServer(("127.0.0.1", 0), Models) as server:
        threading.Thread(target=server.handle_request).start()
        assert loopback.get(server.server_port, "/models/roofs", 5.0, key) == b'{"code": 404}'
    assert asked == [("/models/roofs", sent)]


def test_nobody_listens() -> None:
    with pytest.raises(ConnectionRefusedError):
        loopback.get(free_ports(1)[0], "/ping", 5.0)
