"""The edge's client of TorchServe: it asks a worker or `/predictions/NAME` about one image a call, and polls readiness."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from handlers.errors import VisorError
from transformer.errors import SHOWN_CHARACTERS, ModelNotReady, UpstreamFailed, item_error, show
from transformer.images import Picture
from transformer.tensors import Buffer
from transformer.upstream.connection import Reply
from transformer.upstream.loopback import Connections
from transformer.upstream.workers import HANG_S, Workers

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 2.0
"""How long one poll of the management API may take."""

UNREADABLE: dict[str, dict[str, str]] = {}
"""The keys of a file that exists and cannot be read; by its identity the log says so once."""

NOT_READY = {404: "it is not loaded yet", 507: "its worker died and is started again"}
"""What TorchServe's own statuses say of a model that is not ready. 503 has several meanings, which its JSON tells apart."""


class TorchServe:
    """Kept-alive connections to a TorchServe on loopback. The caller bounds how many calls are under way, and for how long.

    `workers`: how many were READY when TorchServe was last asked, None before the first time. `direct`: the workers that are
    asked without TorchServe in between. `on_change` is called when either may have changed.
    `keys`: the file of the keys without which TorchServe answers nothing, None where it asks for none.
    """

    def __init__(
        self,
        url: str,
        name: str,
        management_url: str,
        worker_sockets: Path | None = None,
        keys: Path | None = None,
        *,
        ready_cache_s: float = 1.0,
        hang_s: float = HANG_S,
    ) -> None:
        self.workers: int | None = None
        self.on_change: Callable[[], None] = lambda: None
        self.direct = Workers(worker_sockets, self._begin_through_java, lambda: self.on_change(), hang_s)
        self._keys_file = keys
        self._keys: dict[str, dict[str, str]] = {}
        self._inference = Connections(url)
        self._management = Connections(management_url)
        self._name = name
        self._ready_cache_s = ready_cache_s
        self._ready_until = 0.0
        self._asking = asyncio.Lock()

    def close(self) -> None:
        """Close the idle connections."""
        self._inference.close()
        self._management.close()
        self.direct.close()

    def begin(
        self, picture: Picture, *, explain: bool, threshold: float | None, group: str | None = None
    ) -> "asyncio.Future[Reply]":
        """Ask about one image, for `answer` to read the reply. Cancelled, it is not withdrawn, but its reply is dropped."""
        headers: dict[str, str] = {}
        if picture.size is not None:
            headers["x-visor-shape"] = f"{picture.size[0]},{picture.size[1]}"
        if explain:
            headers["x-visor-explain"] = "true"
        if threshold is not None:
            headers["x-visor-threshold"] = repr(threshold)
        if group is not None:
            headers["x-visor-group"] = quote(group, safe="")
        return self.direct.begin(headers, picture.body)

    def _begin_through_java(self, headers: Mapping[str, str], body: Buffer) -> "asyncio.Future[Reply]":
        """Ask where no worker can be asked directly. Cancelled, it closes its connection."""
        if self.direct.hang:  # TorchServe would send it to one of them
            reply = asyncio.get_running_loop().create_future()
            reply.set_exception(ConnectionError("no worker answers"))
            return reply
        headers = {**headers, "Content-Type": "application/octet-stream", **self._authorization("inference")}
        return asyncio.create_task(self._inference.request("POST", f"/predictions/{self._name}", headers, body))

    async def answer(self, call: "asyncio.Future[Reply]") -> Any:
        """Await the handler's JSON for the image of a call; it goes on when its caller no longer waits and a worker is at it.

        Raises the handler's own error for this image; ModelNotReady or UpstreamFailed for all the rest.
        """
        try:
            reply = await asyncio.shield(call)
        except asyncio.CancelledError:
            self.direct.withdraw(call)
            raise
        except OSError as err:
            raise self._not_ready(f"the connection to TorchServe failed ({err})") from err
        answer = _parse(reply.body)
        if reply.status == 200 and answer is not None:
            return answer
        raise self._error(reply, answer)

    @property
    def stale(self) -> bool:
        """Whether `ready` would ask TorchServe."""
        return time.monotonic() >= self._ready_until

    @property
    def known_ready(self) -> bool:
        """What `ready` would say without asking: by TorchServe's last answer, and by the workers that hang now."""
        return bool(self.workers) and not self.direct.hang

    def forget(self) -> None:
        """Have `ready` ask TorchServe when it is called next."""
        self._ready_until = 0.0

    async def ready(self) -> bool:
        """Whether TorchServe has a READY worker for the model, and not all hang; it is asked at most once in `ready_cache_s`."""
        async with self._asking:
            if self.stale:
                self._keys = self._read_keys()
                workers = await self._count_workers()
                await self.direct.connect_new()
                self.workers = workers  # now: who waits for the first number is not to go past those that can be asked directly
                self._ready_until = time.monotonic() + self._ready_cache_s
                self.on_change()
        return self.known_ready

    async def _count_workers(self) -> int:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                path = f"/models/{self._name}"
                reply = await self._management.request("GET", path, self._authorization("management"))
            return [worker["status"] for version in _parse(reply.body) for worker in version["workers"]].count("READY")
        except OSError as err:  # a timeout is one too
            logger.debug("TorchServe's management API does not answer: %s", err)
            return 0
        except (KeyError, TypeError):
            return 0  # {"code": 404, ...}: not registered; 400: TorchServe was started anew, and so were its keys

    def _read_keys(self) -> dict[str, dict[str, str]]:
        """Read TorchServe's keys by API; there are none while their file does not exist."""
        try:
            keys = _parse(self._keys_file.read_bytes()) if self._keys_file else None
        except FileNotFoundError:
            return {}
        except OSError as err:
            if self._keys is not UNREADABLE:
                logger.warning("TorchServe's keys cannot be read, so it is not ready for this edge: %s", err)
            return UNREADABLE
        return keys if isinstance(keys, dict) else {}

    def _authorization(self, api: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._keys[api]['key']}"} if api in self._keys else {}

    def _error(self, reply: Reply, answer: Any) -> VisorError:
        match answer:
            case {"error": {"code": str(code), "message": str(message)}} if 400 <= reply.status < 500:
                return item_error(code, message)
            case {"type": "ServiceUnavailableException"}:
                return self._not_ready("it has no free worker")
            case {"type": "InvalidKeyException"}:
                return self._not_ready("it was started anew")
        if reply.status in NOT_READY:
            return self._not_ready(NOT_READY[reply.status])
        return UpstreamFailed(f"TorchServe answered {reply.status}: {show(reply.body[:SHOWN_CHARACTERS])}")

    def _not_ready(self, why: str) -> ModelNotReady:
        self.forget()
        return ModelNotReady(f"model {self._name} cannot take a request now, {why}; try again in a few seconds")


def _parse(body: bytes) -> Any:
    """Parse JSON, or what Python writes for it where a number is NaN; None for what is neither."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if b"NaN" not in body:
            return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
