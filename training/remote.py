"""S3: a prefix mirrored into a folder, and files copied to where nothing is ever overwritten.

Endpoint, region and credentials come from where boto3 looks for them: AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, or a cloud's identity of the pod.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as aws
from botocore.config import Config

from archives import files
from handlers.errors import counted
from training import runs
from training.errors import (
    RemoteConflict,
    RemoteDenied,
    RemoteError,
    RemoteInvalid,
    RemoteMissing,
    RemoteUnreachable,
)
from training.progress import show_progress

logger = logging.getLogger(__name__)

SCHEME = "s3://"
INDEX = ".visor-mirror.json"
"""In a mirror: the ETag of each file. An ETag need not be a digest of the bytes, so it cannot be made from them."""
THREADS = 16  # small images cost a round trip each, and next to nothing else
# The checksums that boto3 adds by default are unknown to many servers that speak S3; ours are in `put`.
CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=THREADS,
    retries={"mode": "standard", "total_max_attempts": 4},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
DENIED = {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "401", "403"}
MISSING = {"NoSuchBucket", "NoSuchKey", "404"}
TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412"}


@dataclass(frozen=True)
class Place:
    """s3://BUCKET/PREFIX; `prefix` neither begins nor ends with a slash and may be empty."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read an address. Raises RemoteInvalid."""
        bucket, _, prefix = uri.removeprefix(SCHEME).partition("/")
        prefix = prefix.strip("/")
        if not uri.startswith(SCHEME) or not BUCKET.fullmatch(bucket) or "//" in prefix:
            raise RemoteInvalid(f"{uri!r} is not s3://BUCKET or s3://BUCKET/PREFIX")
        return cls(bucket, prefix)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def root(self) -> str:
        """The prefix of all keys below the place: PREFIX/, so that `roofs` is not taken for the beginning of `roofs-old`."""
        return f"{self.prefix}/" if self.prefix else ""

    def below(self, path: str) -> "Place":
        """Return a place below this one."""
        return Place(self.bucket, self.root + path)


def is_remote(place: str) -> bool:
    """Tell whether a text is an address of S3 and not a path."""
    return place.startswith(SCHEME)


def check(uri: str) -> None:
    """Ask for one key, so that a wrong address or credential is reported before anything long begins. Raises RemoteError."""
    place = Place.parse(uri)
    with _client(place) as client:
        client.list_objects_v2(Bucket=place.bucket, Prefix=place.root, MaxKeys=1)


def versions(uri: str, name: str) -> list[str]:
    """List the versions of a name below a store's address, those without an archive too, oldest first. Raises RemoteError."""
    place = Place.parse(uri).below(name)
    found = []
    with _client(place) as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.root, Delimiter="/"):
            found += [entry["Prefix"].removeprefix(place.root).rstrip("/") for entry in page.get("CommonPrefixes", ())]
    return sorted((version for version in found if version.isdecimal()), key=int)


def mirror(uri: str, folder: Path) -> None:
    """Make `folder` hold what lies below the address, and nothing else; only what changed since the last time is fetched.

    Keys with a part that begins with a dot are left out. An interrupted call is gone on with by the next. Raises RemoteError,
    also for a folder that holds files and was not made here.
    """
    place = Place.parse(uri)
    if folder.is_dir() and not (folder / INDEX).is_file() and any(folder.iterdir()):
        raise RemoteInvalid(f"{folder} holds files that did not come from {place}; move it away")
    with _client(place) as client:
        wanted = dict(_list(client, place))  # path → (ETag, size in bytes)
        if not wanted:
            raise RemoteMissing(f"{place} holds no file; check bucket and prefix")
        folder.mkdir(parents=True, exist_ok=True)
        etags = {path: etag for path, etag in _read_index(folder).items() if _is_current(folder, path, etag, wanted)}
        _remove_others(folder, etags)
        stale = sorted(wanted.keys() - etags.keys())
        size = sum(wanted[path][1] for path in stale)
        logger.info("%s: %s, %d of them to fetch (%.1f MB)", place, counted(len(wanted), "file"), len(stale), size / 1e6)
        try:
            for path in _fetch(client, place, stale, folder):
                etags[path] = wanted[path][0]
        finally:
            runs.write_json(folder / INDEX, etags)


