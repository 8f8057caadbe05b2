"""ZIPs, good and hostile, built here byte by byte where `zipfile` would not write them."""

import io
import struct
import zipfile
from collections.abc import Callable

import pytest

from console.api.zips import DIRECTORY_BYTES, Zip, ZipLimits
from console.errors import UploadTooLarge, ZipRefused

LIMITS = ZipLimits(entries=5, image_bytes=1000, all_bytes=3000)


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in entries:
            made.writestr(name, content)
    return file.getvalue()


def opened(data: bytes, limits: ZipLimits = LIMITS) -> Zip:
    return Zip(io.BytesIO(data), limits)


def refusal(data: bytes, name: str) -> str:
    made = opened(data)
    [entry] = [one for one in made.entries if one.name == name]
    with pytest.raises(ZipRefused) as caught:
        made.read(entry)
    return str(caught.value)


def test_pictures_come_in_their_order_with_their_folders() -> None:
    made = opened(zipped(("b/2.jpg", b"two"), ("a.jpg", b"one")))
    assert [(entry.name, made.read(entry)) for entry in made.entries] == [("b/2.jpg", b"two"), ("a.jpg", b"one")]


def test_what_is_no_picture_of_the_clients_is_left_out() -> None:
    names = ("__MACOSX/._a.jpg", "__MACOSX/b/._c.jpg", "._d.jpg", ".DS_Store", "x/Thumbs.db", "desktop.ini", "folder/")
    made = opened(zipped(*((name, b"x" if not name.endswith("/") else b"") for name in names), ("a.jpg", b"one")))
    assert [entry.name for entry in made.entries] == ["a.jpg"]


@pytest.mark.parametrize("name", ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "a/../b.jpg", "C:/a.jpg", "a\\..\\b.jpg"])
def test_a_path_that_leads_out_is_refused_and_the_others_are_read(name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = name
    made = opened(zipped((info, b"x"), ("a.jpg", b"one")))
    bad, good = made.entries
    with pytest.raises(ZipRefused, match="leads out"):
        made.read(bad)
    assert made.read(good) == b"one"


def test_an_encrypted_entry_is_refused() -> None:
    data = zipped(("a.jpg", b"one"))
    # Bit 0 of the flags, in the local header (APPNOTE 4.3.7) and in the directory (4.3.12).
    where = data.index(b"PK\x01\x02")
    for place in (6, where + 8):
        data = data[:place] + bytes([data[place] | 1]) + data[place + 1 :]
    assert "encrypted" in refusal(data, "a.jpg")


def test_a_zip_in_a_zip_is_not_opened() -> None:
    assert "ZIP itself" in refusal(zipped(("a.jpg", zipped(("b.jpg", b"one")))), "a.jpg")


def test_a_symbolic_link_is_refused() -> None:
    info = zipfile.ZipInfo("a.jpg")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    assert "symbolic link" in refusal(zipped((info, b"/etc/passwd")), "a.jpg")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_than_deflate_are_refused(method: int) -> None:
    assert "deflate" in refusal(zipped(("a.jpg", b"one"), method=method), "a.jpg")


def test_of_two_entries_of_one_name_the_first_is_read() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zipped(("a.jpg", b"one"), ("a.jpg", b"two"))
    made = opened(data)
    first, second = made.entries
    assert made.read(first) == b"one"
    with pytest.raises(ZipRefused, match="another entry of this name"):
        made.read(second)


def test_an_entry_above_a_pictures_limit_has_its_own_error() -> None:
    assert "largest picture" in refusal(zipped(("a.jpg", bytes(1001)), ("b.jpg", b"x")), "a.jpg")


def test_a_bomb_that_declares_its_size_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(UploadTooLarge, match="unpacks to more"):
        opened(zipped(*((f"{n}.jpg", bytes(1000)) for n in range(4))))


def test_a_bomb_that_lies_about_its_size_unpacks_to_no_more_than_it_declares() -> None:
    data = bytearray(zipped(("a.jpg", bytes(5_000_000))))
    where = data.index(b"PK\x01\x02")
    struct.pack_into("<L", data, where + 24, 100)  # the uncompressed size in the directory
    assert "damaged" in refusal(bytes(data), "a.jpg")


def test_entries_that_overlap_are_refused() -> None:
    """David Fifield: A better zip bomb, WOOT 2019: many entries of the directory share one kernel."""
    kernel = zipped(("a.jpg", b"".join(n.to_bytes(2, "big") for n in range(450))), method=zipfile.ZIP_STORED)
    where, end = kernel.index(b"PK\x01\x02"), kernel.index(b"PK\x05\x06")
    entry = kernel[where:end]
    entries = b"".join(entry.replace(b"a.jpg", b"%d.jpg" % n) for n in range(5))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 5, 5, len(entries), where, 0)
    with pytest.raises(ZipRefused, match="overlap"):
        opened(kernel[:where] + entries + tail, ZipLimits(5, 1000, 10_000))


