"""TorchServe as the edge sees it: one image a call, to a worker or to `/predictions/NAME`; the management API for readiness."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import orjson

from handlers.errors import VisorError
from transformer.errors import SHOWN_CHARACTERS, ModelNotReady, UpstreamFailed, item_error, show
from transformer.images import Picture
from transformer.loopback import Connections, Reply
from transformer.workers import Workers

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 2.0
# What TorchServe's status means when it is not the handler's: 404 not registered, 507 worker died,
# 503 no worker or a full queue (ServiceUnavailableException) or an exception in the handler (InternalServerException).
NOT_READY = {404: "it is not loaded yet", 507: "its worker died and is started again"}


class TorchServe:
    """Kept-alive connections to a TorchServe on loopback. How many calls are under way, and for how long, the caller bounds.

    `workers`: how many were READY when it was last asked, None before the first time. `direct`: those that are asked without
    TorchServe in between.
    """

    def __init__(
        self, url: str, name: str, management_url: str, worker_sockets: Path | None = None, *, ready_cache_s: float = 1.0
    ) -> None:
        self.workers: int | None = None
        self.direct = Workers(worker_sockets)
        self._inference = Connections(url)
        self._management = Connections(management_url)
        self._name = name
        self._ready_cache_s = ready_cache_s
        self._ready_until = 0.0
        self._asking = asyncio.Lock()

    def close(self) -> None:
        """Close the connections that are idle."""
        self._inference.close()
        self._management.close()
        self.direct.close()

    def begin(self, picture: Picture, *, explain: bool, threshold: float | None) -> "asyncio.Future[Reply]":
        """Ask about one image; `answer` says what came back. Cancelled, it closes its connection."""
        headers: dict[str, str] = {}
        if picture.size is not None:
            headers["x-visor-shape"] = f"{picture.size[0]},{picture.size[1]}"
        if explain:
            headers["x-visor-explain"] = "true"
        if threshold is not None:
            headers["x-visor-threshold"] = repr(threshold)
        reply = self.direct.begin(headers, picture.body)
        if reply is None:
            headers["Content-Type"] = "application/octet-stream"
            path = f"/predictions/{self._name}"
            reply = asyncio.create_task(self._inference.request("POST", path, headers, picture.body))
        return reply

    async def answer(self, call: "asyncio.Future[Reply]") -> Any:
        """The handler's JSON for the image of a call that was begun, which goes on when nobody waits for it any more.

        Raises the handler's own error for this image; ModelNotReady or UpstreamFailed for all the rest.
        """
        try:
            reply = await asyncio.shield(call)
        except OSError as err:
            raise self._not_ready(f"the connection to TorchServe failed ({err})") from err
        answer = _parse(reply.body)
        if reply.status == 200 and answer is not None:
            return answer
        raise self._error(reply, answer)

    async def ready(self) -> bool:
        """True while TorchServe has a READY worker for the model; asked at most once in `ready_cache_s`."""
        async with self._asking:
            if time.monotonic() >= self._ready_until:
                self.workers = await self._count_workers()
                await self.direct.look()
                self._ready_until = time.monotonic() + self._ready_cache_s
        return bool(self.workers)

    async def _count_workers(self) -> int:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                reply = await self._management.request("GET", f"/models/{self._name}")
            return [worker["status"] for version in _parse(reply.body) for worker in version["workers"]].count("READY")
        except OSError as err:  # a timeout is one too
            logger.debug("TorchServe's management API does not answer: %s", err)
            return 0
        except (KeyError, TypeError):
            return 0  # {"code": 404, ...}: not registered

    def _error(self, reply: Reply, answer: Any) -> VisorError:
        match answer:
            case {"error": {"code": str(code), "message": str(message)}} if 400 <= reply.status < 500:
                return item_error(code, message)
            case {"type": "ServiceUnavailableException"}:
                return self._not_ready("it has no free worker")
        if reply.status in NOT_READY:
            return self._not_ready(NOT_READY[reply.status])
        return UpstreamFailed(f"TorchServe answered {reply.status}: {show(reply.body[:SHOWN_CHARACTERS])}")

    def _not_ready(self, why: str) -> ModelNotReady:
        self._ready_until = 0.0
        return ModelNotReady(f"model {self._name} cannot take a request now, {why}; try again in a few seconds")


def _parse(body: bytes) -> Any:
    """JSON, or None for what is not."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