def upload(files: Iterable[Path], uri: str) -> None:
    """Copy files below the address, in this order; a file that is there already stays.

    Raises RemoteConflict where its bytes are others, and RemoteError.
    """
    place = Place.parse(uri)
    with _client(place) as client:
        for path in files:
            _put(client, place.below(path.name), path)


def _put(client: Any, place: Place, path: Path) -> None:
    digest = files.sha256(path)
    at = {"Bucket": place.bucket, "Key": place.prefix}
    logger.info("%s: copying %.1f MB", place, path.stat().st_size / 1e6)
    try:
        with path.open("rb") as body:
            client.put_object(**at, Body=body, Metadata={"sha256": digest}, IfNoneMatch="*")
    except aws.ClientError as err:
        if _code(err) not in TAKEN:
            raise
        found = client.head_object(**at).get("Metadata", {}).get("sha256", "unknown")
        if found != digest:
            raise RemoteConflict(
                f"{place} is there already with other bytes (SHA-256 {found}, this file's is {digest}) and is never replaced"
            ) from err
        logger.info("%s is there already", place)


def _list(client: Any, place: Place) -> Iterator[tuple[str, tuple[str, int]]]:
    """(path below the place, (ETag, size in bytes)) of each file."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.root):
        for entry in page.get("Contents", ()):
            path = entry["Key"].removeprefix(place.root)
            if not path or path.endswith("/"):  # how consoles make an empty folder
                continue
            parts = path.split("/")
            if "" in parts:
                raise RemoteInvalid(f"{place} holds a key {path!r} with an empty part, which no file can have; rename it")
            if not any(part.startswith(".") for part in parts):  # "..", too, which would lead out of the folder
                yield path, (entry["ETag"], entry["Size"])


def _fetch(client: Any, place: Place, paths: Sequence[str], folder: Path) -> Iterator[str]:
    """Fetch files, several at a time, and yield the path of each that is there whole."""
    single = TransferConfig(use_threads=False)

    def fetch(path: str) -> str:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(place.bucket, place.root + path, str(target), Config=single)  # renames what is whole
        return path

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            started = [pool.submit(fetch, path) for path in paths]
            yield from show_progress((done.result() for done in as_completed(started)), len(paths), "fetching")
        finally:
            pool.shutdown(cancel_futures=True)


def _read_index(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / INDEX).read_bytes()))
    except (OSError, ValueError):  # none yet, or one that was damaged: all is fetched again
        return {}


def _is_current(folder: Path, path: str, etag: str, wanted: dict[str, tuple[str, int]]) -> bool:
    try:
        return wanted.get(path) == (etag, (folder / path).stat().st_size)
    except OSError:
        return False


def _remove_others(folder: Path, keep: Iterable[str]) -> None:
    """Remove every other file, and the folders that this leaves empty: each folder is a label."""
    kept = {INDEX, *keep}
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in kept:
            path.unlink()


@contextmanager
def _client(place: Place) -> Iterator[Any]:
    """A client, and its errors as ours, each with what to do next."""
    try:
        client = boto3.session.Session().client("s3", config=CONFIG)
        try:
            yield client
        finally:
            client.close()
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as err:
        raise RemoteDenied(f"{place}: {err}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from err
    except aws.ClientError as err:
        raise _translate(err, place) from err
    except (aws.ConnectionError, aws.HTTPClientError) as err:
        raise RemoteUnreachable(f"{place}: {err}; check AWS_ENDPOINT_URL and the network") from err
    except (aws.BotoCoreError, Boto3Error, ValueError) as err:  # ValueError: an endpoint that is no URL
        raise RemoteError(f"{place}: {err}") from err
    except OSError as err:
        raise RemoteError(f"{place}: {err.strerror} ({err.filename}); nothing is lost, the same command goes on") from err


def _translate(err: aws.ClientError, place: Place) -> RemoteError:
    code = _code(err)
    sentence = f"{place}: {code}: {err.response.get('Error', {}).get('Message', err)}"
    if code in DENIED:
        return RemoteDenied(f"{sentence}; check the credentials and what they allow")
    if code in MISSING:
        return RemoteMissing(f"{sentence}; check bucket and prefix, and that AWS_ENDPOINT_URL is the right server")
    return RemoteError(sentence)


def _code(err: aws.ClientError) -> str:
    return str(err.response.get("Error", {}).get("Code", "unknown"))
