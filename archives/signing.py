"""Signatures over archives, in the OpenSSF model-signing format, by an elliptic-curve key pair of the user's own."""

import hashlib
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from archives.contents import DAMAGED, PIECE, open_zip
from archives.errors import ArchiveRefused, KeyFileError, KeyLocked, KeyUnsuitable
from archives.files import naming

PRIVATE, PUBLIC = "visor.key", "visor.pub"
LOCKED = b"ENCRYPTED"
"""What a private key with a passphrase has in its first lines, in PKCS #8 (RFC 7468, section 11) as in OpenSSL's older form."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""P-256, P-384 and P-521: those that the library model_signing signs on."""
# How many damaged members an error names, in how many characters: their names are as foreign as the file.
NAMED, LONGEST = 5, 500


def signature_of(archive: Path) -> Path:
    """Return where an archive's signature lies: beside it, NAME.mar.sig."""
    return archive.with_name(archive.name + ".sig")


def make_keys(folder: Path, passphrase: str | None = None) -> tuple[Path, Path]:
    """Write a P-256 key pair and return (private, public). Raises KeyFileError rather than replace a key.

    `passphrase`: what the private key is encrypted with (PKCS #8, PBES2); by default it is not.
    """
    private, public = folder / PRIVATE, folder / PUBLIC
    if taken := [path for path in (private, public) if path.exists()]:
        raise KeyFileError(f"{taken[0]} exists; archives that it signed need it, so choose another folder or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    encryption = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption)
    # Created with its final mode, so that the key is never readable by others, not even for a moment.
    with naming(private), os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    with naming(public):
        public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def sign(archive: Path, private: Path, passphrase: str | None = None) -> Path:
    """Sign an archive and return the signature's path. Raises KeyFileError, KeyLocked."""
    from model_signing.signing import Config

    _, password = _load_private(private, passphrase)
    signature = signature_of(archive)
    try:
        # The library asks for text and hands it on to cryptography, which takes nothing but bytes.
        Config().use_elliptic_key_signer(private_key=private, password=password).sign(archive, signature)  # type: ignore[arg-type]
    except (ValueError, TypeError) as err:
        raise KeyFileError(f"{private} cannot sign: {err}; make a pair with `visor keys`") from err
    return signature


def verify(archive: Path, public: Path, shown: Path | str | None = None) -> str:
    """Verify the signature beside an archive, and return the SHA-256 of the key that it holds for.

    `shown` names the archive in errors. Raises KeyFileError, and ArchiveRefused unless the signature was made by this key over
    exactly these bytes.
    """
    from model_signing.verifying import Config

    shown, signature = shown or archive, signature_of(archive)
    if not archive.is_file():
        raise ArchiveRefused(f"{shown} does not exist")
    key = fingerprint(public)
    if not signature.is_file():
        raise ArchiveRefused(f"{shown} has no signature ({Path(shown).name}.sig is missing); sign it with `visor archive` again")
    try:
        Config().use_elliptic_key_verifier(public_key=public).verify(archive, signature)
    except Exception as err:
        # The library raises ValueError for a mismatch, and cryptography's, protobuf's and JSON's own for damaged files;
        # each of them means the same here: this archive is not to be opened.
        raise ArchiveRefused(f"{shown} is refused: {_reason(archive, public, key, err)}") from err
    return key


def fingerprint(public: Path) -> str:
    """Compute the SHA-256 of a public key, over its PEM form: what a signature names its key by. Raises KeyFileError."""
    key = _load_public(public)
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _reason(archive: Path, public: Path, key: str, err: Exception) -> str:
    if str(err).startswith("Signature mismatch"):
        changed = damaged_members(archive)
        named = ", ".join(name if name.isprintable() else repr(name) for name in changed[:NAMED])
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        detail = f", among them {named[:LONGEST]}{more}" if changed else ""
        return f"its bytes are not the ones that were signed{detail}; take the archive from its source again"
    return (
        f"the signature does not hold for this key, {public} (SHA-256 {key}): {type(err).__name__}: {str(err).strip()}; "
        "check that the public key is the signer's"
    )


def damaged_members(archive: Path) -> list[str]:
    """Return the names of members whose bytes contradict their checksum; empty where the zip itself cannot tell.

    A member is read piece by piece and within its declared size: nobody has vouched for this file.
    """
    damaged = []
    try:
        with open_zip(archive) as mar:
            for member in mar.infolist():
                try:
                    with mar.open(member) as file:
                        while file.read(PIECE):
                            pass
                except (OSError, *DAMAGED):
                    damaged.append(member.filename)
    except (OSError, *DAMAGED):
        return ["the zip's own directory"]
    return damaged


def check_private(private: Path, passphrase: str | None = None) -> None:
    """Raise KeyFileError, or KeyLocked, unless a key can sign, so that this is known before hours of fitting."""
    _load_private(private, passphrase)


def write_public(private: Path, public: Path, passphrase: str | None = None) -> Path:
    """Write the public half of a private key, and return its path. Raises KeyFileError, KeyLocked."""
    key = _load_private(private, passphrase)[0].public_key()
    public.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return public


def _load_private(private: Path, passphrase: str | None) -> tuple[ec.EllipticCurvePrivateKey, bytes | None]:
    """Open a private key, and return it with what its file is encrypted with; a passphrase that it does not need is left out."""
    advice = "make a pair with `visor keys`"
    pem = _read_key(private, "private", advice)
    locked = LOCKED in pem
    if locked and passphrase is None:
        raise KeyLocked(f"{private} has a passphrase; give it by --passphrase-file or VISOR_KEY_PASSPHRASE")
    password = passphrase.encode() if locked and passphrase is not None else None
    try:
        key = serialization.load_pem_private_key(pem, password)
    except (ValueError, TypeError) as err:
        if locked:
            # Encrypted bytes tell nobody whether they or the passphrase are wrong.
            raise KeyLocked(f"{private} does not open with this passphrase; it has another one, or is damaged") from err
        raise KeyFileError(
            f"{private} is not a private key in PEM{_begin(pem, 'PRIVATE')}; name the one that signs, or {advice}"
        ) from err
    return _on_a_curve(key, private, advice), password


def _on_a_curve(key: Any, path: Path, advice: str) -> Any:
    """The key, if it is of a kind that signatures of this format are made by. Raises KeyUnsuitable."""
    curve = getattr(getattr(key, "curve", None), "name", None)
    if curve not in CURVES:
        kind = (
            f"the curve {curve}" if curve else type(key).__name__.strip("_").removesuffix("PrivateKey").removesuffix("PublicKey")
        )
        raise KeyUnsuitable(f"{path} is a key of {kind}, and archives are signed on the curves {', '.join(CURVES)}; {advice}")
    return key


def _load_public(public: Path) -> ec.EllipticCurvePublicKey:
    advice = "it is made by `visor keys` and goes wherever archives are served"
    pem = _read_key(public, "public", advice)
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError) as err:
        raise KeyFileError(f"{public} is not a public key in PEM{_begin(pem, 'PUBLIC')}; {advice}") from err
    found: ec.EllipticCurvePublicKey = _on_a_curve(key, public, advice)
    return found


def _begin(pem: bytes, kind: str) -> str:
    """Say how a key's file begins, or of one that does that it is damaged: cryptography's own words name no next step."""
    begin = f"-----BEGIN {kind} KEY-----"
    return ", as it is damaged" if begin.encode() in pem else f", a file that begins with {begin}"


def _read_key(path: Path, kind: str, advice: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise KeyFileError(f"the {kind} key {path} cannot be read ({err.strerror}); {advice}") from err
