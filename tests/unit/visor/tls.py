"""Certificates of a made-up authority, and V2 servers of one canned answer over TLS, both written anew for each test run."""

import contextlib
import datetime
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from transformer.grpc.messages import SERVICE, message

NAME = "roofs-demo.example.com"
"""The name that the server's certificate has besides 127.0.0.1."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as PEM files; `both` has them in one."""

    cert: Path
    key: Path
    both: Path


@dataclass(frozen=True)
class Authority:
    """An authority of its own: its certificate, the server's and a client's."""

    cacert: Path
    server: Pair
    client: Pair


def make_authority(folder: Path) -> Authority:
    """Write an authority's certificate and the two that it signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("authority")
    ca = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = ca.sign(key, hashes.SHA256())
    cacert = folder / "ca.pem"
    cacert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(NAME)]

    def issue(subject: str) -> Pair:
        own = ec.generate_private_key(ec.SECP256R1())
        issued = _builder(_name(subject), name, own).add_extension(x509.SubjectAlternativeName(names), critical=False)
        pem = issued.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        secret = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pair = Pair(folder / f"{subject}.pem", folder / f"{subject}.key", folder / f"{subject}-both.pem")
        pair.cert.write_bytes(pem)
        pair.key.write_bytes(secret)
        pair.both.write_bytes(pem + secret)
        return pair

    return Authority(cacert, issue("server"), issue("client"))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )


INDEX = [{"name": "roofs", "version": "3", "state": "READY"}]
ANSWER = {
    "model_name": "roofs",
    "model_version": "3",
    "parameters": {"archive_digest": "ab", "model_version": "3", "threshold": 0.5},
    "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["damaged"]},
        {"name": "confidence", "datatype": "FP32", "shape": [1], "data": [0.75]},
        {"name": "decision", "datatype": "BYTES", "shape": [1], "data": ["flag"]},
        {"name": "error", "datatype": "BYTES", "shape": [1], "data": [""]},
    ],
}


@dataclass
class Canned:
    """A server's address, what it answers over REST, and the paths and headers (over gRPC: metadata) that came."""

    address: str = ""
    index: Any = field(default_factory=lambda: INDEX)
    answer: Any = field(default_factory=lambda: ANSWER)
    status: int = 200
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def rest_server(authority: Authority | None = None, *, clients: bool = False) -> Iterator[Canned]:
    """Serve REST, over TLS with an authority; `clients`: only those that show a certificate of it."""
    canned = Canned()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            canned.paths.append(self.path)
            canned.headers.append({name.lower(): value for name, value in self.headers.items()})
            content = canned.index if self.path.endswith("/index") else canned.answer
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(canned.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None: ...

    with Server(("127.0.0.1", 0), Handler) as server:
        if authority:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.server.cert, authority.server.key)
            if clients:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(authority.cacert)
            # The handshake in the connection's own thread, or one that hangs would stop the server.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        canned.address = f"127.0.0.1:{server.server_address[1]}"
        try:
            yield canned
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def grpc_server(authority: Authority | None = None, *, clients: bool = False) -> Iterator[Canned]:
    """Serve gRPC, as `rest_server` REST."""
    canned = Canned()

    def answering(response: Any) -> Callable[[bytes, Any], bytes]:
        def answer(_: bytes, context: Any) -> bytes:
            canned.headers.append({key: str(value) for key, value in context.invocation_metadata()})
            return bytes(response.SerializeToString())

        return answer

    texts = {"label": b"damaged", "decision": b"flag", "error": b""}
    raw = {name: len(text).to_bytes(4, "little") + text for name, text in texts.items()}
    raw["confidence"] = b"\0\0\x40\x3f"  # 0.75, little-endian
    infer = message("ModelInferResponse")(
        model_name="roofs",
        model_version="3",
        outputs=[{"name": name, "datatype": "BYTES" if name in texts else "FP32", "shape": [1]} for name in raw],
        raw_output_contents=list(raw.values()),
    )
    index = message("RepositoryIndexResponse")(models=INDEX)
    methods = {
        name: grpc.unary_unary_rpc_method_handler(answering(response))
        for name, response in (("RepositoryIndex", index), ("ModelInfer", infer))
    }
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    if authority:
        pair = (authority.server.key.read_bytes(), authority.server.cert.read_bytes())
        roots = authority.cacert.read_bytes() if clients else None
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair], roots, clients))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    canned.address = f"127.0.0.1:{port}"
    try:
        yield canned
    finally:
        server.stop(None).wait()
