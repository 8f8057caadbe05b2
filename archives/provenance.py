"""The provenance statement beside an archive: what made it, and of what, in a form that others' tools read; signed as it is.

The statement is an in-toto Statement v1 with SLSA's provenance v1 as its predicate:
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and https://slsa.dev/spec/v1.0/provenance.
Its `buildDefinition` follows from the archive's spec and lineage alone, so a statement that says otherwise is refused.
"""

import json
import tempfile
from datetime import UTC
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any
from urllib.parse import quote

from archives import signing
from archives.contents import Contents
from archives.errors import ArchiveRefused, ProvenanceRefused
from archives.files import naming, open_plain

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:visor:archive:v1"
"""How a `buildDefinition` is made of spec and lineage; another way of making it gets another name."""
BUILDER = "urn:visor:command:archive"
"""`visor archive`, on a machine of whoever holds the key: the key says who that is, and no build service vouches for it."""
MAX_BYTES = 1 << 20
"""Of a statement, and of its signature: one has 3 KB."""

Statement = dict[str, Any]


def path_of(archive: Path) -> Path:
    """Return where an archive's statement lies: beside it, NAME.mar.provenance.json, with a signature of its own."""
    return archive.with_name(archive.name + ".provenance.json")


def beside(archive: Path) -> list[Path]:
    """Return what a copy of an archive takes along: the signature, and the statement with its own where there is one."""
    statement = path_of(archive)
    return [signing.signature_of(archive), *(path for path in (statement, signing.signature_of(statement)) if path.is_file())]


def write(archive: Path, contents: Contents, private: Path, passphrase: str | None = None) -> Path:
    """Write an archive's statement and its signature, and return the statement's path. Raises KeyFileError, KeyLocked."""
    path = path_of(archive)
    path.write_text(json.dumps(make_statement(contents), indent=2) + "\n")
    signing.sign(path, private, passphrase)
    return path


def read_verified(archive: Path, contents: Contents, public: Path) -> Statement | None:
    """Read the statement beside an archive; None where there is none, as beside archives that are older than statements.

    `contents`: what was read of that archive. Raises ProvenanceRefused where the statement is not signed by this key, is about
    another archive or says of this one what its spec and lineage do not, and KeyFileError.
    """
    path = path_of(archive)
    signature = signing.signature_of(path)
    if not path.exists() and not signature.exists():
        return None
    statement = _read_signed(path, signature, public)
    if statement.get("subject") != [{"name": f"{contents.spec.name}.mar", "digest": {"sha256": contents.digest}}]:
        raise ProvenanceRefused(f"{path} is about another archive than {contents.digest}; take both from their source again")
    if (statement.get("_type"), statement.get("predicateType")) != (STATEMENT, PREDICATE):
        raise ProvenanceRefused(f"{path} is not an in-toto statement with SLSA's provenance")
    if (builder := _at(statement, "predicate", "runDetails", "builder", "id")) != BUILDER:
        raise ProvenanceRefused(f"{path} names {builder!r} as the builder, and archives are built by {BUILDER!r}")
    if _at(statement, "predicate", "buildDefinition") != _build_definition(contents):
        raise ProvenanceRefused(f"{path} contradicts the archive's spec or lineage; make both anew with `visor archive`")
    return statement


def make_statement(contents: Contents) -> Statement:
    """Make the statement about an archive of these contents."""
    lineage = contents.lineage
    return {
        "_type": STATEMENT,
        "subject": [{"name": f"{contents.spec.name}.mar", "digest": {"sha256": contents.digest}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": _build_definition(contents),
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"visor": _visor(), "python": python_version()}},
                "metadata": {
                    "invocationId": lineage.mlflow_run_id,
                    "finishedOn": lineage.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                },
                "byproducts": [{"name": "weights", "digest": {"sha256": lineage.weights_digest}}],
            },
        },
    }


def describe(statement: Statement) -> str:
    """Describe in words what made an archive, and of what; `statement` is one that `read_verified` returned."""
    materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = [f"{one['name']} {next(iter(one['digest'].values()))[:12]}" for one in materials if "digest" in one]
    return f"made by visor {_at(statement, 'predicate', 'runDetails', 'builder', 'version', 'visor')} of {', '.join(digests)}"


def _build_definition(contents: Contents) -> dict[str, Any]:
    spec, lineage = contents.spec, contents.lineage
    codes = {
        "code that fitted": (lineage.git_commit, lineage.git_dirty),
        "code that packed": (lineage.archive_git_commit, lineage.archive_git_dirty),
    }
    materials = [
        # Outside git there is no commit to name.
        *(
            {"name": name, "digest": {"gitCommit": commit}, "annotations": {"dirty": dirty}}
            for name, (commit, dirty) in codes.items()
            if dirty is not None
        ),
        {"name": "data set", "digest": {"sha256": lineage.dataset_digest}},
        {"name": "config", "digest": {"sha256": lineage.config_digest}},
        *({"name": "reviews", "digest": {"sha256": one.export_digest}} for one in lineage.reviews),
    ]
    if lineage.pretrained:
        materials.append({"name": "weights to start from", "digest": {"sha256": lineage.pretrained.weights_digest}})
    packages = [{"uri": package_url(package, pinned)} for package, pinned in sorted(lineage.versions.items())]
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "name": spec.name,
            "version": spec.version,
            "backend": spec.backend,
            "config": {"digest": {"sha256": lineage.config_digest}},
        },
        "resolvedDependencies": [*materials, *packages],
    }


def package_url(package: str, pinned: str) -> str:
    """Name a distribution as software bills of materials do: pkg:pypi/NAME@VERSION. Python itself is none of PyPI's."""
    kind = "generic" if package == "python" else "pypi"
    return f"pkg:{kind}/{package.lower().replace('_', '-')}@{quote(pinned, safe='')}"


def _read_signed(path: Path, signature: Path, public: Path) -> Statement:
    """Read a statement after verifying it. What is verified is a private copy, and what is parsed are the copy's bytes."""
    texts = []
    for file in (path, signature):
        try:
            with open_plain(file) as opened:
                texts.append(opened.read(MAX_BYTES + 1))
        except OSError as err:
            raise ProvenanceRefused(f"{file} cannot be read ({err.strerror}); take the archive from its source again") from err
        if len(texts[-1]) > MAX_BYTES:
            raise ProvenanceRefused(f"{file} has more than {MAX_BYTES} bytes")
    with tempfile.TemporaryDirectory(prefix="visor-") as folder, naming(Path(folder)):
        copy = Path(folder) / path.name
        copy.write_bytes(texts[0])
        signing.signature_of(copy).write_bytes(texts[1])
        try:
            signing.verify(copy, public)
        except ArchiveRefused as err:
            raise ProvenanceRefused(f"{path}: its signature does not hold for {public}: other bytes, or another key") from err
    try:
        statement = json.loads(texts[0])
    except ValueError as err:
        raise ProvenanceRefused(f"{path} is not JSON: {err}") from err
    if not isinstance(statement, dict):
        raise ProvenanceRefused(f"{path} is not an in-toto statement")
    return statement


def _at(value: Any, *keys: str) -> Any:
    """What lies at the end of nested objects, None where one of them is missing or none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _visor() -> str:
    try:
        return version("visor")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
