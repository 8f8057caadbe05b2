"""`visor predict` as a process, where TLS is decided by the environment."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.visor.tls import Canned, grpc_server, make_authority, rest_server


@pytest.mark.parametrize(("scheme", "serve"), [("https", rest_server), ("grpcs", grpc_server)])
def test_ssl_cert_file_names_the_authority_and_visor_token_the_token(
    scheme: str, serve: Callable[..., contextlib.AbstractContextManager[Canned]], tmp_path: Path
) -> None:
    authority = make_authority(tmp_path)
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"picture")
    with serve(authority) as canned:
        done = subprocess.run(
            [sys.executable, "-m", "visor.cli", "predict", str(picture), "--url", f"{scheme}://{canned.address}"],
            env={**os.environ, "SSL_CERT_FILE": str(authority.cacert), "VISOR_TOKEN": "of-the-environment"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{picture}  damaged  0.750  flag\n", "")
    assert [headers["authorization"] for headers in canned.headers] == ["Bearer of-the-environment"] * 2
