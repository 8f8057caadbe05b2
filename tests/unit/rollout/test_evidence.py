"""All gates together: who raises the alarm, what promotion lacks, and that a state that was written goes on unchanged."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from rollout.evidence import Evidence
from rollout.gates import GATES, Count, Gate
from rollout.planning import requests_to_find, requests_to_prove

GATE = {gate.name: gate for gate in GATES}
RATES = {"errors": 0.001, "refusals": 0.002, "slow": 0.01, "slower": 0.04, "flagged": 0.2, "reviewed": 0.1}


def counts(rng, share=0.5, total=400, **more):
    """One look of a release with these rates, and so much more of the canary's in some gates; 1 % of the shadow's images."""
    found = {"disagreement": (Count(int(rng.binomial(40, 0.01 + more.get("disagreement", 0.0))), 40), Count(0, 0))}
    for name, rate in RATES.items():
        canary = int(rng.binomial(total, share))
        found[name] = (
            Count(int(rng.binomial(canary, rate + more.get(name, 0.0))), canary),
            Count(int(rng.binomial(total - canary, rate)), total - canary),
        )
    return found


def after(looks, **more):
    rng, evidence = np.random.default_rng(5), Evidence.begin()
    for _ in range(looks):
        evidence = evidence.look(counts(rng, **more))
    return evidence


PAGE = (Path(__file__).parents[3] / "docs/rollout.md").read_text()


def test_the_gates_and_their_margins_are_those_of_the_page():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (\w+) \| ([\d.]+)(?: points| %)? \| ([\d.]+)(?: %)? \|$", PAGE, re.MULTILINE)
    told = [(name, unit, float(margin), float(tolerance)) for name, unit, margin, tolerance in rows]
    assert told == [
        (gate.name, gate.unit, pytest.approx(100 * gate.margin), pytest.approx(100 * gate.tolerance)) for gate in GATES
    ]
    assert [gate.name for gate in GATES if not gate.paired] == ["disagreement"]


def test_the_page_s_forecast_runs_and_says_what_its_tables_say(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    find, prove = capsys.readouterr().out.split()
    assert re.search(rf"^\| flagged 20 → 30 % .* \| {int(find):,} \|$", PAGE, re.MULTILINE)
    assert re.search(rf"^\| flagged 20 % \| 50 % .* \| {int(prove):,} \| [\d,]+ \|$", PAGE, re.MULTILINE)


def test_a_good_canary_is_proven_and_raises_no_alarm():
    evidence = after(60)
    assert evidence.alarms() == []
    assert evidence.proven()
    assert all(finding.proven and finding.needed == 0 for finding in evidence.findings())


@pytest.mark.parametrize("name", GATE)
def test_each_gate_finds_what_it_is_for_and_no_other_one_does(name):
    evidence = after(60, **{name: 0.15})
    assert [finding.gate.name for finding in evidence.alarms()] == [name]
    assert not evidence.proven()
    (alarm,) = evidence.alarms()
    assert alarm.alarm
    assert alarm.grown >= alarm.limit == pytest.approx(len(GATES) / 0.05)
    assert alarm.words.startswith(f"{name}: ")


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("gates", [1, 2, 6, 7])
def test_neither_one_look_nor_two_raise_an_alarm_and_more_do(gates, alpha):
    """Of however many gates, and where a record that was written goes on between the looks."""
    evidence = Evidence.begin(GATES[:gates], alpha).look({"errors": (Count(0, 10_000), Count(0, 10_000))})
    for look in range(1, 5):
        evidence = Evidence.from_json(json.loads(json.dumps(evidence.to_json())))
        evidence = evidence.look({"errors": (Count(10_000, 10_000), Count(0, 10_000))})
        assert bool(evidence.alarms()) == (look > 2) or look == 3
    assert [finding.gate.name for finding in evidence.alarms()] == ["errors"]


def test_one_gate_that_is_not_proven_is_enough_to_hold():
    rng, evidence = np.random.default_rng(5), Evidence.begin()
    for _ in range(60):
        evidence = evidence.look({name: both for name, both in counts(rng).items() if name != "reviewed"})
    assert [finding.gate.name for finding in evidence.findings() if not finding.proven] == ["reviewed"]
    assert not evidence.proven()


def test_gates_share_alpha():
    """Alone a gate has all of it; the alarm of one of seven asks for seven times as much."""
    alone = Evidence.begin([GATE["errors"]])
    assert alone.findings()[0].limit == pytest.approx(20)
    assert Evidence.begin().findings()[0].limit == pytest.approx(140)


def test_a_state_goes_on_exactly_where_it_was_written():
    rng, other = np.random.default_rng(1), np.random.default_rng(1)
    kept, read = Evidence.begin(), Evidence.begin()
    for look in range(25):
        share = 0.0 if look < 5 else 0.1
        kept = kept.look(counts(rng, share=share, total=12))
        read = Evidence.from_json(json.loads(json.dumps(read.look(counts(other, share=share, total=12)).to_json())))
    assert read.to_json() == kept.to_json()
    assert read.findings() == kept.findings()
    assert len(json.dumps(kept.to_json())) < 16_000  # of a ConfigMap's 1 MiB


def test_a_state_of_an_older_version_goes_on():
    """It says of each gate how many events share one fate, which was 1 everywhere."""
    state = after(3).to_json()
    for test in state["tests"]:
        test["gate"]["together"] = 1.0
    assert Evidence.from_json(json.loads(json.dumps(state))).to_json() == after(3).to_json()


def test_a_state_that_counted_looks_without_counts_goes_on():
    """Of the version that gave counts up after six looks, whatever these brought: after five the canary's request still waits."""
    state = Evidence.begin([GATE["errors"]]).look({"errors": (Count(1, 1), Count(0, 0))}).to_json()
    state["tests"][0]["waited"] = 5
    evidence = Evidence.from_json(json.loads(json.dumps(state))).look({"errors": (Count(0, 0), Count(0, 0))})
    assert not evidence.compared
    assert evidence.look({"errors": (Count(0, 0), Count(0, 1))}).compared
    assert not evidence.look({"errors": (Count(1, 1), Count(0, 0))}).look({"errors": (Count(0, 0), Count(0, 1))}).compared


