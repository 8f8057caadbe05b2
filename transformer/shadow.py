"""The shadow: of a share of the images that were answered here another release, the canary, is asked too, and both are compared.

Users see nothing of it. Images are chosen once a request's answer is known, of either protocol and from the cache of answers too;
they wait in a bounded line of their own for a moment in which no user's image does, and one that finds the line full is dropped.
An answer that does not come in time is given up.
All that becomes of them is counted, and the canary counts none of it among its own requests, which say that they are a shadow's.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import Field, ValidationError

from handlers.errors import ImageError, VisorError
from handlers.spec import Frozen, Spec
from transformer.errors import SHOWN_CHARACTERS, TokensUnusable, show
from transformer.followed import LOOK_S, Followed
from transformer.images import IMAGE, PIXELS, Picture
from transformer.metrics import Metrics
from transformer.request_log import ID_HEADER, Record
from transformer.shadow_answers import Compared, compare, outputs_of, read_row, stable_row
from transformer.tensors import LENGTH
from transformer.tokens import AUTHORIZATION, read_tokens
from transformer.upstream.connection import Reply
from transformer.upstream.dispatch import Question
from transformer.upstream.image_answers import ImageAnswer, Result
from transformer.upstream.loopback import Connections

logger = logging.getLogger(__name__)

HEADER = "x-visor-shadow"
"""The header of a shadow's requests, which the canary does not count among its users'. Elsewhere it means nothing."""

MAX_CALLS = 4
"""Images that the canary is asked about at once."""

MAX_WAITING = 32
"""Images that wait until it is."""

PATIENCE_S = 0.1
"""How long an image waits for such a moment, in which a worker has nothing to do; none does where half of the line is taken."""

DEADLINE_S = 5.0
"""How long the canary has for an image."""

MAX_ANSWER_BYTES = 1 << 20
"""What its answer may take, headers included: one has no heat map, and a hundred bytes or less for each label."""

WARN_S = 60.0
"""Between two lines of the log that say why the canary has no answers."""

MEMORY_SHARE = 1 / 8
"""What these images may take, as a part of what requests may, and beside it: no request is refused for them."""


class Told(Frozen):
    """What a shadow's file says: about what share of the images the canary is asked.

    Whom to ask is no matter of it: whoever may write it would else have users' images and the canary's token sent anywhere.
    """

    percent: float = Field(ge=0, le=100, allow_inf_nan=False)


@dataclass(frozen=True)
class Asked:
    """An image that the canary is asked about.

    `body`: of the request, picture included; `result`: what was answered here; `drawn`: whether it stands for its request;
    `since`: when it was taken, by the loop's clock.
    """

    body: bytes
    head_bytes: int
    request_id: str
    result: ImageAnswer | ImageError
    drawn: bool
    since: float


class Shadow:
    """The shadow of one edge, which does as its file says: a changed one is followed within LOOK_S, without one it does nothing.

    `url`: the canary's. `memory_bytes`: what requests may take. `token_file`: of the tokens of which the canary wants one, too.
    """

    def __init__(
        self, url: str, file: Path, spec: Spec, metrics: Metrics, memory_bytes: int, token_file: Path | None = None
    ) -> None:
        self._url = url
        self._spec = spec
        self._metrics = metrics
        self._files = [Followed(one) for one in (file, token_file) if one]
        self._file, self._token_file = file, token_file
        self._max_bytes = int(MEMORY_SHARE * memory_bytes)
        self._bytes = 0  # of those that wait and those under way
        self._waiting: deque[Asked] = deque()
        self._late: asyncio.TimerHandle | None = None  # when the first of them has waited long enough
        self.is_spare: Callable[[], bool] = lambda: True
        """Whether the edge has a worker without an image; the service says it."""
        self._calls: set[asyncio.Task[None]] = set()
        self._outputs = outputs_of(spec)
        self._path = f"/v2/models/{quote(spec.name, safe='')}/infer"
        self._headers: dict[str, str] = {}
        self._percent = 0.0
        self._warned = -WARN_S
        self._canary = Connections(url, MAX_ANSWER_BYTES)
        self._read()

    async def follow(self) -> None:
        """Do as the file says from now on, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if sum(one.changed() for one in self._files):
                self._read()

    async def close(self) -> None:
        """Give up what waits and what is under way."""
        self._percent = 0.0
        self._waiting.clear()
        if self._late:
            self._late.cancel()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._canary.close()

    def offer(self, questions: Sequence[Question | VisorError], results: Sequence[Result], record: Record) -> None:
        """Choose some of a request's images, now that it has its results. It awaits nothing, and copies the chosen images."""
        if not self._percent:
            return
        asked = [
            (question, result)
            for question, result in zip(questions, results, strict=True)
            # What was refused before anybody was asked, and what is an option's error, has no other answer anywhere.
            if isinstance(question, Question) and isinstance(result, ImageAnswer | ImageError)
        ]
        # Drawn before any is chosen: a request of many images stands for itself no sooner than one of a single image.
        drawn = random.randrange(len(asked)) if asked else 0
        for number, (question, result) in enumerate(asked):
            if self._chosen():
                self._take(question, result, record.id, drawn=number == drawn)

    def _chosen(self) -> bool:
        return 100 * random.random() < self._percent

    def _take(self, question: Question, result: ImageAnswer | ImageError, request_id: str, *, drawn: bool) -> None:
        size = len(question.picture.body)
        if len(self._waiting) >= MAX_WAITING or self._bytes + size > self._max_bytes:
            self._metrics.shadow.count("dropped", drawn=drawn)
            return
        head = orjson.dumps(self._request(question))
        # One copy, as what the client has sent is freed with its request.
        body = b"".join((head, *_binary(question.picture)))
        self._waiting.append(Asked(body, len(head), request_id, result, drawn, asyncio.get_running_loop().time()))
        self._bytes += len(body)
        self._wake()

    def _request(self, question: Question) -> dict[str, Any]:
        """The JSON of a question to the canary, the same that was asked here but for the heat map, which nobody would look at."""
        picture, own = question.picture, {"threshold": question.threshold, "group": question.group}
        tensor, shape = (IMAGE, (1,)) if picture.size is None else (PIXELS, (1, *picture.size, 3))
        size = sum(map(len, _binary(picture)))
        return {
            "inputs": [
                {"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "parameters": {"binary_data_size": size}}
            ],
            "outputs": self._outputs,
            "parameters": {name: value for name, value in own.items() if value is not None},
        }

    def go_on(self) -> None:
        """Ask the canary about images that wait, as a user's request has ended."""
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._calls) < MAX_CALLS and (self.is_spare() or self._is_late(loop.time())):
            asked = self._waiting.popleft()
            call = asyncio.create_task(self._ask(asked))
            self._calls.add(call)
            call.add_done_callback(partial(self._end, asked))
        self._wake()

    def _is_late(self, now: float) -> bool:
        return len(self._waiting) > MAX_WAITING / 2 or now - self._waiting[0].since >= PATIENCE_S

    def _wake(self) -> None:
        """Have `go_on` called once the first image that waits is late; while MAX_CALLS are under way the end of one calls it."""
        if self._waiting and self._late is None and len(self._calls) < MAX_CALLS:
            self._late = asyncio.get_running_loop().call_at(self._waiting[0].since + PATIENCE_S, self._be_late)

    def _be_late(self) -> None:
        self._late = None
        self.go_on()

    def _end(self, asked: Asked, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        self._bytes -= len(asked.body)
        if not call.cancelled() and (err := call.exception()):
            self._count_failure(asked, "error", repr(err))
        self.go_on()

    async def _ask(self, asked: Asked) -> None:
        began = perf_counter()
        headers = {
            **self._headers,
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(asked.head_bytes),
            ID_HEADER: asked.request_id,
            HEADER: "true",
        }
        try:
            async with asyncio.timeout(DEADLINE_S):
                reply = await self._canary.request("POST", self._path, headers, asked.body)
        except TimeoutError:
            self._count_failure(asked, "timeout", f"no answer within {DEADLINE_S:g} s")
        except OSError as err:
            self._count_failure(asked, "error", str(err))
        else:
            self._compare(asked, reply, perf_counter() - began)

    def _compare(self, asked: Asked, reply: Reply, seconds: float) -> None:
        row = read_row(reply, len(self._spec.labels))
        if row is None:
            self._count_failure(asked, "error", f"{reply.status}: {show(reply.body[:SHOWN_CHARACTERS])}")
        else:
            found = compare(stable_row(asked.result, self._spec), row, self._spec)
            self._metrics.shadow.compare(found, seconds, drawn=asked.drawn)

    def _count_failure(self, asked: Asked, result: Compared, why: str) -> None:
        self._metrics.shadow.count(result, drawn=asked.drawn)
        if monotonic() - self._warned >= WARN_S:
            self._warned = monotonic()
            logger.warning("%s, which a shadow asks, has no answer: %s", self._url, why)

    def _read(self) -> None:
        """Do as the file says; one that cannot be used ends the shadow, and the log says why."""
        percent = 0.0
        try:
            told = Told.model_validate_json(self._file.read_bytes())
            self._headers = _authorization(self._token_file) if self._token_file else {}
            percent = told.percent
        except FileNotFoundError:
            pass
        except (OSError, ValidationError, TokensUnusable) as err:
            # The sentence says it, a traceback would bury it.
            logger.error('%s cannot be used, {"percent": 0 to 100} is wanted: %s', self._file, err)  # noqa: TRY400
        if percent == self._percent:
            return
        self._percent = percent
        if percent:
            _ = self._metrics.shadow  # exposed from now on, before the first image is counted
            logger.info("of %g %% of the images %s is asked, too", percent, self._url)
        else:
            self._canary.close()
            logger.info("no canary is asked any more")


def _authorization(token_file: Path) -> dict[str, str]:
    return {AUTHORIZATION: f"Bearer {read_tokens(token_file)[0]}"}


def _binary(picture: Picture) -> tuple[Any, ...]:
    """A picture as V2's binary extension has it behind the JSON."""
    return (picture.body,) if picture.size else (LENGTH.pack(len(picture.body)), picture.body)
