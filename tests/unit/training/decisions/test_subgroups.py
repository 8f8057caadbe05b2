"""Groups by hand, intervals by their definition, and each way in which a CSV does not fit."""

import re
import unicodedata
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import BaseModel

from handlers.spec import FnrBound, GroupRule
from tests.unit.specs import make_spec
from tests.volume import SIMULATIONS
from training.config import Config, DecisionConfig, SubgroupConfig
from training.data.manifest import Sample
from training.decisions import chance, conformal, thresholds
from training.decisions.subgroups import Answered, bounding, by_group, check_names, fit_groups, read, warnings
from training.errors import DataError

BOUND = FnrBound(level=0.2, threshold=0.3, positives=9)
SPEC = make_spec(("bad", "good"), positive=("bad",), threshold=0.3, fnr_bound=BOUND)


def samples(*names: str) -> list[Sample]:
    return [Sample(name, 1, "0" * 64, "bad", "test") for name in names]


def answered(scores: list[float], truth: list[int], names: str) -> Answered:
    return Answered(samples(*names), np.array([[s, 1 - s] for s in scores]), np.array(truth))


GROUPS = {"roof": dict.fromkeys("abcd", "tile") | dict.fromkeys("efgh", "slate")}


def test_figures_by_hand():
    # tile: 0.9 right, 0.35 flagged but not the likeliest label, 0.2 missed, good 0.1; slate: all bad, all found
    test = answered([0.9, 0.35, 0.2, 0.1, 0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1, 0, 0, 0, 0], "abcdefgh")
    calibrating = answered([0.6, 0.5, 0.45, 0.4, 0.9, 0.8, 0.7, 0.1], [0, 0, 0, 0, 0, 0, 0, 1], "abcdefgh")
    table = by_group(GROUPS, test, calibrating, SPEC)["roof"]
    tile, slate = table["tile"], table["slate"]
    assert list(table) == ["slate", "tile"]
    assert (tile["images"], tile["accuracy"], tile["positives"]) == (4, 0.5, 3)
    assert tile["fnr"] == pytest.approx(1 / 3)
    assert tile["fnr_interval"] == chance.wilson(1, 3)
    # at least 1 of 3 where 0.2 are missed: 1 - 0.8^3; of two tests twice that, at most 1; none of four missed: 1
    assert (tile["p"], slate["p"]) == pytest.approx((2 * (1 - 0.8**3), 1.0))
    assert tile["threshold"] == pytest.approx(0.4)  # of four at a level of 0.2: floor(0.2 * 5) - 1 = 0 may be missed
    assert slate["threshold"] is None  # three are too few for 0.2
    assert (tile["breaks_bound"], slate["breaks_bound"], slate["fnr"]) == ("perhaps", "no", 0.0)
    (sentence,) = warnings({"roof": table}, 0.2)
    assert "roof = tile breaks the bound: 33.3% of its 3 positive" in sentence
    assert "chance alone could explain (p = 0.98 among all groups); alone it would have the threshold 0.4000" in sentence


def test_what_chance_does_not_explain_is_said():
    test = answered([0.1] * 20, [0] * 20, "a" * 20)
    table = by_group({"roof": {"a": "tile"}}, test, test, SPEC)
    assert table["roof"]["tile"]["breaks_bound"] == "yes"
    assert "more than chance explains" in warnings(table, 0.2)[0]


def test_groups_that_miss_what_the_bound_allows_are_accused_by_chance_alone_in_one_of_twenty_runs():
    """30 groups of 40 positive images that all miss exactly 0.05: as in metrics.json, but drawn without a network."""
    rng, accused, uncorrected = np.random.default_rng(0), 0, 0
    for _ in range(SIMULATIONS):
        hits = rng.random((30, 40)) < 0.05
        adjusted = chance.holm([chance.exceeds(own, 0.05) for own in hits])
        accused += min(adjusted) <= 0.05
        uncorrected += any(chance.wilson(int(own.sum()), 40)[0] > 0.05 for own in hits)
    assert accused / SIMULATIONS <= 0.05 + 2 * (0.05 * 0.95 / SIMULATIONS) ** 0.5
    assert uncorrected / SIMULATIONS > 0.6


