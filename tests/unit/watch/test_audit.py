"""Labels joined with answers: who counts for which promise, what is left out and why, when it alarms."""

import unicodedata
from collections import Counter

import pytest

from handlers.spec import FnrBound, GroupRule
from tests.unit.specs import make_spec
from watch.audit import ALPHA, Answer, Answers, Promise, audit, promises

NORTH, SOUTH, EAST = "site=north", "site=south", "site=east"
BOUND = FnrBound(level=0.05, threshold=0.5, positives=120, confidence=0.95)
GROUPS = (
    GroupRule(name=NORTH, threshold=0.3, images=90, positives=40, fnr_bound=FnrBound(level=0.1, threshold=0.3, positives=40)),
    GroupRule(name=SOUTH, threshold=0.4, images=90, positives=40),
    GroupRule(name=EAST, threshold=0.9, images=90, positives=40),
)
LABELS = ("burnt", "damaged", "intact")


def spec_of(**rule):
    return make_spec(LABELS, positive=("burnt", "damaged"), threshold=0.5, **({"fnr_bound": BOUND} | rule))


def answers_of(**by_id):
    found = {key: Answer(answer) if answer in ("pass", "flag", "review") else answer for key, answer in by_id.items()}
    return Answers(found, {Answer("pass"): 500, Answer("flag"): 400, Answer("review"): 100})


def test_missed_is_what_passed_of_the_positive_images():
    answers = answers_of(a="pass", b="flag", c="review", d="pass", e="flag")
    labels = [("a", "damaged"), ("b", "burnt"), ("c", "damaged"), ("d", "intact"), ("e", "intact")]
    found = audit(answers, labels, spec_of())
    [own] = found.followed
    assert (own.labels, own.missed, own.reviewed, own.share) == (3, 1, 1, 1 / 3)
    assert own.promise == Promise(0.05)
    assert (own.verdict, found.alarm, own.alpha) == ("open", False, ALPHA)
    assert (found.rows, found.used, found.left_out) == (5, 5, {})
    assert found.labelled == {"pass": 2, "flag": 2, "review": 1}


def test_each_row_that_is_left_out_is_counted_by_its_reason():
    answers = answers_of(a="flag", b="other_archive", c="several_images", d="unanswered", e="flag", f="flag", g="other_threshold")
    labels = [
        *[("a", "damaged")] * 3,  # twice more
        ("b", "damaged"),
        ("c", "damaged"),
        ("d", "damaged"),
        ("e", "damaged"),
        ("e", "intact"),
        ("e", "intact"),
        ("f", "unheard of"),
        ("g", "damaged"),
        ("nobody", "damaged"),
        ("", ""),
    ]
    found = audit(answers, labels, spec_of())
    assert found.left_out == {
        "contradicting_labels": 2,
        "other_archive": 1,
        "other_threshold": 1,
        "repeated_label": 2,
        "several_images": 1,
        "unanswered": 1,
        "unknown_id": 1,
        "unknown_label": 2,
    }
    assert (found.rows, found.used) == (13, 2)
    assert found.notes[-1].startswith("2 rows contradict an earlier label")
    assert found.used + sum(found.left_out.values()) == found.rows


def test_a_label_is_known_however_its_accents_are_spelt():
    nfc, nfd = (unicodedata.normalize(form, "fêlé") for form in ("NFC", "NFD"))
    for there, given in ((nfc, nfd), (nfd, nfc)):
        spec = make_spec((there, "intact"), positive=(there,), threshold=0.5, fnr_bound=BOUND)
        found = audit(answers_of(a="pass"), [("a", given)], spec)
        assert (found.used, found.left_out, found.followed[0].missed) == (1, {}, 1)


def test_unknown_labels_are_always_named():
    answers, known = answers_of(a="flag", b="pass", c="flag"), [("a", "damaged"), ("b", "intact")]
    strange = [("c", "Damaged"), ("d", "Damaged"), ("e", "torn")]
    said = "'Damaged', 'torn' are none of the archive's labels, 'burnt', 'damaged', 'intact'"
    said += "; did you mean 'damaged' by 'Damaged'?"
    assert f"Most labels are left out: {said}" in audit(answers, known + strange, spec_of()).notes
    of_few = "Some labels are left out: 'torn' is none of the archive's labels, 'burnt', 'damaged', 'intact'."
    assert of_few in audit(answers, known + strange[2:], spec_of()).notes
    assert not any("left out" in note for note in audit(answers, [*known, ("c", ""), ("d", ""), ("e", "")], spec_of()).notes)
    many = [(key, f"x{key}") for key in "fghijkl"]
    assert "'xj' and 2 more are none" in audit(answers, many, spec_of()).notes[0]


