"""From each chart that was released to this one and back, under load."""

import json
from pathlib import Path

import pytest

from tests.e2e.cluster import CHARTS, run, state, wait_until
from tests.e2e.load import Load
from tests.e2e.releases import Archives, Release, base_values

# `helm package` of each version as it was released; this version's images still keep to what those charts ask of them. 0.1.0
# and 0.2.0 have a GRPCRoute, whose calls the HTTPRoute takes over: Helm changes that one first, then removes the other.
RELEASED = sorted(Path(__file__).parent.glob("charts/visor-*.tgz"))


@pytest.mark.parametrize(
    "released",
    [*(pytest.param(older, marks=pytest.mark.full) for older in RELEASED[:-1]), RELEASED[-1]],
    ids=lambda package: package.stem,
)
def test_a_released_chart_is_upgraded_and_rolled_back_without_a_lost_request(
    namespace: str, archives: Archives, released: Path
) -> None:
    release = Release(released.stem.replace(".", "-"), namespace, base_values(archives))
    release.upgrade(chart=released)
    release.wait_ready()
    with Load(release.target, archives.picture) as load:
        load.wait_for(200)
        for change, chart, version in (
            (lambda: upgrade(release), f"visor-{version_of(CHARTS / 'visor')}", "2"),
            (lambda: release.helm("rollback"), released.stem, "1"),
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
    run("helm", "uninstall", release.name, "--namespace", namespace, "--wait")


def upgrade(release: Release) -> None:
    """As docs/kubernetes.md has it: what was set stays, and what is new has the new chart's default."""
    release.helm("upgrade", str(CHARTS / "visor"), "--reset-then-reuse-values", "--set", "archive.uri=pvc://models/v2")
    kept = json.loads(run("helm", "get", "values", release.name, "--namespace", release.namespace, "--output", "json"))
    assert kept == {**release.values, "archive": {**release.values["archive"], "uri": "pvc://models/v2"}}


def chart_of(release: Release) -> str:
    """The chart and version of its present revision."""
    helm = ("helm", "list", "--namespace", release.namespace, "--filter", f"^{release.name}$", "--output", "json")
    [listed] = json.loads(run(*helm))
    return str(listed["chart"])


def version_of(chart: Path) -> str:
    """The version in a chart's Chart.yaml."""
    lines = (chart / "Chart.yaml").read_text().splitlines()
    return next(line.removeprefix("version: ") for line in lines if line.startswith("version: "))
