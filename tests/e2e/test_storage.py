"""Archives from an S3 server and over HTTP, through KServe's storage initializer."""

import functools
import http.server
import socket
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.e2e.cluster import apply, run
from tests.e2e.load import call_many
from tests.e2e.releases import Archives, Release, base_values, merge

BUCKET = "models"


@functools.cache
def machine() -> str:
    """The address under which pods reach this machine: the one from which it reaches the node, on kind as on the stand-in."""
    first = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # nothing is sent
        probe.connect((run("kubectl", "get", "nodes", "--output", first), 9))
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A real S3 server's URL."""
    server = ThreadedMotoServer(ip_address=machine(), port=0)
    server.start()
    yield f"http://{machine()}:{server.get_host_and_port()[1]}"
    server.stop()


@contextmanager
def released(release: Release) -> Iterator[Release]:
    """A release for the time of one test."""
    release.upgrade()
    try:
        release.wait_ready()
        yield release
    finally:
        run("helm", "uninstall", release.name, "--namespace", release.namespace, "--wait")


def test_an_archive_from_s3_serves(namespace: str, archives: Archives, s3: str) -> None:
    credentials = {"aws_access_key_id": "visor", "aws_secret_access_key": "not-a-secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3, **credentials)
    client.create_bucket(Bucket=BUCKET)
    for path in (archives.folder / "v2").iterdir():
        client.upload_file(str(path), BUCKET, f"digits/2/{path.name}")
    endpoint = s3.removeprefix("http://")
    annotations = {f"serving.kserve.io/s3-{key}": value for key, value in
                   {"endpoint": endpoint, "usehttps": "0", "verifyssl": "0", "region": "us-east-1"}.items()}  # fmt: skip
    apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s3", "namespace": namespace, "annotations": annotations},
            "stringData": {"AWS_ACCESS_KEY_ID": "visor", "AWS_SECRET_ACCESS_KEY": "not-a-secret"},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "s3", "namespace": namespace},
            "secrets": [{"name": "s3"}],
        },
    )
    source = {"archive": {"uri": f"s3://{BUCKET}/digits/2"}, "serviceAccount": {"create": False, "name": "s3"}}
    made = Release("from-s3", namespace, merge(base_values(archives), source))
    with released(made):
        outcomes = call_many(made.target, archives.picture, 4)
        assert {(outcome.version, outcome.error) for outcome in outcomes} == {("2", "")}


def test_an_archive_over_http_serves(namespace: str, archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("www")
    with tarfile.open(folder / "digits.tar.gz", "w:gz") as tar:
        for path in (archives.folder / "v2").iterdir():
            tar.add(path, path.name)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer((machine(), 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Release("from-http", namespace, base_values(archives))
        made.values["archive"]["uri"] = f"http://{machine()}:{server.server_port}/digits.tar.gz"
        with released(made):
            outcomes = call_many(made.target, archives.picture, 4)
        server.shutdown()
    assert {(outcome.version, outcome.error) for outcome in outcomes} == {("2", "")}
