"""Signatures over archives, in the OpenSSF model-signing format, by an elliptic-curve key pair of the user's own."""

import os
import zipfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from archives.contents import Contents, read
from archives.errors import ArchiveRefused, KeyFileError

PRIVATE, PUBLIC = "visor.key", "visor.pub"


def signature_of(archive: Path) -> Path:
    """Return where an archive's signature lies: beside it, NAME.mar.sig."""
    return archive.with_name(archive.name + ".sig")


def make_keys(folder: Path) -> tuple[Path, Path]:
    """Write a P-256 key pair and return (private, public). Raises KeyFileError rather than replace a key."""
    private, public = folder / PRIVATE, folder / PUBLIC
    if taken := [path for path in (private, public) if path.exists()]:
        raise KeyFileError(f"{taken[0]} exists; archives that it signed need it, so choose another folder or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # Created with its final mode, so that the key is never readable by others, not even for a moment.
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def sign(archive: Path, private: Path) -> Path:
    """Sign an archive and return the signature's path. Raises KeyFileError."""
    from model_signing.signing import Config

    check_private(private)
    signature = signature_of(archive)
    try:
        Config().use_elliptic_key_signer(private_key=private).sign(archive, signature)
    except (ValueError, TypeError) as err:
        raise KeyFileError(f"{private} cannot sign: {err}; make a pair with `visor keys`") from err
    return signature


def check_private(private: Path) -> None:
    """Raise KeyFileError unless a key can sign, so that this is known before hours of fitting."""
    _check_key(private, "private", "make a pair with `visor keys`")


def verify(archive: Path, public: Path) -> None:
    """Raise ArchiveRefused unless the signature beside the archive was made by this key over exactly these bytes."""
    from model_signing.verifying import Config

    signature = signature_of(archive)
    if not archive.is_file():
        raise ArchiveRefused(f"{archive} does not exist")
    _check_key(public, "public", "it is made by `visor keys` and goes wherever archives are served")
    if not signature.is_file():
        raise ArchiveRefused(f"{archive} has no signature ({signature.name} is missing); sign it with `visor archive` again")
    try:
        Config().use_elliptic_key_verifier(public_key=public).verify(archive, signature)
    except Exception as err:
        # The library raises ValueError for a mismatch, and cryptography's, protobuf's and JSON's own for damaged files;
        # each of them means the same here: this archive is not to be opened.
        raise ArchiveRefused(f"{archive} is refused: {_reason(archive, err)}") from err


def read_verified(archive: Path, public: Path) -> Contents:
    """Read an archive's contents after verifying its signature. Raises ArchiveRefused, KeyFileError."""
    verify(archive, public)
    return read(archive)


def _reason(archive: Path, err: Exception) -> str:
    if str(err).startswith("Signature mismatch"):
        changed = damaged_members(archive)
        detail = f", among them {', '.join(changed)}" if changed else ""
        return f"its bytes are not the ones that were signed{detail}; take the archive from its source again"
    return f"the signature does not hold for this key ({type(err).__name__}: {err}); check that the public key is the signer's"


def damaged_members(archive: Path) -> list[str]:
    """Return the names of members whose bytes contradict their checksum; empty where the zip itself cannot tell."""
    damaged = []
    try:
        with zipfile.ZipFile(archive) as mar:
            for member in mar.infolist():
                try:
                    mar.read(member)
                except Exception:
                    # zlib.error, BadZipFile, NotImplementedError, ...: whichever, the bytes of this member are not whole.
                    damaged.append(member.filename)
    except (OSError, zipfile.BadZipFile):
        return ["the zip's own directory"]
    return damaged


def _check_key(path: Path, kind: str, advice: str) -> None:
    try:
        data = path.read_bytes()
        if kind == "private":
            serialization.load_pem_private_key(data, password=None)
        else:
            serialization.load_pem_public_key(data)
    except OSError as err:
        raise KeyFileError(f"the {kind} key {path} cannot be read ({err.strerror}); {advice}") from err
    except (ValueError, TypeError) as err:
        raise KeyFileError(f"{path} is not a {kind} key in PEM: {err}; {advice}") from err
