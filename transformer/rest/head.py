"""What a request's line and headers have to be before it is answered: a path, one host, and a body that can be read."""

import re
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from transformer.errors import HeadTooLarge, HttpMalformed, TransferUnknown, show

MAX_HEAD_BYTES = 64 << 10
"""The largest request line and headers together; the trailers of a chunked body have the same bound."""

# RFC 3986's host and port; empty where the request has no authority (RFC 9112, 3.2).
_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*", re.ASCII)

Headers = list[tuple[bytes, bytes]]
"""Names in lower case and values, in the order in which they came."""


def read_target(url: bytes, scope: Scope) -> None:
    """Read a request's path and query into its scope. Raises HttpMalformed."""
    try:
        target = httptools.parse_url(url) if url != b"*" else None
        raw_path = b"*" if target is None else target.path or b"/"
        path = raw_path.decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError) as err:
        raise HttpMalformed(f"the request's target is no path: {show(url)}") from err
    scope["raw_path"] = raw_path
    scope["path"] = unquote(path) if "%" in path else path
    scope["query_string"] = (target.query if target else None) or b""


def check(headers: Headers, fields: dict[bytes, bytes], version: str) -> None:
    """Raise HttpMalformed or TransferUnknown for headers that HTTP forbids, or that nobody here can read.

    `fields`: the last value of each header. `version`: of HTTP.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 and (hosts or version != "1.0"):
        raise HttpMalformed(f"a request has one Host header (RFC 9112, 3.2), this one {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise HttpMalformed(f"the Host header is no host and port: {show(hosts[0])}")
    if b"transfer-encoding" in fields:
        codings = b",".join([value for name, value in headers if name == b"transfer-encoding"]).lower()
        if codings != b"chunked":
            raise TransferUnknown(f"Transfer-Encoding {show(codings)} is not read; send chunked or Content-Length")


def without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """Write a head anew, without its `Upgrade`."""
    lines = [method, b" ", url, b" HTTP/", version.encode(), b"\r\n"]
    for name, value in headers:
        if name != b"upgrade":
            lines += (name, b": ", value, b"\r\n")
    return b"".join((*lines, b"\r\n"))


def too_large(what: str) -> HeadTooLarge:
    """The error of a request with more than MAX_HEAD_BYTES of something."""
    return HeadTooLarge(f"the request's {what} have more than {MAX_HEAD_BYTES} bytes; send fewer or shorter ones")
