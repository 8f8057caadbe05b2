"""Archives that visor 0.2 made are inspected, asked, scored and served as visor 0.2 did it."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.kept import ANSWERS, ASKED, NAMES, copy_kept
from tests.integration.running import Workspace

# Sums run in another order on another processor; nothing else may differ. A heat map is scaled by its largest value.
PROBABILITY, HEATMAP = 1e-4, 1e-3


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The kept archives and images, with no key but the public one that is kept with them."""
    return copy_kept(tmp_path_factory.mktemp("old") / "kept")


@pytest.fixture(scope="module")
def asked(kept: Workspace) -> Callable[[str, str], Any]:
    """What a command answers about an archive, which is asked once."""
    return functools.cache(lambda command, name: ASKED[command](kept, name))


@pytest.mark.parametrize("command", ASKED)
@pytest.mark.parametrize("name", NAMES)
def test_an_old_archive_is_answered_for_as_before(asked: Callable[[str, str], Any], name: str, command: str) -> None:
    assert_same(asked(command, name), json.loads(ANSWERS.read_text())[name][command], command)


def test_an_old_archive_s_worker_is_served_with_what_follows_from_its_answers(asked: Callable[[str, str], Any]) -> None:
    """The archive's own entry of 0.2 says no peak; score and set follow from the probabilities that it says."""
    answer = asked("serve", "digits-band")
    outputs = {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer["outputs"]}
    probabilities, answered = outputs["probabilities"], np.array(outputs["error"]) == ""
    np.testing.assert_allclose(outputs["score"], probabilities[:, [3, 5, 8]].sum(axis=1), atol=1e-6)
    spec = json.loads(ANSWERS.read_text())["digits-band"]["inspect"]["spec"]
    inside = (1 - probabilities <= spec["prediction_sets"]["limit"]) & answered[:, None]
    assert outputs["prediction_set"].astype(bool).tolist() == inside.tolist()
    assert outputs["heatmap_box"].tolist() == [[0, 0, 1, 1] if one else [0, 0, 0, 0] for one in answered]
    assert "heatmap_peak" not in outputs
    rule, said = spec["decision"], answer["parameters"]
    assert said["review_from"] == pytest.approx(rule["threshold"] - rule["review_below"])
    assert said["review_to"] == pytest.approx(rule["threshold"] + rule["review_above"])
    assert said["promise"] == "held"
    decided = ["flag" if s >= said["review_to"] else "review" if s >= said["review_from"] else "pass" for s in outputs["score"]]
    assert [one if good else "" for one, good in zip(decided, answered, strict=True)] == outputs["decision"].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_inspect_says_what_an_old_archive_lacks(asked: Callable[[str, str], Any], name: str) -> None:
    lacks = asked("inspect", name)["lacks"]
    assert lacks[-2:] == ["the curve of other thresholds", "the peaks of its heat maps, where it is served"]
    assert len(lacks) == (3 if name == "digits-band" else 2)


def test_the_kept_answers_tell_outcomes_apart() -> None:
    answers = json.loads(ANSWERS.read_text())
    outcomes = {name: {row["decision"] for row in answers[name]["score"] if not row["error"]} for name in NAMES}
    assert outcomes == {"digits": {"pass", "review"}, "digits-band": {"pass", "flag", "review"}}
    assert all(answers[name]["inspect"]["signature"]["holds"] for name in NAMES)
    band = answers["digits-band"]["inspect"]["spec"]["decision"]
    assert 0 < band["review_above"] < band["review_below"] < band["threshold"]


def test_an_old_archive_under_another_key_is_refused(kept: Workspace, tmp_path: Path) -> None:
    kept.ok("keys", "--out", str(tmp_path / "other"))
    done = kept.visor("predict", "--archive", "digits", "images/0-0072.png", "--public-key", str(tmp_path / "other/visor.pub"))
    assert (done.returncode, "archive.refused" in done.stderr) == (1, True)


def assert_same(got: Any, expected: Any, where: str) -> None:
    """Compare what JSON holds: probabilities and heat maps within their tolerance, and everything else exactly."""
    if isinstance(expected, dict):
        assert isinstance(got, dict), where
        # It may say more by now, such as the band's ends: what was said is what must stay.
        assert [key for key in got if key in expected] == list(expected), where
        for key in expected:
            assert_same(got[key], expected[key], f"{where}.{expected.get('name', '')}.{key}")
    elif isinstance(expected, list):
        assert isinstance(got, list), where
        if where.endswith(".outputs"):
            got = [one for one in got if one["name"] in {other["name"] for other in expected}]
        assert len(got) == len(expected), where
        for place, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{where}[{place}]")
    elif isinstance(expected, float):
        tolerance = 0.0 if where.startswith("inspect") else HEATMAP if "heatmap" in where else PROBABILITY
        assert got == pytest.approx(expected, rel=0, abs=tolerance), where
    else:
        assert (got, type(got)) == (expected, type(expected)), where