def test_a_group_with_a_promise_of_its_own_is_followed_by_itself():
    """South's threshold is within the archive's cap, east's is not, and west is no group of the archive."""
    spec = spec_of(groups=GROUPS)
    groups = {"n": NORTH, "s": SOUTH, "e": EAST, "w": "site=west", "o": None}
    by_id = {key: Answer("pass", group) for key, group in groups.items()}
    answers = Answers(by_id, Counter(by_id.values()))
    found = audit(answers, [(key, "damaged") for key in groups], spec)
    assert [(one.promise, one.labels) for one in found.followed] == [(Promise(0.05), 2), (Promise(0.1, NORTH), 1)]
    assert found.left_out == {"other_threshold": 2}
    assert {one.alpha for one in found.followed} == {ALPHA / 2}
    assert found.decisions == {"pass": 3}  # of rules that no promise covers, none
    assert "The archive's own promise is followed on images outside the groups that have their own, not on all." in found.notes


def test_an_archive_whose_groups_alone_promise_follows_them_alone():
    spec = spec_of(groups=GROUPS, fnr_bound=None)
    found = audit(Answers({"o": Answer("pass")}, {Answer("pass"): 1}), [("o", "damaged")], spec)
    assert not any("own promise is followed" in note for note in found.notes)
    assert promises(spec) == (Promise(0.1, NORTH),)
    assert (found.left_out, found.used) == ({"no_promise": 1}, 0)
    assert promises(spec, 0.02) == (Promise(0.02), Promise(0.1, NORTH))
    assert promises(spec_of(fnr_bound=None)) == ()


def stream(missed_every, count, after=0):
    """Positive images of which every so-many-th is missed, from one on."""
    decisions = ["pass" if n >= after and n % missed_every == 0 else "flag" for n in range(1, count + 1)]
    by_id = {str(n): Answer(d) for n, d in enumerate(decisions)}
    return Answers(by_id, Counter(by_id.values())), [(str(n), "damaged") for n in range(count)]


def test_an_alarm_stays_and_says_when_it_was():
    answers, labels = stream(4, 80)
    [own] = audit(answers, labels, spec_of()).followed
    assert own.verdict == "broken"
    assert own.lower > 0.05
    at = own.alarm_at
    assert at is not None
    assert at % 4 == 0  # at a miss
    assert audit(answers, labels[: at - 1], spec_of()).followed[0].verdict == "open"
    assert audit(answers, labels[:at], spec_of()).followed[0].alarm_at == at
    later = {str(n): Answer("flag") for n in range(80, 5000)}
    by_id = {**answers.by_id, **later}
    found = audit(Answers(by_id, Counter(by_id.values())), [*labels, *((key, "damaged") for key in later)], spec_of())
    [after] = found.followed
    assert (after.verdict, after.alarm_at) == ("broken", at)
    assert after.upper < after.lower  # which is said
    assert "not the same at all times" in found.notes[-1]


def test_rows_that_contradict_earlier_ones_do_not_take_back_an_alarm():
    """40 positive images, the first 8 missed; then four rows say of four of these that they are negative after all."""
    by_id = {f"i{n}": Answer("pass" if n < 8 else "flag") for n in range(40)}
    answers = Answers(by_id, {Answer("pass"): 900, Answer("flag"): 100})
    labels = [(key, "damaged") for key in by_id]
    before = audit(answers, labels, spec_of())
    after = audit(answers, [*labels, *((f"i{n}", "intact") for n in range(4))], spec_of())
    assert before.followed == after.followed
    assert (after.alarm, after.followed[0].alarm_at, round(after.followed[0].lower, 3)) == (True, 5, 0.127)
    assert after.left_out == {"contradicting_labels": 4}
    assert after.notes[-1] == "4 rows contradict an earlier label of their image: the first one counts."
    assert audit(answers, [("i0", ""), *labels], spec_of()).followed == before.followed  # an empty cell is no label


