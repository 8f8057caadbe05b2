"""What a .mar says of itself, by reading alone: nothing in it is run or unpacked."""

import hashlib
import zipfile
from pathlib import Path

from handlers.errors import ArchiveBroken
from handlers.spec import Spec

SPEC = "spec.json"


def read_archive(path: Path) -> tuple[Spec, str]:
    """The spec of a .mar, and the SHA-256 of its bytes, hexadecimal. Raises ArchiveBroken."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            with zipfile.ZipFile(file) as archive:
                return Spec.parse(archive.read(SPEC), f"{path}:{SPEC}"), digest
    except OSError as err:
        raise ArchiveBroken(f"{path} cannot be read: {err.strerror}; name a .mar made by `visor archive`") from err
    except (zipfile.BadZipFile, KeyError) as err:
        raise ArchiveBroken(f"{path} is not an archive of visor ({err}); name a .mar made by `visor archive`") from err