def test_images_that_go_together_are_tested_and_counted_as_groups():
    scores = [0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
    both = [Sample(name, 1, "0" * 64, "bad", "test", name[0]) for name in ("a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2")]
    test = Answered(both, np.array([[s, 1 - s] for s in scores]), np.zeros(8, dtype=int))
    row = by_group({"x": dict.fromkeys((one.path for one in both), "y")}, test, test, SPEC)["x"]["y"]
    assert row["fnr"] == 0.25
    assert row["fnr_interval"] == pytest.approx(chance.wilson(1, 4))
    assert row["p"] == pytest.approx(float(chance.hoeffding_bentkus(3.0, 4, 0.8)))


def thresholds_of(max_fnr=None, confidence=None, names="a" * 40 + "b" * 40 + "c" * 3):
    rng = np.random.default_rng(5)
    truth = np.arange(len(names)) % 2
    score = np.clip(rng.normal(0.7 - 0.4 * truth, 0.25), 0, 1)
    given = [Sample(f"{name}{n}", 1, "0" * 64, "bad", "calibration") for n, name in enumerate(names)]
    answers = Answered(given, np.stack([score, 1 - score], axis=1), truth)
    of = {sample.path: sample.path[0] for sample in given}
    config = DecisionConfig(
        positive=("bad",),
        max_fnr=max_fnr,
        max_fnr_confidence=confidence,
        subgroups=SubgroupConfig(metadata=Path("x"), thresholds=True),
    )
    return fit_groups({"site": of}, answers, ("bad", "good"), config), answers, config


@pytest.mark.parametrize(("max_fnr", "confidence", "needed"), [(0.1, None, 9), (0.2, 0.95, 14)])
def test_each_group_with_enough_images_gets_the_threshold_of_a_rule_of_its_own(max_fnr, confidence, needed):
    (rules, notes), answers, config = thresholds_of(max_fnr, confidence)
    assert [rule.name for rule in rules] == ["site=a", "site=b"]
    for rule, rows in zip(rules, (slice(0, 40), slice(40, 80)), strict=True):
        probs, truth = answers.probs[rows], answers.truth[rows]
        bound = conformal.bound_fnr(probs, truth, [0], max_fnr, confidence)
        assert (rule.images, rule.positives, rule.fnr_bound) == (40, 20, bound)
        assert rule.threshold == thresholds.fit_decision(probs, truth, ("bad", "good"), config, bound).threshold
        assert rule.threshold <= bound.threshold
    [note] = notes
    assert note.startswith("Subgroup site = c gets no threshold of its own: 2 of its 3 calibration images are positive, ")
    assert f"and its bound needs {needed} that the scaling" in note


def test_without_a_bound_both_kinds_of_images_are_enough():
    (rules, notes), *_ = thresholds_of(names="a" * 10 + "b")
    assert [rule.name for rule in rules] == ["site=a"]
    assert rules[0].fnr_bound is None
    assert "1 of its 1 calibration images are positive, and a threshold needs both" in notes[0]


def test_what_a_groups_own_threshold_does_is_told():
    rule = SPEC.decision.model_copy(update={"groups": (GroupRule(name="roof=tile", threshold=0.1, images=9, positives=5),)})
    spec = SPEC.model_copy(update={"decision": rule})
    test = answered([0.9, 0.35, 0.2, 0.1, 0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1, 0, 0, 0, 0], "abcdefgh")
    table = by_group(GROUPS, test, test, spec)["roof"]
    assert table["tile"]["served"] == {"threshold": 0.1, "fnr": 0.0, "fnr_interval": chance.wilson(0, 3)}
    assert "served" not in table["slate"]


def test_without_positive_labels_there_is_no_rate_of_misses():
    spec = make_spec(("a", "b"), threshold=0.75)
    row = by_group(GROUPS, answered([0.9, 0.6, 0.2, 0.1], [0, 1, 1, 1], "abcd"), answered([], [], ""), spec)["roof"]["tile"]
    assert row["accuracy"] == 0.75
    assert row["review_share"] == 0.25
    assert "fnr" not in row
    assert warnings({"roof": {"tile": row}}, 0.1) == []


def test_a_csv_is_read_with_its_empty_cells(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_text("\ufeffpath,roof,site\nx/a.jpg,tile,north\nx/b.jpg,,south\nx/other.jpg,slate,\n", encoding="utf-8")
    both = samples("x/a.jpg", "x/b.jpg")
    assert read(path, ("roof",), both) == {"roof": {"x/a.jpg": "tile", "x/b.jpg": "not stated"}}
    assert list(read(path, (), both)) == ["roof", "site"]


def test_a_row_is_found_whose_accent_is_spelt_in_another_way(tmp_path):
    path = tmp_path / "metadata.csv"
    nfc, nfd = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    for there, wanted in ((nfc, nfd), (nfd, nfc)):
        path.write_text(f"path,roof\n{there},tile\n", encoding="utf-8")
        assert read(path, (), samples(wanted)) == {"roof": {wanted: "tile"}}


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("path,roof\na,1\n", ("site",), r"no column \['site'\]"),
        ("file,roof\na,1\n", ("roof",), r"no column \['path'\]"),
        ("", ("roof",), "no column"),
        ("path,roof\na,1\na,2\n", ("roof",), "a path twice"),
        ("path,roof\nb,1\n", ("roof",), "no row for 1 image, such as a"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused(tmp_path, text, columns, words):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read(path, columns, samples("a"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,roof\na,Dächer\n".encode("latin-1"), "metadata.csv is not UTF-8; save it as UTF-8$"),
        (b"PK\x03\x04\x00\x00\x80", "metadata.csv holds bytes that are no text"),
    ],
)
def test_a_csv_that_is_not_utf_8_is_told(tmp_path, content, words):
    path = tmp_path / "metadata.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(path, (), samples("a"))


def test_the_key_that_errors_name_is_one_of_the_config(tmp_path):
    with pytest.raises(DataError, match="is not there; name a CSV") as error:
        read(tmp_path / "none.csv", (), samples("a"))
    key = re.match(r"data\.invalid: (\S+) ", str(error.value))[1]
    section = Config
    for name in key.split("."):
        kind = section.model_fields[name].annotation
        section = next((one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel)), None)
    assert kind is Path


def test_a_missing_file_and_a_column_of_numbers_are_refused(tmp_path):
    with pytest.raises(DataError, match="is not there; name a CSV"):
        read(tmp_path / "none.csv", (), samples("a"))
    path, names = tmp_path / "metadata.csv", [str(n) for n in range(60)]
    path.write_text("path,age\n" + "".join(f"{name},{name}\n" for name in names))
    with pytest.raises(DataError, match="60 values, over 50"):
        read(path, (), samples(*names))


def test_the_threshold_that_is_shown_is_found_as_the_bound_is_with_images_that_no_scaling_saw():
    """With three labels every other image fits the scaling: 18 of a group's 36 are left, one too few for 0.05."""
    given = [Sample(f"{n:02}", 1, "0" * 64, "bad", "calibration") for n in range(72)]
    probs = np.random.default_rng(6).dirichlet(np.ones(3), 72)
    answers = Answered(given, probs, np.arange(72) // 36)
    of = {"site": dict.fromkeys((one.path for one in given), "a")}
    config = DecisionConfig(positive=("bad",), max_fnr=0.05, subgroups=SubgroupConfig(metadata=Path("x"), thresholds=True))
    labels = ("bad", "good", "else")
    bound = FnrBound(level=0.05, threshold=0.3, positives=18)
    spec = make_spec(labels, positive=("bad",), threshold=0.3, fnr_bound=bound)
    free = bounding(answers, labels, config)
    assert [one.path for one in free.samples] == [f"{n:02}" for n in range(1, 72, 2)]
    assert by_group(of, answers, free, spec)["site"]["a"]["threshold"] is None
    assert fit_groups(of, answers, labels, config)[0] == ()


def test_a_group_that_no_request_could_name_is_refused_before_the_fit():
    check_names({"site": {"1": "x" * 195}, "a": {"1": "b=c"}})
    with pytest.raises(DataError, match=r"'site=x+'\.\.\. has over 200 letters"):
        check_names({"site": {"1": "x" * 196}})
    with pytest.raises(DataError, match=r"two groups are 'a=b=c' as COLUMN=VALUE"):
        check_names({"a": {"1": "b=c"}, "a=b": {"1": "c"}})


def test_a_groups_ece_is_for_the_mix_that_is_stated_to_come():
    """Of 10 images half are bad, and each says 0.1: honest where 1 in 10 will be."""
    spec = SPEC.model_copy(update={"decision": SPEC.decision.model_copy(update={"prevalence": (0.1, 0.9)})})
    test = answered([0.1] * 10, [0] * 5 + [1] * 5, "abcdefghij")
    of = {"roof": dict.fromkeys("abcdefghij", "tile")}
    assert by_group(of, test, test, spec)["roof"]["tile"]["ece"] == pytest.approx(0.0)
    assert by_group(of, test, test, SPEC)["roof"]["tile"]["ece"] == pytest.approx(0.4)
