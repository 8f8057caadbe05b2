"""What servers have counted: Prometheus tells of a window, or the servers themselves of all since their start."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from console.errors import ConsoleError
from console.page.drift import Sample
from console.servers.client import Server
from watch import queries as q

WINDOWS = {"1h": "hour", "6h": "6 hours", "24h": "day", "7d": "week"}
"""Windows that one may look at, by Prometheus' names."""
FIRST = "24h"
TIMEOUT_S = 10.0
NEEDED = (
    "visor_drift_images_total",
    "visor_drift_reference_share",
    "visor_drift_limit_quantile",
    "visor_drift_reference_images",
    "visor_drift_effect",
    "visor_decisions_total",
)
_OK = 200


def asked(window: str) -> dict[str, str]:
    """The query of each metric, by its name: counts of the window, and what the archive's reference is."""
    of_window = q.fill(q.images(q.OF_BIN), window=window)
    found = {
        "visor_drift_images_total": of_window,
        "visor_drift_reference_share": q.reference_share(window),
        "visor_drift_limit_quantile": q.reference("visor_drift_limit_quantile", q.OF_FIGURE, window),
        "visor_drift_reference_images": q.reference("visor_drift_reference_images", q.OF_MODEL, window),
        "visor_drift_effect": q.reference("visor_drift_effect", q.OF_MODEL, window),
        "visor_decisions_total": q.increase("visor_decisions_total", (*q.OF_MODEL, "decision"), window=window),
    }
    return {name: q.fill(text, selector='model!=""') for name, text in found.items()}


async def of_prometheus(url: str, window: str) -> tuple[list[Sample], list[str]]:
    """Ask Prometheus. Returns what it has, and why it has nothing where it does not answer."""
    queries = asked(window)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        try:
            results = await asyncio.gather(*(_query(session, url, text) for text in queries.values()))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as err:
            return [], [f"Prometheus does not answer: {err or err.__class__.__name__}"]
    return [
        (name, series["metric"], float(series["value"][1]))
        for name, found in zip(queries, results, strict=True)
        for series in found
    ], []


async def _query(session: aiohttp.ClientSession, url: str, text: str) -> list[dict[str, Any]]:
    async with session.post(f"{url.rstrip('/')}/api/v1/query", data={"query": text}) as answer:
        said = await answer.json(content_type=None)
        if said["status"] != "success":
            raise ValueError(said.get("error", "an error without a sentence"))
        return list(said["data"]["result"])


async def of_servers(servers: Sequence[Server]) -> tuple[list[Sample], list[str]]:
    """Ask each server's own metrics. Returns what they have, and why one has nothing that does not answer."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        found = await asyncio.gather(*(_metrics(session, server) for server in servers))
    return [sample for samples, _ in found for sample in samples], [trouble for _, trouble in found if trouble]


async def _metrics(session: aiohttp.ClientSession, server: Server) -> tuple[list[Sample], str]:
    url = f"{server.address.url}/metrics"
    try:
        async with session.get(url, headers=server.headers()) as answer:
            if answer.status != _OK:
                return [], f"{url} answers {answer.status}"
            return list(parsed(await answer.text())), ""
    except (aiohttp.ClientError, TimeoutError, ValueError, ConsoleError) as err:
        return [], f"{url} does not answer: {err or err.__class__.__name__}"


def parsed(text: str) -> Iterable[Sample]:
    """Read Prometheus' text format, what is needed of it. Raises ValueError."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in NEEDED:
                yield sample.name, sample.labels, sample.value
