"""Releases by evidence with the default margins, under load: what is good is promoted, and so is what is hardly slower.

What is worse is rolled back. What is bad about an archive is in it, as it would be: its handler, or its threshold. In each
release the Job's pod is killed once. `--log-cli-level INFO` shows the figures.
"""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.e2e.cluster import apply, get, kubectl, state, wait_until
from tests.e2e.evidence import ENDS, Steps, canary_of, described, kill_job, record, shares, wait_begun, wait_phase, wait_share
from tests.e2e.load import Load, call_many
from tests.e2e.releases import Archives, Release, base_values
from tests.e2e.scraping import SCRAPED_S, scraping
from tests.e2e.worse_archives import ERRING, SLOWER, Archivist, scored
from tests.integration.running import Workspace

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]
logger = logging.getLogger(__name__)

RATE = 15.0  # of each protocol
LASTS_S, REQUESTS = 90, 1500
"""Of the first step; an effect that matters takes a part of these requests: docs/rollout.md lists how many."""
GOOD: Steps = [(5, 30, 50), (25, 60, 400), (50, 120, 2000), (100, 30, 0)]
SHADOW = {"shadowPercent": 100, "rollout": {"shadow": {"seconds": 20, "images": 300}}}
QUIET_S = 30
LEAST = 10_000  # requests of the good release
AFTER = 200

POSITIVE = ("0", "1", "2", "3", "4")
THRESHOLD, SHIFTED = 0.5, 0.05
FLAGGED, BETWEEN, PASSED = 8, 6, 26  # of 40 pictures: 20 % are flagged at THRESHOLD, 35 % at SHIFTED


