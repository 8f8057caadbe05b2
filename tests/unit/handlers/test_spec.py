"""`spec.json` is strict: what contradicts itself is refused, with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import ArchiveBroken
from handlers.spec import DECODING, Preprocessing, Spec

VALID: dict[str, Any] = {
    "name": "roofs",
    "version": "1",
    "network": "small_cnn",
    "labels": ["damaged", "intact", "unsure"],
    "preprocessing": {"height": 32, "width": 48, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "feature_map": [128, 4, 6],
    "temperature": 1.5,
    "decision": {"positive": ["unsure", "damaged"], "threshold": 0.3, "cost": [[0, 0, 5], [0, 0, 5], [1, 1, 0]]},
}


def changed(**changes: Any) -> str:
    return json.dumps(VALID | changes)


def test_a_spec_survives_its_own_json(tmp_path: Path) -> None:
    spec = Spec.parse(json.dumps(VALID), "here")
    path = tmp_path / "spec.json"
    path.write_text(spec.model_dump_json())
    assert Spec.read(path) == spec
    assert spec.positive_index == (0, 2)


def test_what_an_archive_does_not_use_is_not_in_it_so_that_older_servers_read_it() -> None:
    written = json.loads(Spec.parse(json.dumps(VALID), "here").model_dump_json())
    assert not {"scaling", "prediction_sets"} & written.keys()
    assert "fnr_bound" not in written["decision"]
    bound = {"level": 0.05, "threshold": 0.3, "positives": 40}
    spec = Spec.parse(changed(decision=VALID["decision"] | {"fnr_bound": bound}), "here")
    assert json.loads(spec.model_dump_json())["decision"]["fnr_bound"] == bound


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "colour"),
        ({"name": "Roofs!"}, "name"),
        ({"version": "0"}, "version"),
        ({"network": "vgg"}, "network"),
        ({"backend": "onnx"}, "backend"),
        ({"temperature": 0}, "temperature"),
        ({"labels": ["a", "a", "b"]}, "labels repeat"),
        ({"labels": ["damaged", "intact", "other"]}, "unsure"),
        ({"decision": VALID["decision"] | {"positive": ["damaged", "intact", "unsure"]}}, "every label"),
        ({"decision": VALID["decision"] | {"cost": [[0, 1], [1, 0]]}}, "3 rows of 3"),
        ({"decision": VALID["decision"] | {"threshold": 1.5}}, "threshold"),
        ({"decision": VALID["decision"] | {"fnr_bound": {"level": 0.1, "threshold": 0.2, "positives": 9}}}, "breaks fnr_bound"),
        ({"scaling": {"weight": [1, 1], "bias": [0, 0, 0]}}, "3 weights and biases"),
        ({"scaling": {"slope": [1, 1], "bias": [0, 0]}}, "two labels, not for 3"),
        ({"scaling": {"slope": [1, 0], "bias": [0, 0]}}, "slope"),
        ({"preprocessing": VALID["preprocessing"] | {"fit": "crop"}}, "resize >= 48"),
        ({"preprocessing": VALID["preprocessing"] | {"fit": "crop", "resize": 40}}, "got 40"),
        ({"preprocessing": VALID["preprocessing"] | {"resize": 64}}, "belongs to fit crop"),
        ({"preprocessing": VALID["preprocessing"] | {"std": [0.5, 0, 0.5]}}, "std must be positive"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ArchiveBroken, match=r"somewhere is not a valid spec(.|\n)*" + words):
        Spec.parse(changed(**changes), "somewhere")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveBroken, match=r"spec\.json cannot be read"):
        Spec.read(tmp_path / "spec.json")


@pytest.mark.parametrize(("said", "rule"), [({}, 1), ({"decoding": 1}, 1), ({"decoding": 2}, 2)])
def test_a_spec_that_says_no_decoding_rule_is_from_before_there_was_a_second(said: dict[str, int], rule: int) -> None:
    spec = Spec.parse(changed(preprocessing={**VALID["preprocessing"], **said}), "here")
    assert spec.preprocessing.decoding == rule
    written = json.loads(spec.model_dump_json())["preprocessing"]
    assert written.get("decoding") == (None if rule == 1 else rule)  # as older servers read it, which know no such key
    assert Spec.parse(spec.model_dump_json(), "here") == spec


def test_code_takes_the_newest_rule() -> None:
    values = VALID["preprocessing"]
    assert Preprocessing(**values).decoding == DECODING == 2
    assert Preprocessing(**values, decoding=1).formats == "JPEG, PNG, WebP, BMP or TIFF"
    with pytest.raises(ArchiveBroken, match="decoding"):
        Spec.parse(changed(preprocessing={**values, "decoding": 3}), "here")
