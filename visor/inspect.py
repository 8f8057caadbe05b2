"""Show what an archive is, where it came from and whether it would be served."""

import json
from pathlib import Path

import yaml

from archives.contents import Contents
from archives.opening import examine


def show(archive: Path, public_key: Path, digest: str | None = None, *, as_json: bool) -> int:
    """Print spec, lineage and the signature's state; return 0 when the archive would be served, otherwise 1.

    Raises ArchiveRefused or ArchiveBroken where nothing can be read.
    """
    found = examine(archive, public_key, digest)
    contents, refusal, surprise = found.contents, found.refusal, found.surprise
    spec, lineage = contents.spec.model_dump(mode="json"), contents.lineage.model_dump(mode="json")
    if as_json:
        facts = {"path": str(archive), "archive_digest": contents.digest, "bytes": contents.size}
        signature = {
            "holds": refusal is None,
            "public_key": str(public_key),
            "reason": str(refusal) if refusal else None,
            "public_key_sha256": found.key,
        }
        place = {"holds": surprise is None, "reason": str(surprise) if surprise else None}
        print(json.dumps({**facts, "signature": signature, "place": place, "spec": spec, "lineage": lineage}, indent=2))
    else:
        print(f"archive    {archive}\ndigest     {contents.digest}\nsize       {contents.size / 1e6:.1f} MB")
        print(f"backend    {_backend(contents)}")
        print(f"signature  {f'DOES NOT HOLD: {refusal}' if refusal else f'holds for {public_key}, SHA-256 {found.key}'}")
        if surprise:
            print(f"place      DOES NOT MATCH: {surprise}")
        for title, table in (("spec", spec), ("lineage", lineage)):
            print("\n" + yaml.safe_dump({title: table}, sort_keys=False, default_flow_style=None, width=120), end="")
    return 1 if refusal or surprise else 0


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
