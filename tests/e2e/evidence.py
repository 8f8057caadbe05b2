"""Releases by evidence, as tests read and begin them."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.cluster import ENVIRONMENT, ROOT, items, state, wait_until
from tests.e2e.releases import Release, Values
from tests.e2e.scraping import SCRAPED_S

ENDS = ("promoted", "rolled-back", "superseded", "yielded", "aborted")
Steps = Sequence[tuple[int, int, int]]
"""Percent, least seconds and least requests of the canary."""


def canary_of(archive: str, prometheus: str, steps: Steps, margins: Mapping[str, float] | None = None) -> Values:
    """The values that release an archive by evidence, with the default margins but for these."""
    listed = [{"percent": percent, "seconds": seconds, "requests": requests} for percent, seconds, requests in steps]
    rollout = {"enabled": True, "prometheus": prometheus, "steps": listed, "margins": margins or {}, "everySeconds": SCRAPED_S}
    return {"canary": {"enabled": True, "archive": archive, "rollout": rollout}}


def visor(*command: str) -> str:
    """`visor rollout` as a user types it."""
    typed = [sys.executable, "-m", "visor.cli", "rollout", *command]
    return subprocess.run(typed, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout


def record(release: Release) -> dict[str, Any]:
    """The release's record; empty while there is none."""
    there = items("configmaps", release.namespace)
    texts = [one.get("data", {}).get("record.json") for one in there if one["metadata"]["name"] == f"{release.name}-rollout"]
    return dict(json.loads(texts[0])) if texts and texts[0] else {}


def described(release: Release) -> str:
    """How the release stands, for an assertion."""
    told = release.kubectl("logs", "--selector", "app.kubernetes.io/component=rollout", "--tail", "40", check=False)
    return f"{record(release).get('state', {})}\n{told}\n{state(release.namespace)}"


def wait_phase(release: Release, *phases: str, timeout_s: float = 600) -> dict[str, Any]:
    """Return the record once it is in one of these phases."""
    wait_until(
        lambda: record(release).get("state", {}).get("phase") in phases, timeout_s, f"the release is {phases}",
        lambda: described(release),
    )  # fmt: skip
    return record(release)


def wait_begun(release: Release, archive: str) -> None:
    """Return once the release of this archive has taken its first step, or ended; the record of the one before is another's."""
    wait_until(
        lambda: record(release).get("plan", {}).get("canary") == archive, 300, f"the release of {archive} has begun",
        lambda: described(release),
    )  # fmt: skip
    wait_phase(release, "stepping", *ENDS)


def wait_share(release: Release, percent: int) -> None:
    """Return once the canary's share is in force."""
    wait_until(
        lambda: record(release).get("state", {}).get("percent") == percent, 300, f"the canary has {percent} %",
        lambda: described(release),
    )  # fmt: skip


def shares(found: dict[str, Any]) -> list[str]:
    """What the record says of the canary's shares, in order."""
    return [entry["what"] for entry in found["history"] if entry["what"].startswith("the canary's share is")]


def ends(release: Release) -> set[str]:
    """How the release's Jobs have ended."""
    jobs = [job for job in items("jobs", release.namespace) if job["metadata"]["name"].startswith(f"{release.name}-rollout-")]
    return {one["type"] for job in jobs for one in job["status"].get("conditions", []) if one["status"] == "True"}


def kill_job(release: Release) -> None:
    """End the pod of the release's Job at once, as a lost node would; the Job makes another one."""
    release.kubectl("delete", "pod", "--selector", "app.kubernetes.io/component=rollout", "--grace-period", "0", "--force")
