"""The lineage of older archives is read; one of another form is named."""

import json

import pytest

from archives.lineage import Lineage
from handlers.errors import ArchiveBroken
from tests.unit.specs import LINEAGE


def test_a_lineage_older_than_parity_is_read() -> None:
    assert Lineage.parse(LINEAGE.model_dump_json(exclude={"parity"}), "lineage.json") == LINEAGE


@pytest.mark.parametrize("exported", [True, False])
def test_a_lineage_of_0_1_tells_of_one_export_or_none(exported: bool) -> None:
    figures = {
        "holds": True,
        "images": 200,
        "decision_agreement": 1.0,
        "max_logit_difference": 1e-5,
        "max_probability_difference": 1e-6,
        "max_heatmap_difference": 1e-4,
        "accuracy": {"torch": 0.99, "openvino": 0.99},
        "fnr": None,
        "openvino": "2026.4.1",
    }
    text = LINEAGE.model_dump_json(exclude={"parity"})
    old = json.dumps(json.loads(text) | {"parity": figures if exported else None})
    found = Lineage.parse(old, "lineage.json").parity
    assert list(found) == (["openvino"] if exported else [])
    assert all(one.images == 200 and one.heatmap_correlation is None for one in found.values())


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}'])
def test_a_lineage_of_another_form_is_named(text: str) -> None:
    with pytest.raises(ArchiveBroken, match=r"model\.mar:lineage\.json is not a valid lineage"):
        Lineage.parse(text, "model.mar:lineage.json")


@pytest.mark.parametrize("run_id", ["", "' or run_id != '", "../../etc", "a" * 257, "run\n"])
def test_a_run_id_that_is_none_of_mlflows_is_refused(run_id: str) -> None:
    text = json.dumps(json.loads(LINEAGE.model_dump_json()) | {"mlflow_run_id": run_id})
    with pytest.raises(ArchiveBroken, match="mlflow_run_id"):
        Lineage.parse(text, "lineage.json")
