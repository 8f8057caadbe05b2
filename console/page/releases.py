"""The view of releases: the rollout's records, read from a folder or a URL, as the loop itself tells of them.

A record is what `visor rollout status NAME --json` prints, or `record.json` of the ConfigMap NAME-rollout, mounted as a folder of
that name.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from rollout.errors import RecordUnreadable
from rollout.evidence import Finding
from rollout.plan import ALL, Phase
from rollout.record import Entry, Record, from_json, sentence

MOST = 50
"""Records that are shown."""
TIMEOUT_S = 5.0
SHOWN = 30
"""Entries of a release's history that are shown."""
KINDS: dict[Phase, str] = {
    "promoted": "pass",
    "rolled-back": "flag",
    "aborted": "flag",
    "superseded": "review",
    "paused": "review",
    "yielded": "review",
}
"""How a phase is coloured; the others are going on."""
SUFFIX = "-rollout"
EXTRA = ("sentence", "findings")
"""What `status --json` has beside the record."""


@dataclass(frozen=True)
class Release:
    """A release as the page shows it; `trouble`: why its record is not read."""

    name: str
    known: Record | None = None
    trouble: str = ""

    @property
    def sentence(self) -> str:
        """Its state in one sentence."""
        return sentence(self.known) if self.known else self.trouble

    @property
    def kind(self) -> str:
        """The class of its colours."""
        return KINDS.get(self.known.state.phase, "going") if self.known else "error"

    @property
    def findings(self) -> list["Gate"]:
        """What each gate knows."""
        if self.known is None:
            return []
        percent = self.known.plan.steps[self.known.state.step].percent
        share = percent / ALL if 0 < percent < ALL else None
        return [Gate(one) for one in self.known.state.evidence.findings(share)]

    @property
    def history(self) -> list[Entry]:
        """What happened, the last first."""
        return list(reversed(self.known.history[-SHOWN:])) if self.known else []


@dataclass(frozen=True)
class Gate:
    """A gate's finding, and where it is drawn."""

    found: Finding

    @property
    def word(self) -> str:
        """What is known, in one word."""
        return "alarm" if self.found.alarm else "proven" if self.found.proven else "open"

    @property
    def bar(self) -> float:
        """The bound as percent of a bar whose half is the margin."""
        return round(min(100.0, 50 * self.found.upper / self.found.gate.margin), 2)


def when(at: float) -> str:
    """Write a time, seconds since the epoch."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


async def read(place: str) -> list[Release]:
    """Read the releases of a folder or a URL; what cannot be read says so in its place."""
    if place.startswith(("http://", "https://")):
        return await _fetched(place)
    folder = Path(place)
    if not folder.is_dir():
        return [Release(folder.name or place, trouble=f"{place} is no folder; VISOR_CONSOLE_RELEASES names it")]
    found = {path.stem.removesuffix(SUFFIX): path for path in sorted(folder.glob("*.json"))}
    if "record" in found:  # the ConfigMap's own folder
        found[folder.name.removesuffix(SUFFIX)] = found.pop("record")
    found |= {path.parent.name.removesuffix(SUFFIX): path for path in sorted(folder.glob("*/record.json"))}
    return [_read(name, path) for name, path in sorted(found.items())[:MOST]]


def _read(name: str, path: Path) -> Release:
    try:
        return parse(name, path.read_text())
    except (OSError, UnicodeDecodeError) as err:
        return Release(name, trouble=f"{path.name} cannot be read: {err.__class__.__name__}")


def parse(name: str, text: str) -> Release:
    """Read one record."""
    try:
        content: Any = json.loads(text)
        known = from_json({key: value for key, value in content.items() if key not in EXTRA})
        return Release(name, known)
    except RecordUnreadable as err:
        return Release(name, trouble=f"its record cannot be read: {err.args[0]}")
    except (ValueError, AttributeError, RecursionError):
        return Release(name, trouble="its record is no JSON of a release")


async def _fetched(url: str) -> list[Release]:
    name = url.rstrip("/").rpartition("/")[2].removesuffix(".json").removesuffix(SUFFIX) or url
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session, session.get(url) as answer:
            if answer.status != 200:
                return [Release(name, trouble=f"{url} answers {answer.status}")]
            return [parse(name, await answer.text())]
    except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as err:
        return [Release(name, trouble=f"{url} does not answer: {err.__class__.__name__}")]
