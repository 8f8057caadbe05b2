"""Archives that visor 0.2 made are inspected, asked, scored and served as visor 0.2 did it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kept import ANSWERS, ASKED, NAMES, copy_kept
from tests.integration.running import Workspace

# Sums run in another order on another processor; nothing else may differ. A heat map is scaled by its largest value.
PROBABILITY, HEATMAP = 1e-4, 1e-3


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The kept archives and images, with no key but the public one that is kept with them."""
    return copy_kept(tmp_path_factory.mktemp("old") / "kept")


@pytest.mark.parametrize("command", ASKED)
@pytest.mark.parametrize("name", NAMES)
def test_an_old_archive_is_answered_for_as_before(kept: Workspace, name: str, command: str) -> None:
    assert_same(ASKED[command](kept, name), json.loads(ANSWERS.read_text())[name][command], command)


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
        # What `visor inspect` prints is no protocol's: it may say more by now.
        known = [key for key in got if key in expected or not where.startswith("inspect")]
        assert known == list(expected), where
        for key in expected:
            assert_same(got[key], expected[key], f"{where}.{expected.get('name', '')}.{key}")
    elif isinstance(expected, list):
        assert isinstance(got, list), where
        assert len(got) == len(expected), where
        for place, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{where}[{place}]")
    elif isinstance(expected, float):
        tolerance = 0.0 if where.startswith("inspect") else HEATMAP if "heatmap" in where else PROBABILITY
        assert got == pytest.approx(expected, rel=0, abs=tolerance), where
    else:
        assert (got, type(got)) == (expected, type(expected)), where
