"""Show what an archive is, where it came from, whether it would be served and whether its provenance holds."""

import json
from pathlib import Path
from typing import Any

import yaml

from archives import provenance, sbom
from archives.contents import Contents
from archives.errors import KeyFileError, KeyLocked, KeyUnsuitable, ProvenanceRefused
from archives.opening import examine, opened
from handlers.spec import Spec
from visor.figures import figures

BAND = ("review_below", "review_above", "review_from", "review_to")
"""Keys of a decision that are about positive labels."""
SHOWN = 16
"""Longest table of numbers that is shown to be read."""

KEYS = tuple(f"{kind.code}: " for kind in (KeyFileError, KeyLocked, KeyUnsuitable))
"""How the errors of a key begin."""


def show(archive: Path, public_key: Path, digest: str | None = None, *, as_json: bool) -> int:
    """Print spec, lineage and the signature's state; return 0 when the archive would be served and its provenance
    holds, otherwise 1. An archive without a provenance statement is fine: those of older versions have none.

    Raises ArchiveRefused or ArchiveBroken where nothing can be read.
    """
    found = examine(archive, public_key, digest)
    contents, refusal, surprise = found.contents, found.refusal, found.surprise
    origin = _provenance(archive, contents, public_key)
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
        verdicts = {"signature": signature, "place": place, "provenance": origin}
        print(json.dumps({**facts, **verdicts, "lacks": _lacks(contents.spec), "spec": spec, "lineage": lineage}, indent=2))
    else:
        print(f"archive    {archive}\ndigest     {contents.digest}\nsize       {contents.size / 1e6:.1f} MB")
        print(f"backend    {_backend(contents)}")
        print(f"signature  {_verdict(str(refusal)) if refusal else f'holds for {public_key}, SHA-256 {found.key}'}")
        if surprise:
            print(f"place      DOES NOT MATCH: {surprise}")
        print(f"provenance {_origin(origin)}")
        if missing := _lacks(contents.spec):
            print(f"lacks      {'; '.join(missing)}\n           (made by visor before 0.3; evaluate and archive its run again)")
        lineage["metrics"] = figures(lineage["metrics"]) | {"more": "visor inspect --json"}
        if not contents.spec.decision.positive:  # nothing is flagged, so the threshold alone sends images to review
            spec["decision"] = {key: value for key, value in spec["decision"].items() if key not in BAND}
        for title, table in (("spec", spec), ("lineage", lineage)):
            shown = {title: _shortened(table)}
            text = yaml.safe_dump(shown, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
            print(f"\n{text}", end="")
    return 1 if refusal or surprise or (origin and not origin["holds"]) else 0


def _shortened(tree: Any) -> Any:
    """A tree without its long tables of numbers, such as a curve's points and drift's axes, whose lengths stand there instead."""
    if isinstance(tree, dict):
        return {key: _shortened(value) for key, value in tree.items()}
    if not isinstance(tree, list):
        return tree
    if len(tree) > SHOWN and not all(isinstance(one, str) for one in tree):
        return f"{len(tree)} rows; visor inspect --json"
    return [_shortened(one) for one in tree]


def show_sbom(archive: Path, public_key: Path, digest: str | None = None) -> int:
    """Print an archive's bill of materials as JSON; return 0. Raises what `archives.opening.opened` raises."""
    with opened(archive, public_key, digest) as found:
        print(json.dumps(sbom.of_archive(found.read()), indent=2))
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
    return f"holds: {provenance.describe(found['statement'])}" if found["holds"] else _verdict(found["reason"])


def _verdict(reason: str) -> str:
    """Tell what is refused from what nobody could check, for want of a key."""
    return f"{'COULD NOT BE CHECKED' if reason.startswith(KEYS) else 'DOES NOT HOLD'}: {reason}"


def _lacks(spec: Spec) -> list[str]:
    """Say what an archive before 0.3 does not have, whose band is stated as two offsets from the threshold; nothing of others."""
    rule = spec.decision
    if not rule.by_offsets:
        return []
    return [
        *(["the review band's ends: a request's own threshold carries the band along"] if rule.positive else []),
        "the curve of other thresholds",
        "the peaks of its heat maps, where it is served",
    ]


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
