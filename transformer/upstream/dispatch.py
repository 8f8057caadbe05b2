"""The dispatcher takes a request's images to TorchServe: each is looked up, waits, is asked about and gets its own answer."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from handlers.errors import ImageError, OptionError, VisorError, without_traceback
from handlers.spec import Spec
from transformer.images import Picture
from transformer.metrics import Metrics
from transformer.request_log import Record
from transformer.settings import EdgeLimits
from transformer.upstream.admission import AdmissionQueue, Turn
from transformer.upstream.answer_cache import AnswerCache, Key, key_of
from transformer.upstream.connection import Reply
from transformer.upstream.image_answers import ImageAnswer, Result
from transformer.upstream.pace import Pace
from transformer.upstream.stops import Stops
from transformer.upstream.torchserve import TorchServe

# Between two polls of the workers while images wait.
POLL_S = 1.0


@dataclass(frozen=True)
class Question:
    """One image and what is asked about it. `key`: its key in the cache of answers, None where it is not looked up."""

    picture: Picture
    explain: bool
    threshold: float | None
    group: str | None
    key: Key | None


class Dispatcher:
    """The one way by which images get to TorchServe."""

    def __init__(self, spec: Spec, upstream: TorchServe, metrics: Metrics, limits: EdgeLimits, cache: AnswerCache) -> None:
        self._spec = spec
        self._upstream = upstream
        self._metrics = metrics
        self._limits = limits
        self._cache = cache
        self._queue = AdmissionQueue(*limits.room(workers=1))
        self._pace = Pace()
        self._stops = Stops(self._resize_queue)
        self._calls: set[asyncio.Future[Any]] = set()
        self._polling: asyncio.Task[None] | None = None
        metrics.watch_queue(self._queue)
        upstream.on_change = self._resize_queue

    async def close(self) -> None:
        """Cancel the calls that no request waits for any more."""
        left = self._calls if self._polling is None else {*self._calls, self._polling}
        for one in left:
            one.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def ready(self) -> bool:
        """True while a call would find a worker."""
        return await self._upstream.ready()

    def forget(self) -> None:
        """Have whoever asks next ask TorchServe."""
        self._upstream.forget()

    @property
    def workers(self) -> int:
        """The number of workers, 0 while it is not known. One that the edge asks itself may be too new for TorchServe's count."""
        return max(self._upstream.workers or 0, len(self._upstream.direct))

    def is_spare(self) -> bool:
        """Whether a worker has no image, so that none waits for what the edge does meanwhile."""
        return self._queue.under_way < max(1, self.workers)

    def _resize_queue(self) -> None:
        """Fit the queue to the number of workers."""
        if self.workers:  # else TorchServe was slow to tell, or all are started anew
            pace = self._pace.image_s, self._stops.seconds
            self._queue.resize(*self._limits.room(self.workers, len(self._upstream.direct), *pace))

    def noticing_stops(self) -> AbstractContextManager[None]:
        """Let more images wait, within the block, for a moment after this process stood still."""
        return self._stops.noticed()

    def _poll_workers(self) -> None:
        """Poll the workers again, for the calls to come, whether or not any client asks for readiness."""
        if (self._upstream.stale or len(self._queue)) and (self._polling is None or self._polling.done()):
            self._polling = asyncio.create_task(self._poll_while_images_wait())

    async def _poll_while_images_wait(self) -> None:
        await self._upstream.ready()
        while len(self._queue):  # perhaps for workers that hang, while there are new ones that were not asked yet
            await asyncio.sleep(POLL_S)
            await self._upstream.ready()

    def check_room(self) -> None:
        """Raise ServerOverloaded, before a request is read, if it would be refused whatever it asks."""
        if not self._cache.enabled:
            self._queue.check()

    def question(self, picture: Picture, *, explain: bool, threshold: float | None, group: str | None = None) -> Question:
        """Make the question about a picture. Where there is a cache, it takes as long as hashing the picture does."""
        key = key_of(picture, explain=explain, threshold=threshold, group=group) if self._cache.enabled else None
        return Question(picture, explain, threshold, group, key)

    async def ask(self, questions: Sequence[Question | VisorError], record: Record) -> list[Result]:
        """Answer each question, in order, by an image answer or by its own error; an error among the questions is its own answer.

        Raises ServerOverloaded before anything is asked; ModelNotReady, UpstreamFailed where an image could not be asked about.
        Then, as when the caller is cancelled, images that wait leave the line.
        """
        if self._upstream.workers is None:
            await self.ready()
        answers: list[Result | None] = [self._answer_here(question, record) for question in questions]
        left = [(n, question) for n, question in enumerate(questions) if answers[n] is None and isinstance(question, Question)]
        if left:
            with self._queue.admit(len(left)) as turns:
                self._poll_workers()
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
        self._metrics.count_lookup(hit=answer is not None)
        record.cache_hits += answer is not None
        return answer

    async def _ask_one(self, question: Question, turn: Turn, record: Record) -> Result:
        came = time.perf_counter()
        await turn
        called = time.perf_counter()
        record.queue_s = max(record.queue_s, called - came)
        answer: Result
        call = self._begin(question, turn)
        try:
            try:
                answer = ImageAnswer.parse(await self._upstream.answer(call), self._spec, self._metrics.bins)
            except asyncio.CancelledError:
                end = asyncio.get_running_loop().call_later(self._limits.timeout_s, call.cancel)  # it goes on, but not for ever
                call.add_done_callback(lambda _: end.cancel())
                raise
            behind_s = call.result().behind_s
            record.queue_s = max(record.queue_s, called - came + behind_s)
            record.calls.append((answer, called - came + behind_s, time.perf_counter() - called - behind_s))
            self._pace.note(sum(answer.seconds.values()))
        except (ImageError, OptionError) as err:
            answer = without_traceback(err)
            self._pace.note_refused(time.perf_counter() - called - call.result().behind_s)
        self._resize_queue()
        if question.key is not None and not isinstance(answer, OptionError):
            self._cache.put(question.key, answer)
        return answer

    def _begin(self, question: Question, turn: Turn) -> "asyncio.Future[Reply]":
        """Ask TorchServe. A call that no client waits for any more keeps its turn to its end, unless it could be withdrawn.

        Without that, clients in a hurry would fill TorchServe's own queue with images that no client wants.
        """
        call = self._upstream.begin(
            question.picture, explain=question.explain, threshold=question.threshold, group=question.group
        )
        release_turn = self._queue.detach(turn)  # now: a call that could not begin leaves the turn with its request
        self._calls.add(call)

        def end(call: "asyncio.Future[Any]") -> None:
            self._calls.discard(call)
            release_turn()
            if not call.cancelled():
                call.exception()  # counts as seen, whether or not any request waits for it

        call.add_done_callback(end)
        return call


async def _together(coroutines: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Await all results together; the first error is raised, and the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
