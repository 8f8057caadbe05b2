"""Archives for tests: as small as may be, signed, and hostile ones that are made byte by byte."""

import struct
import zipfile
from pathlib import Path

from archives import signing, store
from handlers.spec import Spec
from tests.unit.specs import LINEAGE, make_spec


def pack(path: Path, name: str = "tiny", version: str = "1", spec: Spec | None = None, **members: bytes) -> Path:
    """Write an archive of this name and version, or of `spec`, with `members` beside spec and lineage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as mar:
        mar.writestr("spec.json", (spec or make_spec(name=name, version=version)).model_dump_json())
        mar.writestr("lineage.json", LINEAGE.model_dump_json())
        for member, data in members.items():
            mar.writestr(member, data)
    return path


def put(root: Path, private: Path, name: str = "tiny", version: str = "1", spec: Spec | None = None) -> Path:
    """Put a signed archive into a store, where it belongs. `spec`: of that name and version."""
    path = pack(store.path_of(root, name, version), name, version, spec)
    signing.sign(path, private)
    return path


def move(archive: Path, target: Path) -> Path:
    """Move an archive with its signature, as whoever can write to storage may."""
    target.parent.mkdir(parents=True, exist_ok=True)
    signing.signature_of(archive).rename(signing.signature_of(target))
    return archive.rename(target)


def directory(entries: int, name: bytes = b"x") -> bytes:
    """A zip that is a directory alone: so many entries of 46 bytes and a name, all of them for one empty member."""
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    size = len(entry) * entries
    return (
        local
        + entry * entries
        + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, entries & 0xFFFF, entries & 0xFFFF, size, len(local), 0)
    )
