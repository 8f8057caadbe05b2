"""The software bill of materials of an archive, in CycloneDX 1.6: the files in it, the packages it needs, its weights' origin.

Images have one of their own, made by docker/sbom. https://cyclonedx.org/docs/1.6/json/
"""

import hashlib
import uuid
import zipfile
from datetime import UTC
from typing import Any

from archives.contents import DAMAGED, Contents, open_zip
from archives.provenance import package_url
from handlers.errors import ArchiveBroken

SERVING = ("cykooz-resizer", "numpy", "pi-heif", "pillow", "pydantic", "safetensors")
"""What the `handlers` package in an archive imports with every backend; tests/unit/archives/test_sbom.py compares them."""
LATER = ("pi-heif",)
"""Those of SERVING that archives before 0.3 do without: where nothing recorded their version, they are not imported."""
BACKENDS = {"torch": ("timm", "torch", "torchvision"), "openvino": ("openvino",), "openvino-int8": ("openvino",)}
"""What each backend imports beside them."""


def of_archive(contents: Contents) -> dict[str, Any]:
    """Make the bill of materials of a verified archive, the same one each time. Raises ArchiveBroken.

    `contents.path` is opened once more, for the digests of its members. A package's version is the one that the archive was
    fitted, or its export compared, with; where nothing recorded it, the package has none.
    """
    spec, lineage = contents.spec, contents.lineage
    versions = dict(lineage.versions)
    for parity in lineage.parity.values():
        versions["openvino"] = parity.openvino
    needed = [name for name in (*SERVING, *BACKENDS[spec.backend]) if name in versions or name not in LATER]
    files = [_component("file", name, hashes=_sha256(digest)) for name, digest in _members(contents)]
    packages = [
        _package(name, versions.get(name), "required" if name in needed else "excluded") for name in sorted({*versions, *needed})
    ]
    data = [_component("data", "data set", hashes=_sha256(lineage.dataset_digest))]
    if start := lineage.pretrained:
        method = [{"name": "visor:method", "value": start.method or "unknown"}]
        data.append(
            _component("machine-learning-model", "weights to start from", hashes=_sha256(start.weights_digest), properties=method)
        )
    archive = _component(
        "machine-learning-model",
        spec.name,
        spec.version,
        hashes=_sha256(contents.digest),
        modelCard={"modelParameters": {"task": "image classification", "modelArchitecture": spec.network}},
    )
    components = [*files, *packages, *data]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'urn:sha256:{contents.digest}')}",
        "version": 1,
        "metadata": {"timestamp": lineage.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "component": archive},
        "components": components,
        "dependencies": [{"ref": archive["bom-ref"], "dependsOn": [one["bom-ref"] for one in components]}],
    }


def _package(name: str, pinned: str | None, scope: str) -> dict[str, Any]:
    kind = "platform" if name == "python" else "library"
    if pinned in (None, "unknown"):
        return _component(kind, name, scope=scope)
    return _component(kind, name, pinned, scope=scope, purl=package_url(name, pinned))


def _component(kind: str, name: str, pinned: str | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"type": kind, "bom-ref": f"{kind}:{name}", "name": name}
    return {**found, **({"version": pinned} if pinned else {}), **more}


def _sha256(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _members(contents: Contents) -> list[tuple[str, str]]:
    try:
        with open_zip(contents.path) as mar:
            return [
                (one.filename, _digest(mar, one))
                for one in sorted(mar.infolist(), key=lambda one: one.filename)
                if not one.is_dir()
            ]
    except (OSError, *DAMAGED) as err:
        raise ArchiveBroken(f"{contents.path} cannot be read: {err}") from err


def _digest(mar: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    with mar.open(member) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed wants a file of the disk
