"""Show what an archive is, where it came from and whether its signature and its provenance hold."""

import json
from pathlib import Path
from typing import Any

import yaml

from archives import provenance, sbom, signing
from archives.contents import Contents, read
from archives.errors import ArchiveRefused, KeyFileError, ProvenanceRefused
from handlers.errors import ArchiveBroken, VisorError


def show(archive: Path, public_key: Path, as_json: bool) -> int:
    """Print spec, lineage, and what signature and provenance are worth; return 0 when what lies there holds, otherwise 1.

    An archive without a provenance statement is fine: those of older versions have none.

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
    origin = _provenance(archive, contents, public_key)
    spec, lineage = contents.spec.model_dump(mode="json"), contents.lineage.model_dump(mode="json")
    if as_json:
        facts = {"path": str(archive), "archive_digest": contents.digest, "bytes": contents.size}
        signature = {"holds": refusal is None, "public_key": str(public_key), "reason": str(refusal) if refusal else None}
        print(json.dumps({**facts, "signature": signature, "provenance": origin, "spec": spec, "lineage": lineage}, indent=2))
    else:
        print(f"archive    {archive}\ndigest     {contents.digest}\nsize       {contents.size / 1e6:.1f} MB")
        print(f"backend    {_backend(contents)}")
        print(f"signature  {'holds for ' + str(public_key) if refusal is None else f'DOES NOT HOLD: {refusal}'}")
        print(f"provenance {_origin(origin)}")
        for title, table in (("spec", spec), ("lineage", lineage)):
            print("\n" + yaml.safe_dump({title: table}, sort_keys=False, default_flow_style=None, width=120), end="")
    return 0 if refusal is None and (origin is None or origin["holds"]) else 1


def show_sbom(archive: Path, public_key: Path) -> int:
    """Print an archive's bill of materials as JSON; return 0. Raises ArchiveRefused, ArchiveBroken, KeyFileError."""
    print(json.dumps(sbom.of_archive(signing.read_verified(archive, public_key)), indent=2))
    return 0


def _provenance(archive: Path, contents: Contents, public_key: Path) -> dict[str, Any] | None:
    """What JSON says of the statement beside an archive; None where there is none."""
    statement, reason = None, None
    try:
        statement = provenance.read_verified(archive, contents, public_key)
        if statement is None:
            return None
    except (ProvenanceRefused, KeyFileError) as err:
        reason = str(err)
    path = str(provenance.path_of(archive))
    return {"holds": statement is not None, "path": path, "reason": reason, "statement": statement}


def _origin(found: dict[str, Any] | None) -> str:
    if found is None:
        return "none"
    return f"holds: {provenance.describe(found['statement'])}" if found["holds"] else f"DOES NOT HOLD: {found['reason']}"


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