def test_a_state_of_another_shape_is_refused():
    state = Evidence.begin().to_json()
    state["tests"][0]["capital"].append(0.0)
    with pytest.raises(ValueError, match="capital of gate errors has the shape"):
        Evidence.from_json(state)


def test_nothing_seen_is_no_alarm_and_no_proof():
    evidence = Evidence.begin().look({}).look({"errors": (Count(0, 0), Count(0, 0))})
    assert evidence.alarms() == []
    assert not evidence.proven()
    for finding in evidence.findings():
        assert (finding.difference, finding.upper, finding.grown) == (None, 1, pytest.approx(1))
        assert "none of the canary's 0 " in finding.words
        assert "too few to bound it" in finding.words


def test_words_have_the_figures():
    evidence = Evidence.begin([GATE["errors"]]).look({"errors": (Count(0, 1), Count(0, 1))})
    for _ in range(4):
        evidence = evidence.look({"errors": (Count(5, 100), Count(1, 1000))})
    (alarm,) = evidence.alarms()
    assert alarm.words == (
        "errors: 4.99 % of the canary's 401 requests, 0.1 % of the stable release's 4,001; "
        f"a bet against at most 0.1 points more has made {alarm.grown:,.0f} of 1, where 20 is an alarm"
    )
    good = Evidence.begin([GATE["flagged"]])
    for _ in range(6):
        good = good.look({"flagged": (Count(20, 100), Count(20, 100))})
    (finding,) = good.findings()
    assert finding.words == (
        "flagged: 20 % of the canary's 600 images, 20 % of the stable release's 600; at most 7.5 points more, "
        f"not yet known to be less than the margin of 5 points more: needs about {finding.needed:,} more"
    )


