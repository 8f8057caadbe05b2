"""Pictures that are kept under the SHA-256 of their bytes, in a folder or in S3: each is there whole or not at all."""

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from console.reviews.errors import PictureGone, PicturesDown

LEFT_S = 3600.0
"""Age in seconds of a file, half of which is written, at which nobody writes it any more."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Pictures(Protocol):
    """A place of pictures. All of it may block, and raises PicturesDown where the place cannot be read or written."""

    def put(self, digest: str, content: bytes) -> None:
        """Keep a picture; once this returns it survives a crash. One that is there stays as it is."""

    def get(self, digest: str) -> bytes:
        """Read a picture. Raises PictureGone."""

    def has(self, digest: str) -> bool:
        """Whether the picture is there."""

    def remove(self, digest: str) -> None:
        """Delete a picture, be it there or not."""

    def digests(self) -> Iterator[tuple[str, float]]:
        """List all pictures with the time at which each came, in seconds since 1970."""


def digest_of(content: bytes) -> str:
    """The SHA-256 under which a picture is kept, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def open_pictures(place: str) -> Pictures:
    """Open a folder, which is made if need be, or s3://BUCKET/PREFIX. Raises PicturesDown."""
    if place.startswith("s3://"):
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        return BucketPictures(boto3.session.Session().client("s3"), bucket, prefix.strip("/"))
    return FolderPictures(Path(place))


class FolderPictures:
    """Pictures in a folder, spread over 256 of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*.part"):  # of a process that was killed while it wrote, and not of one that writes
                if leftover.stat().st_mtime < time.time() - LEFT_S:
                    leftover.unlink(missing_ok=True)
        except OSError as err:
            raise self._down(err) from err

    def put(self, digest: str, content: bytes) -> None:
        """Write beside, flush, rename, and flush the folder's own entry: what is there by its name is whole."""
        target = self._path(digest)
        part = self.folder / f".{digest}.{secrets.token_hex(4)}.part"
        try:
            if target.exists():
                return
            target.parent.mkdir(exist_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
            for folder in (target.parent, self.folder):
                _flush(folder)
        except OSError as err:
            raise self._down(err) from err
        finally:
            part.unlink(missing_ok=True)

    def get(self, digest: str) -> bytes:
        """Read a file."""
        try:
            return self._path(digest).read_bytes()
        except FileNotFoundError as err:
            raise PictureGone(f"the picture {digest[:12]} was deleted") from err
        except OSError as err:
            raise self._down(err) from err

    def has(self, digest: str) -> bool:
        """Look for the file."""
        return self._path(digest).is_file()

    def remove(self, digest: str) -> None:
        """Delete the file."""
        try:
            path = self._path(digest)
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                _flush(path.parent)
        except OSError as err:
            raise self._down(err) from err

    def digests(self) -> Iterator[tuple[str, float]]:
        """List the files that are named as pictures are."""
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if _DIGEST.fullmatch(path.name):
                try:
                    came_s = path.stat().st_mtime
                except FileNotFoundError:
                    continue  # deleted since the folder was read
                yield path.name, came_s

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise PictureGone(f"{digest[:80]!r} is no SHA-256 of a picture")
        return self.folder / digest[:2] / digest

    def _down(self, err: OSError) -> PicturesDown:
        return PicturesDown(f"the folder of pictures, {self.folder}, cannot be read or written: {err.strerror or err}")


class BucketPictures:
    """Pictures in a bucket of S3, of whatever server the environment's AWS_ENDPOINT_URL names."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client, self.bucket = client, bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._call("head_bucket")

    def put(self, digest: str, content: bytes) -> None:
        """Put an object, which S3 shows whole or not at all."""
        self._call("put_object", Key=self._key(digest), Body=content, ContentType="application/octet-stream")

    def get(self, digest: str) -> bytes:
        """Read an object."""
        try:
            return bytes(self._call("get_object", Key=self._key(digest))["Body"].read())
        except KeyError as err:
            raise PictureGone(f"the picture {digest[:12]} was deleted") from err

    def has(self, digest: str) -> bool:
        """Ask for the object's head."""
        try:
            self._call("head_object", Key=self._key(digest))
        except KeyError:
            return False
        return True

    def remove(self, digest: str) -> None:
        """Delete the object. Where the bucket keeps versions, older ones stay: docs/reviews.md."""
        self._call("delete_object", Key=self._key(digest))

    def digests(self) -> Iterator[tuple[str, float]]:
        """List the objects that are named as pictures are."""
        following: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=self._prefix, **following)
            for found in page.get("Contents", ()):
                if _DIGEST.fullmatch(name := found["Key"].removeprefix(self._prefix)):
                    yield name, found["LastModified"].timestamp()
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def _key(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise PictureGone(f"{digest[:80]!r} is no SHA-256 of a picture")
        return self._prefix + digest

    def _call(self, method: str, **parameters: Any) -> Any:
        """Ask S3. Raises KeyError for an object that is not there, PicturesDown for all else."""
        try:
            return getattr(self._client, method)(Bucket=self.bucket, **parameters)
        except ClientError as err:
            code = err.response["Error"]["Code"]
            if "Key" in parameters and code in ("NoSuchKey", "404", "NotFound"):
                raise KeyError(parameters["Key"]) from err
            raise PicturesDown(f"the bucket of pictures, {self.bucket}, refuses {method}: {code}") from err
        except BotoCoreError as err:
            raise PicturesDown(f"the bucket of pictures, {self.bucket}, cannot be reached: {err}") from err


def _flush(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
