"""Show what an archive is, where it came from and whether its signature holds."""

import json
from pathlib import Path

import yaml

from archives import signing
from archives.contents import Contents, read
from archives.errors import ArchiveRefused, KeyFileError
from handlers.errors import ArchiveBroken, VisorError


def show(archive: Path, public_key: Path, as_json: bool) -> int:
    """Print spec, lineage and the signature's state; return 0 when the signature holds, otherwise 1.

    Raises ArchiveRefused or ArchiveBroken where nothing can be read.
    """
    refusal: VisorError | None
    try:
        signing.verify(archive, public_key)
        refusal = None
    except (ArchiveRefused, KeyFileError) as err:
        refusal = err
    try:
        # An archive that is refused is still shown where it can be read: what it claims to be helps to find the cause.
        contents = read(archive)
    except ArchiveBroken as err:
        if refusal is None:
            raise
        raise refusal from err
    spec, lineage = contents.spec.model_dump(mode="json"), contents.lineage.model_dump(mode="json")
    if as_json:
        facts = {"path": str(archive), "archive_digest": contents.digest, "bytes": contents.size}
        signature = {"holds": refusal is None, "public_key": str(public_key), "reason": str(refusal) if refusal else None}
        print(json.dumps({**facts, "signature": signature, "spec": spec, "lineage": lineage}, indent=2))
    else:
        print(f"archive    {archive}\ndigest     {contents.digest}\nsize       {contents.size / 1e6:.1f} MB")
        print(f"backend    {_backend(contents)}")
        print(f"signature  {'holds for ' + str(public_key) if refusal is None else f'DOES NOT HOLD: {refusal}'}")
        for title, table in (("spec", spec), ("lineage", lineage)):
            print("\n" + yaml.safe_dump({title: table}, sort_keys=False, default_flow_style=None, width=120), end="")
    return 0 if refusal is None else 1


def _backend(contents: Contents) -> str:
    """Describe the backend, and how it and the exports that were left out compared with torch."""
    backend = contents.spec.backend
    lines: list[str] = [backend]
    for name, parity in contents.lineage.parity.items():
        if name == backend:
            lines[0] = f"{name} ({parity.describe()})"
        elif not parity.holds:
            lines.append(f"{name} does not answer as torch does: {parity.describe()}")
    return ("\n" + " " * 11).join(lines)