@pytest.mark.parametrize(
    ("looks", "words"), [(10, "how many more that takes cannot be said yet"), (60, "will not be proven by more of the same")]
)
def test_a_canary_close_to_its_margin_is_said_not_to_be_proven_by_more_of_the_same_once_that_is_sure(looks, words):
    """4.5 % disagree: two standard errors are 1.3 % of 1,000 images and 0.54 % of 6,000, and three quarters of 5 % are 3.75."""
    evidence = Evidence.begin([GATE["disagreement"]])
    for number in range(looks):
        evidence = evidence.look({"disagreement": (Count(4 + number % 2, 100), Count(0, 0))})
    assert evidence.findings()[0].needed is None
    assert evidence.findings()[0].words.endswith(words)


def test_what_is_needed_is_about_what_it_takes():
    evidence = Evidence.begin([GATE["flagged"]])
    for _ in range(6):
        evidence = evidence.look({"flagged": (Count(20, 100), Count(20, 100))})
    needed, more = evidence.findings()[0].needed, 0
    while not evidence.proven():
        evidence = evidence.look({"flagged": (Count(20, 100), Count(20, 100))})
        more += 100
    assert needed == pytest.approx(more, abs=100)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, math.nan])
def test_an_alpha_that_is_none_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        Evidence.begin(alpha=alpha)


def test_counts_and_gates_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="3 events of 2"):
        Count(3, 2)
    with pytest.raises(ValueError, match="-1 events"):
        Count(-1, 2)
    with pytest.raises(ValueError, match=r"gate errors: a margin of 1.5"):
        Gate("errors", margin=1.5, tolerance=0.1)
    with pytest.raises(ValueError, match=r"a tolerance of 0.2 is not within 0 and the margin 0.1"):
        Gate("errors", margin=0.1, tolerance=0.2)
    assert Count(1, 2) + Count(3, 4) == Count(4, 6)


def test_planning_says_never_of_what_is_tolerated_or_beyond_the_margin():
    flagged = GATE["flagged"]
    assert requests_to_find(flagged, 0.2, 0.005, 0.1, 0.01) is None
    assert requests_to_find(flagged, 0.2, 0.02, 0.1, 0.01) is not None
    assert requests_to_prove(flagged, 0.2, 0.1, 0.05, difference=0.05) is None
    assert requests_to_find(GATE["disagreement"], 0.0, 0.05, 0.1, 0.01) is None
    assert requests_to_prove(GATE["disagreement"], 0.0, 0.1, 0.05, difference=0.02) is not None


@pytest.mark.parametrize("name", ["errors", "slower", "flagged"])
def test_up_to_about_three_quarters_of_its_margin_a_canary_can_be_proven(name):
    gate = GATE[name]
    assert requests_to_prove(gate, RATES[name], 0.5, 0.05, difference=0.7 * gate.margin) is not None
    assert requests_to_prove(gate, RATES[name], 0.5, 0.05, difference=0.8 * gate.margin) is None


def test_half_the_margin_asks_for_about_four_times_the_requests():
    needed = [requests_to_prove(Gate("flagged", margin, 0.0), 0.2, 0.5, 0.05) for margin in (0.04, 0.02)]
    assert needed[1] / needed[0] == pytest.approx(4, rel=0.1)


def test_planning_asks_for_more_where_less_is_known():
    def find(base=0.2, effect=0.1, share=0.1, alpha=0.007, power=0.95):
        return requests_to_find(GATE["flagged"], base, effect, share, alpha, power)

    assert find(effect=0.05) > 3 * find()
    assert find(power=0.99) > find() > find(power=0.5)
    assert find(alpha=0.001) > find()
    assert find(share=0.5) > find(share=0.1)  # of the canary's requests; of all of them it is less than half
    assert find(share=0.5) / 0.5 < find(share=0.1) / 0.1
