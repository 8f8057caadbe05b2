"""Keys, signatures, and every changed byte refused by name."""

import hashlib
import json
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from archives.errors import ArchiveRefused, KeyFileError, KeyLocked, KeyUnsuitable
from archives.signing import check_private, damaged_members, fingerprint, make_keys, sign, signature_of, verify, write_public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def archive(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    path = tmp_path / "roofs.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as mar:
        mar.writestr("spec.json", "{}")
        mar.writestr("model.safetensors", bytes(range(256)) * 20)
    sign(path, keys[0])
    return path


def test_a_signature_holds_for_its_own_key(archive: Path, keys: tuple[Path, Path]) -> None:
    assert verify(archive, keys[1]) == fingerprint(keys[1])
    assert signature_of(archive).name == "roofs.mar.sig"


def test_a_keys_fingerprint_is_the_hint_of_its_signatures(archive: Path, keys: tuple[Path, Path]) -> None:
    hint = json.loads(signature_of(archive).read_text())["verificationMaterial"]["publicKey"]["hint"]
    assert fingerprint(keys[1]) == hint == hashlib.sha256(keys[1].read_bytes()).hexdigest()
    keys[1].write_text(keys[1].read_text() + "\n")  # the key's, and not the file's
    assert fingerprint(keys[1]) == hint


def test_any_changed_byte_is_refused_by_name(archive: Path, keys: tuple[Path, Path]) -> None:
    whole = archive.read_bytes()
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        archive.write_bytes(changed)
        with pytest.raises(ArchiveRefused, match=r"roofs\.mar is refused: its bytes are not the ones that were signed"):
            verify(archive, keys[1])


def test_the_member_whose_bytes_changed_is_named(archive: Path, keys: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archive) as mar:
        member = mar.getinfo("model.safetensors")
    data = bytearray(archive.read_bytes())
    data[member.header_offset + 30 + len(member.filename) + 5] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ArchiveRefused, match=r"among them model\.safetensors"):
        verify(archive, keys[1])


def test_a_file_that_is_no_zip_has_a_damaged_directory(tmp_path: Path) -> None:
    path = tmp_path / "no.mar"
    path.write_bytes(b"no zip")
    assert damaged_members(path) == ["the zip's own directory"]