def test_more_entries_than_allowed_are_refused() -> None:
    with pytest.raises(UploadTooLarge, match="6 files, more than 5"):
        opened(zipped(*((f"{n}.jpg", b"x") for n in range(6))))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-10],
        lambda _: b"PK\x03\x04",
        lambda data: data[: data.index(b"PK\x01\x02")] + data[data.index(b"PK\x05\x06") :],
        lambda data: data.replace(b"PK\x01\x02", b"PKxx"),
        lambda _: b"",
    ],
)
def test_what_is_no_whole_zip_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ZipRefused):
        opened(spoil(zipped(("a.jpg", b"one"))))


def test_a_directory_that_would_fill_memory_is_not_read() -> None:
    data = zipped(("a.jpg", b"one"))
    end = bytearray(data[data.index(b"PK\x05\x06") :])
    struct.pack_into("<L", end, 12, DIRECTORY_BYTES + 1)
    with pytest.raises(UploadTooLarge, match="directory"):
        opened(data[: data.index(b"PK\x05\x06")] + bytes(end))


def test_zip64_is_refused() -> None:
    data = zipped(("a.jpg", b"one"))
    end = bytearray(data[data.index(b"PK\x05\x06") :])
    struct.pack_into("<L", end, 16, 0xFFFFFFFF)
    with pytest.raises(ZipRefused, match="ZIP64"):
        opened(data[: data.index(b"PK\x05\x06")] + bytes(end))


def test_an_empty_zip_has_no_entries() -> None:
    assert opened(zipped()).entries == ()


@pytest.mark.parametrize("name", [b"", b".", b"\0a.jpg"])
def test_an_entry_without_a_name_is_refused_and_the_others_are_read(name: bytes) -> None:
    data = zipped(("x" * len(name) or "y", b"x"), ("a.jpg", b"one"))
    data = data.replace(b"x" * len(name), name) if name else unnamed(data)
    bad, good = opened(data).entries
    with pytest.raises(ZipRefused, match="or is none"):
        opened(data).read(bad)
    assert opened(data).read(good) == b"one"


def unnamed(data: bytes) -> bytes:
    """The ZIP whose first entry, y, has lost its name in the directory, and grown it as an extra field of no meaning."""
    place = data.index(b"PK\x01\x02")
    head = bytearray(data[place : place + 46])
    head[28:30] = struct.pack("<H", 0)
    moved = data[:place] + head + data[place + 47 :]
    end = moved.rindex(b"PK\x05\x06")
    length = struct.unpack_from("<L", moved, end + 12)[0]
    return moved[: end + 12] + struct.pack("<L", length - 1) + moved[end + 16 :]


def test_a_record_of_zip64_is_not_believed_behind_a_small_one() -> None:
    data = zipped(("a.jpg", b"one"))
    end = data.rindex(b"PK\x05\x06")
    _, _, _, _, entries, length, start, _ = struct.unpack_from("<4s4H2LH", data, end)
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, length, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    for comment in (b"", b"c" * 0xFFFF):
        small = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 9, 0, len(comment)) + comment
        with pytest.raises(ZipRefused, match="ZIP64"):
            opened(data[:end] + record + locator + small)


def test_the_directory_may_have_as_many_bytes_as_are_left() -> None:
    data = zipped(("a.jpg", b"one"))
    length = Zip(io.BytesIO(data), LIMITS).directory_bytes
    assert length == struct.unpack_from("<L", data, data.rindex(b"PK\x05\x06") + 12)[0]
    Zip(io.BytesIO(data), LIMITS, length)
    with pytest.raises(UploadTooLarge, match="directory"):
        Zip(io.BytesIO(data), LIMITS, length - 1)
