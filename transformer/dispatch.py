"""A request's images on their way to TorchServe: looked up, in line, asked for, and each answered for itself."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.errors import ImageError, OptionError, VisorError
from handlers.spec import Spec
from transformer.admission import CALLS_PER_WORKER, WAITING_PER_WORKER, AdmissionQueue, Turn
from transformer.answer_cache import AnswerCache, Key, key_of
from transformer.errors import bare
from transformer.images import Picture
from transformer.loopback import Reply
from transformer.metrics import Metrics
from transformer.request_log import Record
from transformer.upstream import TorchServe
from transformer.verdicts import Result, Verdict


@dataclass(frozen=True)
class Bounds:
    """What one edge takes on at once: `max_images` and `max_body_bytes` in a request, which takes `timeout_s` at most.

    `concurrency`: calls to TorchServe, None for what keeps its workers at work. `max_queue`: images that wait, None for what one
    request may bring, or for 32 a worker where that is more.
    """

    max_images: int = 64
    max_body_bytes: int = 64 << 20
    timeout_s: float = 60.0
    concurrency: int | None = None
    max_queue: int | None = None

    def room(self, workers: int, direct: int = 0) -> tuple[int, int]:
        """Calls under way and images that wait, with this many workers, of which the edge asks `direct` ones itself."""
        busy = workers if direct >= workers else CALLS_PER_WORKER * workers
        slots = busy if self.concurrency is None else self.concurrency
        waiting = max(self.max_images, WAITING_PER_WORKER * workers) if self.max_queue is None else self.max_queue
        return slots, waiting


@dataclass(frozen=True)
class Question:
    """One image and what is asked about it. `key`: in the cache of answers, None where it is not looked up."""

    picture: Picture
    explain: bool
    threshold: float | None
    key: Key | None


class Dispatcher:
    """The one way to TorchServe."""

    def __init__(self, spec: Spec, upstream: TorchServe, metrics: Metrics, bounds: Bounds, cache: AnswerCache) -> None:
        self._spec = spec
        self._upstream = upstream
        self._metrics = metrics
        self._bounds = bounds
        self._cache = cache
        self._queue = AdmissionQueue(*bounds.room(workers=1))
        self._calls: set[asyncio.Future[Any]] = set()
        metrics.watch_queue(self._queue)
        upstream.direct.on_change = self._fit

    async def close(self) -> None:
        """Give up the calls that nobody waits for any more."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def ready(self) -> bool:
        """True while a call would find a worker; the line follows their number."""
        ready = await self._upstream.ready()
        self._fit()
        return ready

    def _fit(self) -> None:
        self._queue.resize(*self._bounds.room(self._upstream.workers or 1, len(self._upstream.direct)))

    def check_room(self) -> None:
        """Before a request is read: raises ServerOverloaded where it would be refused whatever it asks."""
        if not self._cache.enabled:
            self._queue.check()

    def question(self, picture: Picture, *, explain: bool, threshold: float | None) -> Question:
        """What is to be asked. Takes as long as hashing the picture does, where there is a cache."""
        key = key_of(picture, explain=explain, threshold=threshold) if self._cache.enabled else None
        return Question(picture, explain, threshold, key)

    async def ask(self, questions: Sequence[Question | VisorError], record: Record) -> list[Result]:
        """Answer each question, in order, by a verdict or by its own error; an error among them is its own answer.

        Raises ServerOverloaded before anything is asked; ModelNotReady, UpstreamFailed where one could not be asked. Then, as
        when the caller is cancelled, what waits leaves the line.
        """
        if self._upstream.workers is None:
            await self.ready()
        answers: list[Result | None] = [self._answer_here(question, record) for question in questions]
        left = [(n, question) for n, question in enumerate(questions) if answers[n] is None and isinstance(question, Question)]
        if left:
            with self._queue.admit(len(left)) as turns:
                asked = [self._ask_one(question, turn, record) for (_, question), turn in zip(left, turns, strict=True)]
                for (n, _), answer in zip(left, [await asked[0]] if len(asked) == 1 else await _together(asked), strict=True):
                    answers[n] = answer
        record.results = results = [answer for answer in answers if answer is not None]
        return results

    def _answer_here(self, question: Question | VisorError, record: Record) -> Result | None:
        if isinstance(question, VisorError):
            return question
        if question.key is None:
            return None
        answer = self._cache.get(question.key)
        self._metrics.look_up(hit=answer is not None)
        record.cache_hits += answer is not None
        return answer

    async def _ask_one(self, question: Question, turn: Turn, record: Record) -> Result:
        came = time.perf_counter()
        await turn
        called = time.perf_counter()
        record.queue_s = max(record.queue_s, called - came)
        answer: Result
        try:
            call = self._begin(question, turn)
            try:
                answer = Verdict.parse(await self._upstream.answer(call), self._spec)
            except asyncio.CancelledError:
                asyncio.get_running_loop().call_later(self._bounds.timeout_s, call.cancel)  # but not for ever
                raise
            record.calls.append((answer, called - came, time.perf_counter() - called))
        except (ImageError, OptionError) as err:
            answer = bare(err)
        if question.key is not None and not isinstance(answer, OptionError):
            self._cache.put(question.key, answer)
        return answer

    def _begin(self, question: Question, turn: Turn) -> "asyncio.Future[Reply]":
        """Ask TorchServe. It takes no call back, so one that nobody waits for any more keeps its turn until it is answered.

        Without that, clients in a hurry would fill TorchServe's own line with images that nobody wants.
        """
        end_turn = self._queue.keep(turn)
        call = self._upstream.begin(question.picture, explain=question.explain, threshold=question.threshold)
        self._calls.add(call)

        def end(call: "asyncio.Future[Any]") -> None:
            self._calls.discard(call)
            end_turn()
            if not call.cancelled():
                call.exception()  # seen, whether or not anybody waits for it

        call.add_done_callback(end)
        return call


async def _together(coroutines: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of all, or the first error; then the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
