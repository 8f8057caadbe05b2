"""How a V2 server is reached: its address, TLS, and the secrets that say who asks.

This module alone reads the environment variable VISOR_TOKEN: a secret is never taken from the command line, which every user
of the machine can read.
"""

import ipaddress
import logging
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from handlers.errors import unread
from visor.errors import ClientError

logger = logging.getLogger(__name__)

SCHEMES = ("http", "https", "grpc", "grpcs")
TIMEOUT_S = 60.0
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
"""Headers that say who asks, and whose value is not for others to see."""

_TOKEN = re.compile(r"[!-~]+")
# RFC 9110, 5.6.2 and 5.5, of which ASCII alone, as of gRPC's metadata.
_NAME, _VALUE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[\t -~]*")


@dataclass(frozen=True)
class Address:
    """The address of a V2 server.

    `netloc`: host and port as given. `path`: what stands before /v2, REST alone. `model`: that which the URL names behind /v2.
    """

    url: str
    scheme: str
    host: str
    netloc: str
    path: str
    model: str | None = None

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read a URL. Raises ClientError where it is none, or says more than this client would use."""
        if not isinstance(url, str):
            raise ClientError(f"the URL must be a text, such as http://HOST:PORT, got {url!r}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as err:
            raise ClientError(f"URL {url!r} is no URL: {err}") from err
        if parts.username is not None or parts.password is not None:
            # The URL is not shown, as it holds a secret.
            raise ClientError(
                "the URL has user or password in it, which are not sent; give a token by --token-file or VISOR_TOKEN"
            )
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ClientError(f"URL {url!r} is not {', '.join(f'{scheme}://HOST:PORT' for scheme in SCHEMES)}")
        if parts.query or parts.fragment:
            raise ClientError(f"URL {url!r} has a query or a fragment, which no address of a server has; leave it out")
        path = parts.path.rstrip("/")
        address = cls(url, parts.scheme, parts.hostname, parts.netloc, *_split(path))
        if path and address.grpc:
            raise ClientError(f"URL {url!r} has the path {path}, and gRPC has none; leave it out, or ask over REST")
        if address.grpc and port is None:
            raise ClientError(f"URL {url!r} names no port, and gRPC has none of its own; add one, such as :8081")
        return address

    @property
    def grpc(self) -> bool:
        """Whether it is gRPC's."""
        return self.scheme.startswith("grpc")

    @property
    def secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.scheme.endswith("s")

    @property
    def loopback(self) -> bool:
        """Whether it is this machine's own; a name that only resolves to it does not count."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


def _split(path: str) -> tuple[str, str | None]:
    """What stands before /v2 in a path, and the model that is named behind it: `visor serve` prints such an address.

    Other paths stand before /v2 as they are, be it with a segment v2 of their own.
    """
    found = re.fullmatch(r"(?:|(.*?)/v2/models(?:/([^/]+)(?:/infer)?)?|/v2)", path)
    return (found[1] or "", found[2] and unquote(found[2])) if found else (path, None)


@dataclass(frozen=True)
class Access:
    """What a server is shown, and whom it is believed.

    `cacert`: PEM file of the authorities whose certificates count, None for the system's. `cert`, `key`: PEM files of the
    client's own certificate and its key, which may be in one file. `token`: sent as `Authorization: Bearer TOKEN`, "" for none.
    """

    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    token: str = field(default="", repr=False)

    def check(self, address: Address, headers: Mapping[str, str]) -> None:
        """Raise ClientError for what contradicts itself, and warn of secrets that others can read on their way."""
        if self.key and not self.cert:
            raise ClientError(f"--key {self.key} has no certificate; give it by --cert")
        if (self.cacert or self.cert) and not address.secure:
            raise ClientError(f"--cacert and --cert are of TLS, and {address.url} is without; ask {address.scheme}s://")
        self._check_files()
        if self.token and "authorization" in headers:
            raise ClientError("a token and --header Authorization are both given; keep one")
        secrets = sorted(SECRET_HEADERS & headers.keys()) + (["token"] if self.token else [])
        if secrets and not address.secure and not address.loopback:
            # A warning and no refusal: the edge has no TLS of its own, and inside a cluster a mesh or nobody adds any.
            logger.warning(
                "sent to %s without TLS: %s; whoever is on the way can read it and use it, so ask %ss:// where there is one",
                address.netloc,
                " and ".join(secrets),
                address.scheme,
            )

    def _check_files(self) -> None:
        """Raise ClientError for files that hold no certificates or keys, where both libraries say less."""
        for flag, file in (("--cacert", self.cacert), ("--cert", self.cert), ("--key", self.key)):
            if file and not file.exists():
                raise ClientError(f"{flag} {file} is not there; name a PEM file")
        try:
            if self.cacert:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.cacert)
        except OSError as err:
            raise ClientError(f"--cacert {self.cacert} holds no certificates that can be read: {err}") from err
        try:
            if self.cert:
                # Without a password Python would ask for one.
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self.cert, self.key, password="")
        except OSError as err:
            files = f"--cert {self.cert}" + (f" and --key {self.key}" if self.key else " alone")
            raise ClientError(f"{files} hold no certificate with its key, without a passphrase, that can be read: {err}") from err


def mistaken(address: Address, said: str) -> str | None:
    """Say what else may answer at an address, and how that is asked; None where what a client's library says does not tell."""
    there, tls = address.netloc, "s" if address.secure else ""
    if "http1.x" in said or "Failed parsing HTTP/2" in said:
        return (
            f"{address.url} answers HTTP/1.1, as REST does, and no gRPC; ask http{tls}://{there}, or gRPC's own port "
            "(`visor serve` prints both, by default 8080 for REST and 8081 for gRPC)"
        )
    if "Expected HTTP/" in said:
        return (
            f"{address.url} answers no HTTP/1.1; if it is the port of gRPC, ask grpc{tls}://{there}, or REST's own port "
            "(`visor serve` prints both, by default 8080 for REST and 8081 for gRPC)"
        )
    if "WRONG_VERSION_NUMBER" in said:
        return f"{address.url} answers without TLS; ask {address.scheme.removesuffix('s')}://{there}"
    if address.grpc and "Connection refused" in said:
        return f"{address.url} does not answer: connection refused; is `visor serve` running?"
    return None


