"""S3 against moto's server: what is fetched, what is left alone, and what each thing that can go wrong is called."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3 import OWN, S3, s3_server
from training import remote
from training.errors import (
    RemoteConflict,
    RemoteDenied,
    RemoteError,
    RemoteInvalid,
    RemoteMissing,
    RemoteUnreachable,
)
from training.remote import Place

URI = "s3://pictures/roofs"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as running:
        yield running


@pytest.fixture
def bucket(server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a server whose bucket `pictures` is empty; boto3's own settings point there."""
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with server.client() as client:
        client.create_bucket(Bucket="pictures")
        yield client
        for entry in client.list_objects_v2(Bucket="pictures").get("Contents", ()):
            client.delete_object(Bucket="pictures", Key=entry["Key"])
        client.delete_bucket(Bucket="pictures")


def put(client: Any, **objects: bytes) -> None:
    for key, body in objects.items():
        client.put_object(Bucket="pictures", Key=key, Body=body)


def files(folder: Path) -> dict[str, bytes]:
    """What a folder holds, hidden files aside."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


class Count:
    """How many objects were downloaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        fetch = remote._fetch

        def counted(client: Any, place: Place, paths: list[str], folder: Path) -> Iterator[str]:
            for path in fetch(client, place, paths, folder):
                self.paths.append(path)
                yield path

        monkeypatch.setattr(remote, "_fetch", counted)


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix", "root", "text"),
    [
        ("s3://models", "models", "", "", "s3://models"),
        ("s3://models/", "models", "", "", "s3://models"),
        ("s3://models/a/b", "models", "a/b", "a/b/", "s3://models/a/b"),
        ("s3://my.models-2/a/", "my.models-2", "a", "a/", "s3://my.models-2/a"),
    ],
)
def test_an_address_is_a_bucket_and_a_prefix(uri: str, bucket: str, prefix: str, root: str, text: str) -> None:
    place = Place.parse(uri)
    assert (place.bucket, place.prefix, place.root, str(place)) == (bucket, prefix, root, text)


@pytest.mark.parametrize(
    "uri", ["models", "/models", "gs://models/a", "s3://", "s3:///a", "s3://UPPER/a", "s3://a", "s3://abc/a//b"]
)
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(RemoteInvalid, match=r"remote\.invalid: .* is not s3://BUCKET"):
        Place.parse(uri)


def test_a_prefix_becomes_a_folder(bucket: Any, tmp_path: Path) -> None:
    put(bucket, **{"roofs/intact/1.png": b"one", "roofs/damaged/deep/2.png": b"two", "roofs-old/intact/3.png": b"no"})
    put(bucket, **{"roofs/": b"", "roofs/empty/": b"", "roofs/intact/.DS_Store": b"no", "roofs/../../escaped.png": b"no"})
    remote.mirror(URI, tmp_path / "data")
    assert files(tmp_path) == {"data/intact/1.png": b"one", "data/damaged/deep/2.png": b"two"}


def test_a_listing_of_several_pages_is_read_whole(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, **{f"roofs/a/{number}": b"%d" % number for number in range(7)})
    with monkeypatch.context() as small:
        small.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
        assert len(bucket.list_objects_v2(Bucket="pictures")["Contents"]) == 3
        remote.mirror(f"{URI}/", tmp_path)
    assert files(tmp_path) == {f"a/{number}": b"%d" % number for number in range(7)}


def test_only_what_changed_is_fetched_again(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, **{"roofs/a/1": b"one", "roofs/a/2": b"two", "roofs/b/3": b"three", "roofs/b/4": b"four"})
    remote.mirror(URI, tmp_path)
    count = Count(monkeypatch)
    remote.mirror(URI, tmp_path)
    assert count.paths == []

    put(bucket, **{"roofs/a/1": b"eno", "roofs/c/5": b"five"})  # of the same size: the ETag tells
    (tmp_path / "a/2").write_bytes(b"cut")
    (tmp_path / "b/3").write_bytes(b"cut shorter")
    bucket.delete_object(Bucket="pictures", Key="roofs/b/4")
    (tmp_path / "b/left.PnGX1").write_bytes(b"a download that was killed")
    remote.mirror(URI, tmp_path)
    assert sorted(count.paths) == ["a/1", "b/3", "c/5"]
    assert files(tmp_path) == {"a/1": b"eno", "a/2": b"cut", "b/3": b"three", "c/5": b"five"}


def test_a_label_without_images_goes(bucket: Any, tmp_path: Path) -> None:
    put(bucket, **{"roofs/a/1": b"one", "roofs/b/deep/2": b"two"})
    remote.mirror(URI, tmp_path)
    bucket.delete_object(Bucket="pictures", Key="roofs/b/deep/2")
    remote.mirror(URI, tmp_path)
    assert not (tmp_path / "b").exists()


