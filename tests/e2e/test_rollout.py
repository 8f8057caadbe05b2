"""A release by evidence on a cluster, by values alone: a good canary takes the stable one's place, a crashing one is taken back.

The steps are short and the margins wide, for some minutes of traffic; docs/rollout.md has what the defaults need.
"""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import items, wait_until
from tests.e2e.evidence import ENDS, canary_of, described, ends, kill_job, record, shares, visor, wait_phase, wait_share
from tests.e2e.load import Load
from tests.e2e.releases import Archives, Release, base_values
from tests.e2e.scraping import scraping
from tests.e2e.worse_archives import ERRING, Archivist

pytestmark = pytest.mark.timeout(1200)

STEPS = [(20, 15, 60), (50, 30, 200), (100, 10, 0)]
MARGINS = {"errors": 0.03, "refusals": 0.03, "slow": 0.15, "slower": 0.15, "flagged": 0.1, "reviewed": 0.1}
AFTER = 200  # requests after the end
KILL = """
import os, signal
for pid in filter(str.isdigit, os.listdir('/proc')):
    if 'org.pytorch.serve' in open(f'/proc/{pid}/cmdline').read() and int(pid) != os.getpid():
        os.kill(int(pid), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def prometheus(release: Release) -> Iterator[str]:
    """A Prometheus that scrapes the release's pods."""
    with scraping(release) as url:
        yield url


@pytest.fixture
def load(release: Release, archives: Archives) -> Iterator[Load]:
    """Ten requests a second of each protocol."""
    with Load(release.target, archives.picture) as running:
        running.wait_for(100)
        yield running


def test_a_good_canary_takes_the_stable_release_s_place_untouched_although_the_job_is_killed(
    release: Release, load: Load, prometheus: str
) -> None:
    release.upgrade(canary_of("pvc://models/v2", prometheus, STEPS, MARGINS))
    wait_share(release, 20)
    kill_job(release)
    ended = wait_phase(release, *ENDS)
    assert ended["state"]["phase"] == "promoted", described(release)
    wait_share(release, 0)
    assert shares(record(release)) == [f"the canary's share is {percent} % now" for percent in (20, 50, 100, 0)]
    release.wait_ready()
    mark = len(load.outcomes)
    load.wait_for(mark + AFTER)
    assert load.failures == []
    assert set(load.versions(since=mark)) == {"2"}

    # Helm: what its values still say is refused, and what the record gives is what the cluster has already.
    assert "has promoted pvc://models/v2" in release.upgrade(check=False)
    before = {pod["metadata"]["name"] for pod in release.pods()}
    values = json.loads(visor("status", release.name, "--namespace", release.namespace, "--values"))
    assert values == {"archive": {"uri": "pvc://models/v2", "digest": ""}, "canary": {"enabled": False}}
    release.upgrade(values)
    release.wait_ready()
    assert {pod["metadata"]["name"] for pod in release.pods()} == before
    assert release.pods(release.canary) == []
    load.wait_for(len(load.outcomes) + AFTER)
    assert load.failures == []
    reasons = {event["reason"] for event in items("events", release.namespace) if event["reason"].startswith("Rollout")}
    assert {"RolloutStepping", "RolloutPromoting", "RolloutPromoted"} <= reasons


def test_a_crashing_canary_is_taken_back_in_its_first_step(release: Release, load: Load, prometheus: str) -> None:
    release.upgrade({"archive": {"uri": "pvc://models/v2"}, "canary": {"enabled": False}})
    release.wait_ready()
    begun = len(load.outcomes)
    release.upgrade(canary_of("pvc://models/v1", prometheus, STEPS, MARGINS))
    wait_share(release, 20)
    pod = release.pods(release.canary)[0]["metadata"]["name"]
    release.kubectl("exec", pod, "--container", "kserve-container", "--", "python", "-c", KILL, check=False)
    ended = wait_phase(release, *ENDS)
    assert ended["state"]["phase"] == "rolled-back", described(release)
    assert shares(ended)[:1] == ["the canary's share is 20 % now"]
    wait_share(release, 0)
    mark = len(load.outcomes)
    load.wait_for(mark + AFTER)
    assert set(load.versions(since=mark)) == {"2"}
    assert [outcome for outcome in load.outcomes[mark:] if outcome.error] == []
    met = [outcome for outcome in load.outcomes[begun:] if outcome.error or outcome.version == "1"]
    total = len(load.outcomes) - begun
    assert len(met) <= total * 0.2 + 3 * (total * 0.2 * 0.8) ** 0.5
    wait_until(lambda: "Failed" in ends(release), 60, "the Job has failed", lambda: described(release))


@pytest.fixture(scope="module")
def revisions(namespace: str, archives: Archives) -> Iterator[Release]:
    """A release in Knative mode."""
    made = Release("revisions", namespace, base_values(archives))
    made.upgrade({"mode": "Knative", "protocol": "rest", "knative": {"minScale": 1, "maxScale": 2}})
    made.wait_ready()
    yield made
    made.helm("uninstall", "--ignore-not-found", "--wait")


@pytest.mark.full
def test_in_knative_mode_a_good_revision_is_promoted_and_an_erring_one_taken_back(
    revisions: Release, archivist: Archivist, archives: Archives, prometheus: str
) -> None:
    erring = archivist.make("erring", "v1", (), 0.8, ERRING.format(share=0.1))
    with Load(revisions.target, archives.picture, protocols=("rest",)) as load:
        load.wait_for(50)
        revisions.upgrade(canary_of("pvc://models/v2", prometheus, STEPS, MARGINS))
        wait_share(revisions, 50)
        kill_job(revisions)
        ended = wait_phase(revisions, *ENDS)
        assert ended["state"]["phase"] == "promoted", described(revisions)
        assert shares(ended) == [f"the canary's share is {percent} % now" for percent in (20, 50, 100)]
        mark = len(load.outcomes)
        load.wait_for(mark + AFTER)
        assert load.failures == []
        assert set(load.versions(since=mark)) == {"2"}
        revisions.upgrade({"archive": {"uri": "pvc://models/v2"}, "canary": {"enabled": False}})

        begun = len(load.outcomes)
        revisions.upgrade(canary_of(erring, prometheus, [(20, 120, 400), (100, 10, 0)], MARGINS))
        wait_share(revisions, 20)
        kill_job(revisions)
        ended = wait_phase(revisions, *ENDS)
        assert ended["state"]["phase"] == "rolled-back", described(revisions)
        assert ended["state"]["reason"].startswith("errors:")
        assert shares(ended)[:1] == ["the canary's share is 20 % now"]
        wait_share(revisions, 0)
        mark = len(load.outcomes)
        load.wait_for(mark + AFTER)
        assert set(load.versions(since=mark)) == {"2"}
        met = [outcome for outcome in load.outcomes[begun:mark] if outcome.error or outcome.version == "1"]
        assert len(met) <= (mark - begun) * 0.2 + 3 * ((mark - begun) * 0.2 * 0.8) ** 0.5