def read_token(path: Path | None) -> str:
    """Read the token of a file (its first line that is neither empty nor begins with #), else of VISOR_TOKEN; "" for none.

    Raises ClientError, which shows no token, for a file that has none and for what no header can hold.
    """
    if path is None:
        token, where = os.environ.get("VISOR_TOKEN", "").strip(), "VISOR_TOKEN"
    else:
        try:
            lines = [line.strip() for line in path.read_text().splitlines()]
        except OSError as err:
            raise ClientError(f"--token-file {path} {unread(err)}; name a file with the token on a line of its own") from err
        except UnicodeDecodeError as err:
            raise ClientError(f"--token-file {path} is no text") from err
        token, where = next((line for line in lines if line and not line.startswith("#")), ""), str(path)
        if not token:
            raise ClientError(f"--token-file {path} holds no token; write it on a line of its own")
    return check_token(token, f"of {where}")


def check_token(token: str, where: str) -> str:
    """Return a token, "" for none. Raises ClientError, which does not show it, for what no header can hold."""
    if not isinstance(token, str):
        raise ClientError(f"the token {where} must be a text, got {type(token).__name__}")
    if token and not _TOKEN.fullmatch(token):
        raise ClientError(f"the token {where} has spaces or other characters that no token has")
    return token


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers by their names in lower case. Raises ClientError, which shows no value, for what no header can hold."""
    if not isinstance(headers, Mapping):
        raise ClientError(f"headers must be a mapping of names to values, got {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ClientError(f"no header has the name {name!r}; it takes letters, digits and -")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ClientError(f"header {name} has a value that is no text of ASCII characters on one line")
    return {name.lower(): value for name, value in headers.items()}


def connect(address: Address, access: Access, headers: Mapping[str, str]) -> tuple[Any, Any]:
    """Make tritonclient's client of a server, and the class of its inputs.

    `access`: checked before. `headers`: sent along with each request; over TLS `host` also is the name that the server's
    certificate has to have.
    """
    if access.token:
        headers = {**headers, "authorization": f"Bearer {access.token}"}
    connected = _connect_grpc(address, access, headers) if address.grpc else _connect_rest(address, access, headers)
    client, _ = connected
    sent = {name: value for name, value in headers.items() if not (address.grpc and name == "host")}

    def add_headers(call: Any) -> None:
        call.headers = {**(call.headers or {}), **sent}

    client.register_plugin(add_headers)
    return connected


def _connect_rest(address: Address, access: Access, headers: Mapping[str, str]) -> tuple[Any, Any]:
    from tritonclient.http import InferenceServerClient, InferInput

    options = {"server_hostname": headers["host"].partition(":")[0]} if "host" in headers else {}
    if access.cacert:
        options["ca_certs"] = str(access.cacert)
    if access.cert:
        options |= {"certfile": str(access.cert), "keyfile": str(access.key or access.cert)}
    client = InferenceServerClient(
        address.netloc + address.path,
        ssl=address.secure,
        ssl_options=options,
        connection_timeout=TIMEOUT_S,
        network_timeout=TIMEOUT_S,
    )
    return client, InferInput


def _connect_grpc(address: Address, access: Access, headers: Mapping[str, str]) -> tuple[Any, Any]:
    import grpc
    from tritonclient.grpc import InferenceServerClient, InferInput

    # gRPC's Host is the channel's authority. These options replace tritonclient's own: sizes without a limit, as there.
    options: list[tuple[str, Any]] = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    if "host" in headers:
        options.append(("grpc.default_authority", headers["host"]))
    credentials = None
    if address.secure:
        if "host" in headers:
            options.append(("grpc.ssl_target_name_override", headers["host"].partition(":")[0]))
        # As over REST, SSL_CERT_FILE or the system's file; gRPC's own authorities where there is neither.
        roots = access.cacert or ssl.get_default_verify_paths().cafile
        credentials = grpc.ssl_channel_credentials(
            root_certificates=Path(roots).read_bytes() if roots else None,
            private_key=(access.key or access.cert).read_bytes() if access.cert else None,
            certificate_chain=access.cert.read_bytes() if access.cert else None,
        )
    client = InferenceServerClient(address.netloc, creds=credentials, channel_args=options)
    return client, InferInput
