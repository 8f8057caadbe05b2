"""An archive's bill of materials is what CycloneDX's schema allows, and lists each file, package and origin of the weights."""

import ast
import hashlib
import json
import sys
import zipfile
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import handlers
from archives.contents import Contents, read
from archives.lineage import Parity, Pretrained
from archives.sbom import BACKENDS, LATER, SERVING, of_archive
from handlers.errors import ArchiveBroken
from tests.unit.specs import LINEAGE, TINY

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/cyclonedx-1.6.json").read_text())
PARITY = Parity(
    holds=True,
    images=4,
    decision_agreement=1,
    max_logit_difference=0,
    max_probability_difference=0,
    max_heatmap_difference=0,
    accuracy={"torch": 1, "openvino": 1},
    fnr=None,
    openvino="2026.1.0",
)
MEMBERS = {"model.safetensors": b"weights", "handlers/spec.py": b"code"}


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    lineage = LINEAGE.model_copy(
        update={
            "parity": {"openvino": PARITY},
            "pretrained": Pretrained(weights_digest="e" * 64, method="simclr"),
            "dataset_digest": "a" * 64,
            "versions": {"python": "3.11.2", "torch": "2.15.0+cpu", "numpy": "2.4.0", "visor": "unknown"},
        }
    )
    spec = TINY.model_copy(update={"backend": "openvino"})
    with zipfile.ZipFile(tmp_path / "tiny.mar", "w") as mar:
        mar.writestr("spec.json", spec.model_dump_json())
        mar.writestr("lineage.json", lineage.model_dump_json())
        mar.mkdir("handlers")
        for name, data in MEMBERS.items():
            mar.writestr(name, data)
    return read(tmp_path / "tiny.mar")


def components(sbom: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in sbom["components"] if one["type"] == kind}


def test_it_is_what_the_schema_allows(contents: Contents) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(of_archive(contents), SCHEMA)


def test_it_is_the_same_each_time_and_names_the_archive(contents: Contents) -> None:
    sbom = of_archive(contents)
    assert sbom == of_archive(contents)
    archive = sbom["metadata"]["component"]
    assert (archive["name"], archive["version"]) == ("tiny", "1")
    assert archive["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(contents.path.read_bytes()).hexdigest()}]
    [graph] = sbom["dependencies"]
    assert graph["ref"] == archive["bom-ref"]
    assert graph["dependsOn"] == [one["bom-ref"] for one in sbom["components"]]


def test_each_file_has_its_digest(contents: Contents) -> None:
    files = components(of_archive(contents), "file")
    assert set(files) == {"spec.json", "lineage.json", *MEMBERS}
    for name, data in MEMBERS.items():
        assert files[name]["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}]


def test_packages_have_the_versions_that_were_recorded_and_say_whether_serving_needs_them(contents: Contents) -> None:
    sbom = of_archive(contents)
    packages = components(sbom, "library")
    # The archive is one from before HEIC was read: what its code does without, nothing recorded.
    assert set(packages) == {*SERVING, "openvino", "torch", "visor"} - set(LATER)
    assert packages["openvino"]["purl"] == "pkg:pypi/openvino@2026.1.0"
    assert packages["torch"]["purl"] == "pkg:pypi/torch@2.15.0%2Bcpu"
    assert {name for name, one in packages.items() if one["scope"] == "excluded"} == {"torch", "visor"}
    assert not {"version", "purl"} & set(packages["pydantic"])  # nothing recorded it
    assert not {"version", "purl"} & set(packages["visor"])
    assert components(sbom, "platform")["python"]["version"] == "3.11.2"


def test_a_package_that_came_later_is_listed_where_its_version_was_recorded(contents: Contents) -> None:
    lineage = contents.lineage.model_copy(update={"versions": {**contents.lineage.versions, "pi-heif": "1.4.0"}})
    package = components(of_archive(replace(contents, lineage=lineage)), "library")["pi-heif"]
    assert (package["version"], package["scope"]) == ("1.4.0", "required")


def test_the_origin_of_data_and_weights_is_named(contents: Contents) -> None:
    sbom = of_archive(contents)
    assert components(sbom, "data")["data set"]["hashes"][0]["content"] == "a" * 64
    start = components(sbom, "machine-learning-model")["weights to start from"]
    assert start["hashes"][0]["content"] == "e" * 64
    assert start["properties"] == [{"name": "visor:method", "value": "simclr"}]


def test_packages_are_those_that_the_handlers_import() -> None:
    """Every import of the `handlers` package, at the top or in a function, leads to a distribution that is listed."""
    trees = [ast.parse(path.read_text()) for path in Path(handlers.__file__).parent.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    named = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    named |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    outside = {name.split(".")[0] for name in named} - set(sys.stdlib_module_names) - {"handlers"}
    found = packages_distributions()
    distributions = {found[name][0].lower().replace("_", "-") for name in outside}
    assert distributions == {*SERVING, *(name for names in BACKENDS.values() for name in names)}


def test_an_archive_that_is_gone_is_named(contents: Contents) -> None:
    contents.path.unlink()
    with pytest.raises(ArchiveBroken, match=r"tiny\.mar cannot be read"):
        of_archive(contents)
