"""The servers behind the console, asked over V2 REST: which models they have, and what they answer about a picture."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson

from console.errors import ConsoleError, ModelUnknown, ServerDown, ServerFailed, ServerRefused, ServerSlow, told
from console.log import get_logger
from console.metrics import Metrics
from console.servers.line import Line
from console.servers.models import Answer, Model, Question
from console.servers.v2 import HEADER, answer_of, model_of, open_answer, request_of
from console.settings import ServerAddress, Settings

log = get_logger(__name__)

Tell = Callable[[Answer, bytes, Sequence[str]], None]
"""Takes an answer, its picture and the model's labels."""

FRESH_S = 5.0
"""For so long what a server said of its models is taken as true; an answer of another archive ends that at once."""
ASKED_AGAIN_S = 1.0
"""A server is asked so often at most for models that it did not tell of: whoever tries names does not load it."""
MOST_ARCHIVES = 64
"""Archives of which a server's word is kept: those of its models, and those before them."""
CONNECT_S = 3.0
HANDED_ON = frozenset({400, 404, 408, 413, 503, 504})
"""Statuses of a server that are the client's to know. By others it refuses what the console itself has made: 502."""
ABOUT_S = 5.0
"""Seconds within which a server must say what it serves."""


@dataclass
class Server:
    """One server. `models`: as it told last, by name; `trouble`: why it did not tell, None where it did.

    `archives`: the models that it told of, by the digest of their archives, a few of the last.
    """

    address: ServerAddress
    line: Line
    models: dict[str, Model] = field(default_factory=dict)
    archives: dict[str, Model] = field(default_factory=dict)
    told: float = float("-inf")
    trouble: ConsoleError | None = None
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def headers(self) -> dict[str, str]:
        """The headers of every request to it; the token's file is read each time, so that a new token counts at once."""
        headers = {} if self.address.host is None else {"Host": self.address.host}
        if self.address.token_file is not None:
            headers["Authorization"] = f"Bearer {_token(self.address.token_file)}"
        return headers