def test_a_promise_is_kept_once_the_upper_bound_is_within_it():
    answers, labels = stream(100, 400)
    assert audit(answers, labels, spec_of()).followed[0].verdict == "kept"
    assert audit(answers, labels[:50], spec_of()).followed[0].verdict == "open"


@pytest.mark.parametrize(
    ("passed", "flagged", "selected", "words"),
    [
        (0, 40, True, "0.00% of the images that passed and 10.00% of the others have a label"),  # 20 negatives: 0.4 ** 20
        (0, 4, False, ""),  # too few to tell: 0.4 ** 2
        (60, 40, False, ""),
        (10, 90, False, "1.67% of the images that passed and 22.50% of the others have a label"),
    ],
)
def test_labels_for_what_was_flagged_alone_are_seen(passed, flagged, selected, words):
    by_id = {f"p{n}": Answer("pass") for n in range(passed)} | {f"f{n}": Answer("flag") for n in range(flagged)}
    labels = [(key, "damaged" if n % 2 else "intact") for n, key in enumerate(by_id)]
    found = audit(Answers(by_id, {Answer("pass"): 600, Answer("flag"): 400}), labels, spec_of())
    assert found.selected is selected
    assert (words in found.notes[0]) if words else not found.notes


def test_a_missed_image_that_somebody_found_does_not_hide_that_only_the_flagged_ones_have_labels():
    """All 200 flagged images have a label, 50 of them a negative one, and one of 9,800 that passed, a positive one."""
    by_id = {f"d{n}": Answer("pass" if n < 9800 else "flag") for n in range(10_000)}
    labels = [(f"d{n}", "damaged" if n < 9950 else "intact") for n in range(9800, 10_000)] + [("d0", "damaged")]
    answers = Answers(by_id, Counter(by_id.values()))
    assert audit(answers, labels, spec_of()).selected
    found = audit(answers, [*labels, ("d1", "intact")], spec_of())  # nor does a negative one make it a random share
    assert not found.selected
    assert found.notes[0].startswith("0.02% of the images that passed and 100.00% of the others have a label")
    [own] = found.followed
    assert (own.labels, own.missed, own.verdict, own.upper) == (151, 1, "open", 1.0)
    alone = audit(Answers(by_id, Counter(by_id[key] for key, _ in labels)), labels[:150], spec_of())
    assert alone.followed[0].verdict == "kept"  # by the same images, were they all that there are


def test_images_of_a_rule_that_no_promise_covers_are_not_counted():
    """Of both rules every fifth image has a label; more images pass by east's, which is not covered."""
    by_id = {
        f"{group}{n}": Answer("pass" if n % 100 < passed else "flag", group)
        for group, passed in ((None, 60), (EAST, 95))
        for n in range(2000)
    }
    labels = [(key, "damaged" if n % 10 else "intact") for n, key in enumerate(by_id) if n % 5 == 0]
    found = audit(Answers(by_id, Counter(by_id.values())), labels, spec_of(groups=(GROUPS[2],)))
    assert found.decisions == {"pass": 1200, "flag": 800}
    assert found.labelled == {"pass": 240, "flag": 160}
    assert found.left_out == {"other_threshold": 400}
    assert found.notes == ()


def test_with_positive_labels_alone_nothing_shows_how_they_were_drawn():
    found = audit(answers_of(**{f"f{n}": "flag" for n in range(40)}), [(f"f{n}", "damaged") for n in range(40)], spec_of())
    assert not found.selected
    assert "All labels are positive" in found.notes[0]


@pytest.mark.parametrize(
    ("bound", "level", "words"),
    [
        ({"confidence": None}, None, ["on average over calibration splits"]),
        ({"confidence": None, "groups": 20}, None, ["on average over calibration splits", "bounds err more often than in 5%"]),
        ({"confidence": None, "groups": 20}, 0.1, []),
        ({}, None, []),
    ],
)
def test_what_the_archive_promises_is_said(bound, level, words):
    spec = spec_of(fnr_bound=BOUND.model_copy(update=bound))
    notes = audit(answers_of(a="pass", b="flag"), [("a", "intact"), ("b", "damaged")], spec, level).notes
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))
