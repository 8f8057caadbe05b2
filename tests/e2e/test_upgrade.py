"""From each of the chart's versions to this one and back, under load."""

import json
from pathlib import Path

import pytest

from tests.e2e.cluster import CHARTS, run, state, wait_until
from tests.e2e.load import Load
from tests.e2e.releases import Archives, Release, base_values

# `helm package` of the versions before, whose images' contract this version's images still keep. 0.1.0 and 0.2.0 have a
# GRPCRoute, whose calls the HTTPRoute takes over: Helm changes that one first, then removes the other.
PREVIOUS = sorted(Path(__file__).parent.glob("charts/visor-*.tgz"))


@pytest.mark.parametrize("previous", PREVIOUS, ids=lambda path: path.stem)
def test_a_chart_before_is_upgraded_and_rolled_back_without_a_lost_request(
    namespace: str, archives: Archives, previous: Path
) -> None:
    release = Release(f"digits-{PREVIOUS.index(previous)}", namespace, base_values(archives))
    release.upgrade(chart=previous)
    release.wait_ready()
    with Load(release.target, archives.picture) as load:
        load.wait_for(200)
        for change, chart, version in (
            (lambda: release.upgrade({"archive": {"uri": "pvc://models/v2"}}), f"visor-{version_of(CHARTS / 'visor')}", "2"),
            (lambda: release.helm("rollback"), previous.stem, "1"),
        ):
            change()
            release.wait_ready()
            assert chart_of(release) == chart
            wait_until(
                lambda version=version: set(load.versions(since=len(load.outcomes) - 40)) == {version},
                180, f"version {version} answers", lambda: state(namespace),
            )  # fmt: skip
            load.wait_for(len(load.outcomes) + 200)
    assert load.failures == []
    release.helm("uninstall")


def chart_of(release: Release) -> str:
    """The chart and version of its present revision."""
    [listed] = json.loads(run("helm", "list", "--namespace", release.namespace, "--output", "json"))
    return str(listed["chart"])


def version_of(chart: Path) -> str:
    """The version in a chart's Chart.yaml."""
    lines = (chart / "Chart.yaml").read_text().splitlines()
    return next(line.removeprefix("version: ") for line in lines if line.startswith("version: "))