def test_an_interrupted_mirror_goes_on(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, **{f"roofs/a/{number}": b"x" for number in range(40)})
    fetch = remote._fetch

    def interrupted(client: Any, place: Place, paths: list[str], folder: Path) -> Iterator[str]:
        for number, path in enumerate(fetch(client, place, paths, folder)):
            if number == 10:
                raise KeyboardInterrupt
            yield path

    with monkeypatch.context() as once:
        once.setattr(remote, "_fetch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remote.mirror(URI, tmp_path)
    count = Count(monkeypatch)
    remote.mirror(URI, tmp_path)
    assert len(count.paths) == 30
    assert len(files(tmp_path)) == 40


def test_a_folder_of_somebody_elses_is_left_alone(bucket: Any, tmp_path: Path) -> None:
    put(bucket, **{"roofs/a/1": b"one"})
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RemoteInvalid, match="did not come from s3://pictures/roofs"):
        remote.mirror(URI, tmp_path)
    assert files(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_damaged_index_is_no_obstacle(bucket: Any, tmp_path: Path) -> None:
    put(bucket, **{"roofs/a/1": b"one"})
    remote.mirror(URI, tmp_path)
    (tmp_path / remote.INDEX).write_text("{")
    remote.mirror(URI, tmp_path)
    assert files(tmp_path) == {"a/1": b"one"}


def test_a_prefix_without_files_is_an_error(bucket: Any, tmp_path: Path) -> None:
    put(bucket, **{"roofs-old/1": b"one"})
    with pytest.raises(RemoteMissing, match=r"remote\.missing: s3://pictures/roofs holds no file"):
        remote.mirror(URI, tmp_path)


def test_a_key_that_no_file_can_have_is_named(bucket: Any, tmp_path: Path) -> None:
    put(bucket, **{"roofs/a//1": b"one"})
    with pytest.raises(RemoteInvalid, match="'a//1'"):
        remote.mirror(URI, tmp_path)


def test_a_file_that_is_also_a_folder_is_an_error(bucket: Any, tmp_path: Path) -> None:
    put(bucket, **{"roofs/a": b"one", "roofs/a/1": b"two"})
    with pytest.raises(RemoteError, match=r"remote\.failed: s3://pictures/roofs: "):
        remote.mirror(URI, tmp_path)


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for ask in (lambda: remote.check("s3://nowhere/roofs"), lambda: remote.mirror("s3://nowhere/roofs", tmp_path / "data")):
        with pytest.raises(RemoteMissing, match="s3://nowhere/roofs: NoSuchBucket"):
            ask()
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("bucket")
def test_a_check_passes_where_a_bucket_is() -> None:
    remote.check("s3://pictures")
    remote.check("s3://pictures/nothing/yet")


@pytest.mark.usefixtures("bucket")
def test_no_credentials_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RemoteDenied, match=r"remote\.denied: .*set AWS_ACCESS_KEY_ID"):
        remote.check(URI)


@pytest.mark.usefixtures("bucket")
def test_a_server_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(RemoteUnreachable, match=rf"remote\.unreachable: .*127\.0\.0\.1:{port}.*check AWS_ENDPOINT_URL"):
        remote.check(URI)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(RemoteError, match="Invalid endpoint"):
        remote.check(URI)


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", RemoteDenied),
        (403, "SignatureDoesNotMatch", RemoteDenied),
        (404, "NoSuchBucket", RemoteMissing),
        (501, "NotImplemented", RemoteError),
    ],
)
def test_a_refusal_has_its_code(status: int, code: str, error: type[RemoteError], monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    answer = (
        f"HTTP/1.1 {status} x\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer.encode())

        thread = threading.Thread(target=refuse)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(RemoteError, match=f"{code}: no") as raised:
            remote.check(URI)
        thread.join()
    assert raised.type is error


def test_files_are_copied_in_the_order_given(bucket: Any, tmp_path: Path) -> None:
    signature, archive = tmp_path / "roofs.mar.sig", tmp_path / "roofs.mar"
    archive.write_bytes(b"mar")
    with pytest.raises(RemoteError):  # as if it were interrupted before the second file
        remote.upload([archive, signature], "s3://pictures/store/roofs/1")
    signature.write_bytes(b"sig")
    remote.upload([signature, archive], "s3://pictures/store/roofs/1")
    found = {entry["Key"] for entry in bucket.list_objects_v2(Bucket="pictures")["Contents"]}
    assert found == {"store/roofs/1/roofs.mar", "store/roofs/1/roofs.mar.sig"}
    assert bucket.get_object(Bucket="pictures", Key="store/roofs/1/roofs.mar")["Body"].read() == b"mar"


def test_what_is_there_is_never_replaced(bucket: Any, tmp_path: Path) -> None:
    archive = tmp_path / "roofs.mar"
    archive.write_bytes(b"first")
    remote.upload([archive], "s3://pictures/roofs/1")
    before = bucket.head_object(Bucket="pictures", Key="roofs/1/roofs.mar")["LastModified"]
    remote.upload([archive], "s3://pictures/roofs/1")
    assert bucket.head_object(Bucket="pictures", Key="roofs/1/roofs.mar")["LastModified"] == before
    archive.write_bytes(b"second")
    with pytest.raises(RemoteConflict, match=r"remote\.conflict: s3://pictures/roofs/1/roofs\.mar is there already"):
        remote.upload([archive], "s3://pictures/roofs/1")
    assert bucket.get_object(Bucket="pictures", Key="roofs/1/roofs.mar")["Body"].read() == b"first"


def test_versions_are_ordered_as_numbers(bucket: Any) -> None:
    put(bucket, **{"store/roofs/2/roofs.mar": b"", "store/roofs/10/roofs.mar.sig": b"", "store/roofs/notes/x": b""})
    put(bucket, **{"store/roofs/README": b"", "store/roofs-old/11/roofs.mar": b""})
    assert remote.versions("s3://pictures/store", "roofs") == ["2", "10"]
    assert remote.versions("s3://pictures/store", "leaves") == []