@pytest.fixture(scope="module")
def pictures(workspace: Workspace, archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """40 pictures, of which 20 % are flagged at THRESHOLD and 35 % at SHIFTED."""
    dataset = workspace.path / json.loads((workspace.home / "digits/run.json").read_text())["dataset_root"]
    there = [path.read_bytes() for path in sorted(dataset.rglob("*.png"))]
    known = scored(archives.folder / "v1/digits.mar", tmp_path_factory.mktemp("unpacked"), POSITIVE, there)
    flagged = [picture for picture, score in zip(there, known, strict=True) if score > THRESHOLD + 0.1]
    between = [picture for picture, score in zip(there, known, strict=True) if 2 * SHIFTED < score < THRESHOLD - 0.1]
    passed = [picture for picture, score in zip(there, known, strict=True) if score < SHIFTED / 2]
    assert len(flagged) >= FLAGGED
    assert between
    assert len(passed) >= PASSED
    return [*flagged[:FLAGGED], *(between * BETWEEN)[:BETWEEN], *passed[:PASSED]]


@pytest.fixture(scope="module")
def stable(namespace: str, archives: Archives, archivist: Archivist) -> Iterator[Release]:
    """A release in Standard mode of an archive that flags 20 % of the pictures."""
    made = Release("digits", namespace, base_values(archives))
    made.upgrade({"archive": {"uri": archivist.make("stable", "v1", POSITIVE, THRESHOLD)}})
    made.wait_ready()
    yield made
    made.helm("uninstall", "--ignore-not-found", "--wait")


@pytest.fixture(scope="module")
def prometheus(stable: Release) -> Iterator[str]:
    """A Prometheus that scrapes the release's pods."""
    with scraping(stable) as url:
        yield url


@pytest.fixture
def load(stable: Release, pictures: list[bytes]) -> Iterator[Load]:
    """A load from before the release until after it."""
    with Load(stable.target, pictures, rate=RATE) as running:
        running.wait_for(300)
        yield running


def p95(release: Release) -> float:
    """The 95th percentile of the stable release's answers, in seconds, from the buckets of its only pod."""
    [pod] = release.pods()
    text = httpx.get(f"http://{pod['status']['podIP']}:8080/metrics").text
    buckets: dict[float, float] = {}
    for bound, count in re.findall(r'^visor_request_seconds_bucket{.*le="([^"]+)".*} (\S+)$', text, re.MULTILINE):
        buckets[float(bound)] = buckets.get(float(bound), 0) + float(count)
    bounds = sorted(buckets)
    [at, *_] = [n for n, bound in enumerate(bounds) if buckets[bound] >= 0.95 * buckets[float("inf")]]
    below = (bounds[at - 1], buckets[bounds[at - 1]]) if at else (0.0, 0.0)
    return below[0] + (bounds[at] - below[0]) * (0.95 * buckets[float("inf")] - below[1]) / (buckets[bounds[at]] - below[1])


@dataclass(frozen=True)
class Worse:
    """A bad archive. `gates`: those that may find it; `slower`: by how many of the stable release's p95; `percent`: its share."""

    gates: tuple[str, ...]
    percent: int = 20
    slower: float = 0.0
    code: str = ""
    threshold: float = THRESHOLD
    in_shadow: bool = False


WORSE = {
    "half-as-slow-again": Worse(("slower", "slow"), percent=50, slower=0.5),
    "three-times-slower": Worse(("slower", "slow"), slower=2.0),
    "erring": Worse(("errors",), code=ERRING.format(share=0.02)),
    "shifted": Worse(("flagged",), threshold=SHIFTED),
    "disagreeing": Worse(("disagreement",), threshold=SHIFTED, in_shadow=True),
}


@pytest.mark.parametrize("name", WORSE)
def test_what_is_worse_is_rolled_back_in_its_first_step_by_the_gate_meant_for_it(
    name: str, stable: Release, archivist: Archivist, load: Load, prometheus: str
) -> None:
    worse = WORSE[name]
    code = worse.code or (SLOWER.format(seconds=worse.slower * p95(stable)) if worse.slower else "")
    archive = archivist.make(name, "v2", POSITIVE, worse.threshold, code)
    stable.upgrade(
        canary_of(archive, prometheus, [(worse.percent, LASTS_S, REQUESTS), (100, 15, 0)]),
        {"canary": SHADOW if worse.in_shadow else {"shadowPercent": 0}},
    )
    wait_begun(stable, archive)
    begun = len(load.outcomes)
    kill_job(stable)
    ended = wait_phase(stable, *ENDS)
    assert ended["state"]["phase"] == "rolled-back", described(stable)
    assert ended["state"]["reason"].split(":")[0] in worse.gates, ended["state"]["reason"]
    wait_share(stable, 0)
    total = len(load.outcomes) - begun
    met = len([outcome for outcome in load.outcomes[begun:] if outcome.error or outcome.version == "2"])
    logger.info("%s: %s; %d requests, %d of users who met it", name, ended["state"]["reason"], total, met)

    load.wait_for(len(load.outcomes) + AFTER)
    share = 0 if worse.in_shadow else worse.percent / 100
    assert met <= total * share + 3 * (total * share * (1 - share)) ** 0.5
    moves = [] if worse.in_shadow else [f"the canary's share is {percent} % now" for percent in (worse.percent, 0)]
    assert shares(record(stable)) == moves
    assert [outcome for outcome in load.outcomes if outcome.error and name != "erring"] == []
    assert {outcome.version for outcome in load.outcomes[-AFTER // 2 :]} == {"1"}


def test_five_percent_slower_is_promoted(stable: Release, archivist: Archivist, load: Load, prometheus: str) -> None:
    archive = archivist.make("hardly-slower", "v2", POSITIVE, THRESHOLD, SLOWER.format(seconds=0.05 * p95(stable)))
    stable.upgrade(canary_of(archive, prometheus, GOOD[1:]), {"canary": {"shadowPercent": 0}})
    wait_begun(stable, archive)
    wait_share(stable, 50)
    kill_job(stable)
    ended = wait_phase(stable, *ENDS, timeout_s=1200)
    assert ended["state"]["phase"] == "promoted", described(stable)
    assert load.failures == []
    back(stable)


def test_a_good_one_holds_without_traffic_and_goes_from_shadow_to_all_requests_untouched(
    stable: Release, archivist: Archivist, pictures: list[bytes], prometheus: str
) -> None:
    archive = archivist.make("good", "v2", POSITIVE, THRESHOLD)
    stable.upgrade(canary_of(archive, prometheus, GOOD), {"canary": SHADOW})
    wait_begun(stable, archive)
    begun = record(stable)["state"]["since"]
    wait_until(
        lambda: record(stable)["looked"] > begun + QUIET_S + SCRAPED_S, 3 * QUIET_S, "it has looked", lambda: described(stable)
    )
    found = record(stable)["state"]
    assert (found["phase"], found["step"], found["percent"]) == ("stepping", 0, 0), described(stable)
    assert "300" in found["held"], found["held"]

    with Load(stable.target, pictures, rate=RATE) as load:
        wait_share(stable, 25)
        kill_job(stable)
        ended = wait_phase(stable, *ENDS, timeout_s=1500)
        assert ended["state"]["phase"] == "promoted", described(stable)
        wait_share(stable, 0)
        stable.wait_ready()
        mark = len(load.outcomes)
        load.wait_for(max(mark + AFTER, LEAST))
        assert load.failures == []
        assert {outcome.version for outcome in load.outcomes[mark:]} == {"2"}
    assert shares(record(stable)) == [f"the canary's share is {percent} % now" for percent in (5, 25, 50, 100, 0)]
    logger.info("good: %d requests, none lost", len(load.outcomes))
    back(stable)


def back(release: Release) -> None:
    """Make the release what it was before the promotion."""
    release.upgrade({"canary": {"enabled": False, "shadowPercent": 0, "rollout": {"enabled": False}}})
    release.wait_ready()


def test_a_dead_canary_costs_its_share_alone_until_it_is_back(
    stable: Release, archivist: Archivist, pictures: list[bytes]
) -> None:
    archive = archivist.make("to-be-killed", "v2", POSITIVE, THRESHOLD)
    by_hand = {"enabled": True, "archive": archive, "trafficPercent": 50, "shadowPercent": 0}
    stable.upgrade({"canary": by_hand | {"rollout": {"enabled": False}}})
    stable.wait_ready(stable.canary)
    wait_until(
        lambda: {one.version for one in call_many(stable.target, pictures[0], 20)} == {"1", "2"}, 60, "both answer",
        lambda: state(stable.namespace),
    )  # fmt: skip
    full = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": stable.namespace}}
    apply(full | {"spec": {"hard": {"pods": "1"}}})  # a successor, which may be ready within seconds, cannot be made
    wait_until(lambda: "used" in get("resourcequota", "full", stable.namespace).get("status", {}), 30, "the quota counts")
    try:
        stable.kubectl("delete", "pod", stable.pods(stable.canary)[0]["metadata"]["name"], "--grace-period", "1", "--wait")
        outcomes = call_many(stable.target, pictures[0], 60)
    finally:
        kubectl("delete", "resourcequota", "full", "--namespace", stable.namespace)
    lost = [outcome for outcome in outcomes if outcome.error]
    assert 15 <= len(lost) <= 45, [outcome.error for outcome in lost]
    assert [one.error for one in lost if not re.search(r"UNAVAILABLE|503|no healthy upstream", one.error)] == []
    assert {outcome.version for outcome in outcomes if not outcome.error} == {"1"}
    stable.set_weights(100, 0)
    wait_until(
        lambda: not [one for one in call_many(stable.target, pictures[0], 20) if one.error], 30, "the stable release answers all"
    )