def test_a_refusal_unpacks_nothing_beyond_its_bounds(archive: Path, keys: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as mar:
        mar.writestr("bomb", bytes(1 << 20))
    with pytest.raises(ArchiveRefused, match="among them the zip's own directory"):
        verify(archive, keys[1])


def test_many_damaged_members_are_counted_and_their_names_escaped(archive: Path, keys: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archive, "w") as mar:
        for number in range(8):
            mar.writestr(f"\x1b[{number}", b"data")
    archive.write_bytes(archive.read_bytes().replace(b"data", b"date"))
    with pytest.raises(ArchiveRefused) as refused:
        verify(archive, keys[1])
    assert r"among them '\x1b[0', '\x1b[1', '\x1b[2', '\x1b[3', '\x1b[4' and 3 more; take" in str(refused.value)


def test_bytes_added_at_the_end_are_refused(archive: Path, keys: tuple[Path, Path]) -> None:
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(ArchiveRefused):
        verify(archive, keys[1])


def test_another_key_is_refused(archive: Path, tmp_path: Path) -> None:
    _, other = make_keys(tmp_path / "other")
    with pytest.raises(ArchiveRefused, match="does not hold for this key"):
        verify(archive, other)


def test_a_signature_of_another_archive_is_refused(archive: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.mar"
    other.write_bytes(b"other")
    sign(other, keys[0])
    shutil.copy(signature_of(other), signature_of(archive))
    with pytest.raises(ArchiveRefused, match="not the ones that were signed"):
        verify(archive, keys[1])


@pytest.mark.parametrize("content", [b"", b"{}", b"no json", b'{"mediaType": 1}'])
def test_a_damaged_signature_is_refused(archive: Path, keys: tuple[Path, Path], content: bytes) -> None:
    signature_of(archive).write_bytes(content)
    with pytest.raises(ArchiveRefused, match=r"roofs\.mar is refused"):
        verify(archive, keys[1])


def test_a_missing_signature_or_archive_is_named(archive: Path, keys: tuple[Path, Path]) -> None:
    signature_of(archive).unlink()
    with pytest.raises(ArchiveRefused, match=r"roofs\.mar\.sig is missing"):
        verify(archive, keys[1])
    with pytest.raises(ArchiveRefused, match=r"nowhere\.mar does not exist"):
        verify(archive.with_name("nowhere.mar"), keys[1])


def test_the_public_half_of_a_private_key_verifies(archive: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    public = write_public(keys[0], tmp_path / "half.pub")
    assert public.read_bytes() == keys[1].read_bytes()
    verify(archive, public)


def test_keys_are_private_and_never_replaced(keys: tuple[Path, Path]) -> None:
    private, public = keys
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes()
    with pytest.raises(KeyFileError, match=r"visor\.key exists"):
        make_keys(private.parent)
    private.rename(private.with_name("moved"))
    with pytest.raises(KeyFileError, match=r"visor\.pub exists"):
        make_keys(private.parent)
    assert private.with_name("moved").read_bytes() == before
    assert public.is_file()


def test_a_key_that_is_none_is_named(archive: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"nokey.*cannot be read"):
        sign(archive, tmp_path / "nokey")
    with pytest.raises(KeyFileError, match="is not a private key"):
        sign(archive, keys[1])
    with pytest.raises(KeyFileError, match="is not a public key"):
        verify(archive, keys[0])


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (rsa.generate_private_key(65537, 2048), "RSA"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (ec.generate_private_key(ec.SECP256K1()), "the curve secp256k1"),
    ],
    ids=["RSA", "Ed25519", "secp256k1"],
)
def test_a_key_of_another_kind_is_told_before_anything_is_signed(archive: Path, tmp_path: Path, key: Any, kind: str) -> None:
    private, public = tmp_path / "other.key", tmp_path / "other.pub"
    pem = serialization.Encoding.PEM
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    for ask in (lambda: check_private(private), lambda: sign(archive, private)):
        with pytest.raises(KeyUnsuitable, match=rf"^key.kind: {private} is a key of {kind}, .*secp384r1.*make a pair"):
            ask()
    with pytest.raises(KeyUnsuitable, match=rf"^key.kind: {public} is a key of {kind}, "):
        verify(archive, public)


@pytest.mark.parametrize(("kind", "read"), [("private", check_private), ("public", fingerprint)])
def test_what_is_no_key_says_how_one_begins_and_how_one_is_made(tmp_path: Path, kind: str, read: Any) -> None:
    file, begin = tmp_path / "notes.txt", f"-----BEGIN {kind.upper()} KEY-----"
    for content, why in (("no key", f", a file that begins with {begin};"), (f"{begin}\nAAAA\n", ", as it is damaged;")):
        file.write_text(content)
        with pytest.raises(KeyFileError, match=f"{file} is not a {kind} key in PEM{why} .*`visor keys`") as raised:
            read(file)
        assert "cryptography" not in str(raised.value)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_each_curve_that_is_named_signs_and_verifies(archive: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    pem = serialization.Encoding.PEM
    key = ec.generate_private_key(curve).private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "own.key").write_bytes(key)
    sign(archive, tmp_path / "own.key")
    assert verify(archive, write_public(tmp_path / "own.key", tmp_path / "own.pub"))


def test_a_key_with_a_passphrase_signs_with_it_and_only_with_it(archive: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "locked", "Grüße, ihr 4")
    assert private.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    sign(archive, private, "Grüße, ihr 4")
    assert verify(archive, public) == fingerprint(public)
    assert write_public(private, tmp_path / "half.pub", "Grüße, ihr 4").read_bytes() == public.read_bytes()
    signed = signature_of(archive).read_bytes()
    for wrong, words in (("Grüße, ihr 5", "does not open with this passphrase"), (None, "has a passphrase; give it by")):
        with pytest.raises(KeyLocked, match=rf"key\.passphrase: .*locked/visor\.key {words}"):
            sign(archive, private, wrong)
        with pytest.raises(KeyLocked):
            write_public(private, tmp_path / "none.pub", wrong)
    assert signature_of(archive).read_bytes() == signed
    assert not (tmp_path / "none.pub").exists()


def test_a_passphrase_that_a_key_does_not_need_is_left_out(archive: Path, keys: tuple[Path, Path]) -> None:
    sign(archive, keys[0], "of another key")
    verify(archive, keys[1])


def test_openssl_s_own_form_of_a_passphrase_is_known(archive: Path, tmp_path: Path) -> None:
    """And OpenSSL opens ours: `openssl pkey` is the independent reader."""
    private, public = make_keys(tmp_path / "locked", "secret")
    ssl = ["openssl", "ec", "-in", str(private), "-passin", "pass:secret"]
    half = subprocess.run([*ssl, "-pubout"], capture_output=True, text=True, check=True).stdout
    assert half == public.read_text()
    older = tmp_path / "older.key"
    subprocess.run([*ssl, "-aes256", "-passout", "pass:other", "-out", str(older)], capture_output=True, check=True)
    assert "Proc-Type: 4,ENCRYPTED" in older.read_text()
    sign(archive, older, "other")
    verify(archive, public)
    with pytest.raises(KeyLocked):
        sign(archive, older, "secret")
