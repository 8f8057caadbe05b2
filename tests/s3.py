"""An S3 server on a free loopback port, and the environment in which boto3 finds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

OWN = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
"""What a developer's own shell may say and these tests must not hear."""


@dataclass(frozen=True)
class S3:
    """A server; `environment` is what points boto3 to it."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "visor",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client of the tests' own, to arrange things and to look at what came out."""
        credentials = {"aws_access_key_id": "visor", "aws_secret_access_key": "not-a-secret", "region_name": "us-east-1"}
        client = boto3.session.Session().client("s3", endpoint_url=self.url, **credentials)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def s3_server() -> Iterator[S3]:
    """moto's server, for as long as the block lasts."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()