class Servers:
    """All servers of a console, open within `async with`."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._session: aiohttp.ClientSession
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self.all: Sequence[Server] = ()
        self.tell: Tell = lambda _answer, _content, _labels: None
        """Called with each answer; it must return at once."""

    async def __aenter__(self) -> Self:
        settings = self._settings
        # The line, not the connector, says how many are asked at once. Answers are short: nothing is gained by compression.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=30)
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=settings.timeout_s, connect=CONNECT_S),
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            max_line_size=16384,
        )
        self._session = await self._stack.enter_async_context(session)
        self.all = tuple(
            Server(address, Line(settings.concurrency, settings.max_waiting, settings.max_wait_s, self._metrics))
            for address in settings.servers
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def models(self) -> list[Model]:
        """What every server tells of its models, in the settings' order; a name that two servers have comes once.

        Raises the first server's ServerDown or ServerFailed where none of them tells anything.
        """
        await asyncio.gather(*(self._refresh(server) for server in self.all))
        found: dict[str, Model] = {}
        for server in self.all:
            for name, model in server.models.items():
                found.setdefault(name, model)
        troubles = [server.trouble for server in self.all if server.trouble]
        if not found and troubles:
            raise troubles[0]
        return list(found.values())

    async def model(self, name: str | None = None) -> Model:
        """A model by its name; without one the only model. Raises ModelUnknown, ServerDown, ServerFailed."""
        return (await self._find(name))[1]

    async def promises(self) -> dict[str, float]:
        """The bound of each archive that servers told of, by its digest. Who never told, as after a start, is waited for."""
        self._refresh_stale()
        await asyncio.gather(*(self._refresh(server) for server in self.all if not server.archives))
        return {one.digest: one.bound.level for server in self.all for one in server.archives.values() if one.bound}

    async def ask(self, model: str | None, content: bytes, question: Question, *, tell: bool = True) -> Answer:
        """Ask about one encoded picture. `model`: its name, None for the only one; `tell`: whether `self.tell` is told.

        Raises ModelUnknown, LineFull, ServerDown, ServerSlow, ServerFailed, and ServerRefused with the server's own code.
        """
        server, known = await self._find(model)
        headers, body = request_of(content, question)
        address = f"/v2/models/{quote(known.name, safe='')}/infer"

        async def call() -> tuple[bytes, str | None]:
            with self._metrics.server_seconds.time():
                return await self._post(server, address, body, headers)

        try:
            answered, length = await server.line.ask(call)
            opened = open_answer(answered, length, known.name)
            known = await self._archive(server, known, str(opened[0].get("archive_digest", "")))
            answer = answer_of(opened, known)
        except ConsoleError as err:
            self._metrics.pictures.labels(known.name, told(err).code).inc()
            raise
        self._metrics.pictures.labels(known.name, answer.error.code if answer.error else answer.decision).inc()
        if tell:
            self.tell(answer, content, known.labels)
        return answer

    async def _archive(self, server: Server, known: Model, digest: str) -> Model:
        """What is known of the archive that answered: another than told last where a release goes on, whose labels may be others.

        One that never told of itself, as a canary's pod was not yet asked, is taken for the last that did.
        """
        if digest not in server.archives and digest != known.digest:
            await self._refresh(server, ASKED_AGAIN_S)
        return server.archives.get(digest, known)

    async def troubles(self) -> list[str]:
        """The codes of what keeps servers from telling what they serve, each once."""
        await asyncio.gather(*(self._refresh(server) for server in self.all))
        return sorted({server.trouble.code for server in self.all if server.trouble})

    async def _find(self, name: str | None) -> tuple[Server, Model]:
        """The server that has a model, and the model, by what was told last; who told nothing of that name is asked first."""
        self._refresh_stale()
        if (found := self._known(name)) is None:
            await asyncio.gather(*(self._refresh(server, ASKED_AGAIN_S) for server in self.all))
            found = self._known(name)
        if found is not None:
            return found
        for server in self.all:
            if server.trouble:
                raise server.trouble
        shown = ", ".join(sorted({model for server in self.all for model in server.models})) or "none"
        raise ModelUnknown(f"no server of this console has that model; there is {shown}")

    def _known(self, name: str | None) -> tuple[Server, Model] | None:
        """What is known of a model; of several servers that have it, one that answers. Raises ModelUnknown for one of several."""
        known = [(server, model) for server in self.all for model in server.models.values() if name in (None, model.name)]
        names = sorted({model.name for _, model in known})
        if len(names) > 1:
            raise ModelUnknown(f"this console has several models ({', '.join(names)}); name one by `model`")
        return min(known, key=lambda found: found[0].trouble is not None, default=None)

    def _refresh_stale(self) -> None:
        """Ask servers that told some time ago what they serve now, while nobody waits for it; not one that is being asked."""
        for server in self.all:
            if time.monotonic() - server.told > FRESH_S and server.models and not server.asking.locked():
                task = asyncio.create_task(self._refresh(server))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _refresh(self, server: Server, within_s: float = FRESH_S) -> None:
        """Ask a server what it serves, unless it has told within so many seconds; what it told stays where it does not answer."""
        began = time.monotonic()
        async with server.asking:
            if server.told > began or began - server.told <= within_s:
                return
            try:
                names = [server.address.model] if server.address.model else await self._names(server)
                told = [await self._get(server, f"/v2/models/{quote(name, safe='')}") for name in names]
                server.models = {one.name: one for one in (model_of(each, server.address.grafana) for each in told)}
                kept = [*server.archives.values(), *server.models.values()][-MOST_ARCHIVES:]
                server.archives = {one.digest: one for one in kept}
                server.trouble = None
            except ConsoleError as err:
                if server.trouble is None:
                    log.warning("a server does not tell what it serves", server=server.address.url, reason=str(err))
                server.trouble = ServerDown(Exception.__str__(err)) if isinstance(err, ServerRefused) else err
            server.told = time.monotonic()

    async def _names(self, server: Server) -> list[str]:
        body, _ = await self._post(server, "/v2/repository/index", b"{}", {"Content-Type": "application/json"}, ABOUT_S)
        try:
            return [str(one["name"]) for one in orjson.loads(body)]
        except (ValueError, KeyError, TypeError) as err:
            raise ServerFailed("a server does not list its models as V2 does; name one in the settings (`model`)") from err

    async def _get(self, server: Server, path: str) -> Any:
        body, _ = await self._request("GET", server, path, None, {}, ABOUT_S)
        try:
            return orjson.loads(body)
        except ValueError as err:
            raise ServerFailed("a server answered what is no JSON where V2 has a model's metadata") from err

    async def _post(
        self, server: Server, path: str, body: bytes, headers: dict[str, str], most_s: float | None = None
    ) -> tuple[bytes, str | None]:
        return await self._request("POST", server, path, body, headers, most_s)

    async def _request(
        self, method: str, server: Server, path: str, body: bytes | None, headers: dict[str, str], most_s: float | None
    ) -> tuple[bytes, str | None]:
        """Ask once, and once more where a connection that was kept open had ended meanwhile. Returns body and its header."""
        timeout = self._session.timeout if most_s is None else aiohttp.ClientTimeout(total=most_s, connect=CONNECT_S)
        for attempt in range(2):
            try:
                async with self._session.request(
                    method,
                    server.address.url + path,
                    data=body,
                    headers={**server.headers(), **headers},
                    timeout=timeout,
                    allow_redirects=False,
                ) as answer:
                    content = await answer.read()
                    if answer.status != 200:
                        raise _refusal(answer.status, answer.headers.get("Retry-After"), content)
                    return content, answer.headers.get(HEADER)
            except aiohttp.ClientConnectorError as err:
                log.warning("a server cannot be reached", server=server.address.url, reason=str(err))
                raise ServerDown("the model's server cannot be reached; is it running? The console's log says where") from err
            except TimeoutError as err:
                log.warning("a server does not answer in time", server=server.address.url, path=path)
                raise ServerSlow("the model's server did not answer in time; ask again, or look at the server's log") from err
            except aiohttp.ClientError as err:
                if attempt:
                    log.warning("a server ended a connection", server=server.address.url, reason=str(err))
                    raise ServerDown("the model's server ended the connection; it may be restarting: ask again") from err
        raise AssertionError("the second attempt has answered or raised")


def _refusal(status: int, retry_after: str | None, content: bytes) -> ConsoleError:
    """The error that an answer of another status than 200 is."""
    try:
        said = orjson.loads(content)
        code, sentence = str(said["code"]), str(said["error"])
    except (ValueError, KeyError, TypeError):
        code = sentence = ""
    if status == 401:
        return ServerFailed("the model's server asks for another token than the console has; see `token_file` of its settings")
    if not code:
        if status in (502, 503, 504):
            return ServerDown(f"what stands before the model's server answered {status}: no server is ready behind it")
        return ServerFailed(f"the model's server answered {status} and no code of visor's; is it the address of a V2 server?")
    wait = int(retry_after) if retry_after and retry_after.isdecimal() else None
    return ServerRefused(
        code, 502 if status == 500 else status, sentence.removeprefix(f"{code}: "), wait if status == 503 else None
    )


def _token(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as err:
        log.warning("a server's token cannot be read", file=str(path), reason=str(err))
        raise ServerFailed("the file of the token for the model's server cannot be read; see the console's log") from err
