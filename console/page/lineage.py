"""Where an archive is from, as MLflow's registry knows it by the archive's digest."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp

TIMEOUT_S = 2.0
_OK = 200
MOST = 1000
"""Archives whose lineage is remembered."""


class Fact(NamedTuple):
    """A line of the lineage: its name, its text, and where that leads, if anywhere."""

    name: str
    text: str
    address: str = ""


@dataclass
class Lineages:
    """Asks MLflow once for each archive. `url`: its base for browsers, None for none; `inside`: for the console, if another."""

    url: str | None
    inside: str | None = None
    _known: dict[str, tuple[Fact, ...]] = field(default_factory=dict)

    async def of(self, digest: str) -> tuple[tuple[Fact, ...], str]:
        """The facts of an archive, and a sentence where there are none."""
        if not self.url:
            return (), "known to MLflow's registry by the archive's digest; VISOR_CONSOLE_MLFLOW links to it"
        if not digest:
            return (), "the server does not say which archive answered"
        if digest in self._known:
            return self._known[digest], ""
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
                found = await self._ask(session, digest)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return (), "MLflow does not answer"
        if not found:
            return (), "MLflow's registry has no archive of this digest"
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[digest] = found
        return found, ""

    async def _ask(self, session: aiohttp.ClientSession, digest: str) -> tuple[Fact, ...]:
        base = (self.url or "").rstrip("/")
        asked = (self.inside or base).rstrip("/")
        versions = await _get(
            session, f"{asked}/api/2.0/mlflow/model-versions/search", filter=f"tags.archive_digest = '{digest}'"
        )
        if not versions.get("model_versions"):
            return ()
        one = versions["model_versions"][0]
        name, number, run = str(one["name"]), str(one["version"]), str(one.get("run_id") or "")
        registered = Fact(
            "Registered as",
            f"{name}, version {number}",
            f"{base}/#/models/{quote(name, safe='')}/versions/{quote(number, safe='')}",
        )
        if not run:
            return (registered,)
        info = (await _get(session, f"{asked}/api/2.0/mlflow/runs/get", run_id=run))["run"]["info"]
        address = f"{base}/#/experiments/{quote(str(info['experiment_id']), safe='')}/runs/{quote(run, safe='')}"
        return (registered, Fact("MLflow run", str(info.get("run_name") or run), address))


async def _get(session: aiohttp.ClientSession, address: str, **parameters: str) -> dict[str, Any]:
    async with session.get(address, params=parameters) as answer:
        if answer.status != _OK:
            raise ValueError(f"MLflow answers {answer.status}")
        return dict(await answer.json(content_type=None))
