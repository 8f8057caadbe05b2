"""The service that REST and gRPC share: it takes one archive's requests from what was read to what is answered."""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from handlers.decision import rule_of
from handlers.errors import ImageError, VisorError
from handlers.spec import Spec
from transformer.budget import Budget
from transformer.errors import (
    DeadlineExceeded,
    ModelNotReady,
    ModelUnknown,
    RepositoryFixed,
    ThresholdRefused,
    UpstreamTimeout,
    VersionUnknown,
    show,
)
from transformer.images import Picture, read_images
from transformer.messages import InferAnswer, InferRequest, RequestedOutput
from transformer.metadata import model_config
from transformer.metrics import Metrics
from transformer.outputs import AnswerOutputs, Options, read_options
from transformer.request_log import Record, RequestLog
from transformer.settings import EdgeLimits
from transformer.shadow import Shadow
from transformer.tokens import Tokens
from transformer.upstream.answer_cache import AnswerCache
from transformer.upstream.dispatch import Dispatcher, Question
from transformer.upstream.image_answers import Result
from transformer.upstream.torchserve import TorchServe

# Requests are counted and logged together: between inferences, which take the CPU's caches, one alone would cost four times as
# much [0.4 ms]. No more of them at once than an event loop can bear [1 ms].
FLUSH_S = 0.05
MAX_UNFLUSHED = 16
WATCH_S = 5.0
"""Between two looks at TorchServe, so that `visor_ready` is true where no probe and no client asks."""
THREAD_BYTES = 1 << 20
"""From here on a request is parsed in a thread, so that health checks and other requests are answered meanwhile."""

CANARY = "canary"
"""The track of what is compared with the stable release."""

T = TypeVar("T")

UNLIMITED_BYTES = 1 << 40
"""The budget of a service that is given none."""


@dataclass(frozen=True)
class PreparedRequest:
    """A request that was read and checked, so that only asking TorchServe is left. A picture that cannot be sent is its error.

    It keeps nothing else of what a client sent: many requests may wait, and parameters may take more memory than their bytes.
    """

    id: str | None
    options: Options
    outputs: tuple[RequestedOutput, ...]
    questions: Sequence[Question | VisorError]


class Service:
    """The service of one archive. `track`: what its answers call this release, "" for nothing.

    `allow_threshold`: whether a request may bring a threshold of its own.
    `shadow`: what compares another release's answers, None where there is none.
    `tokens`: those of which a request brings one, None where whoever reaches the server may ask.
    """

    def __init__(
        self,
        spec: Spec,
        archive_digest: str,
        upstream: TorchServe,
        metrics: Metrics,
        *,
        track: str = "",
        allow_threshold: bool = True,
        limits: EdgeLimits = EdgeLimits(),  # noqa: B008 - frozen
        cache: AnswerCache | None = None,
        log: RequestLog | None = None,
        budget: Budget | None = None,
        tokens: Tokens | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        self.spec = spec
        self.archive_digest = archive_digest
        self.metrics = metrics
        self.limits = limits
        self.budget = budget or Budget(limits.memory_bytes or UNLIMITED_BYTES)
        metrics.watch_budget(self.budget)
        metrics.watch_ready(lambda: upstream.known_ready and not self.draining)
        self.tokens = tokens
        self._shadow = shadow
        self.is_canary = track == CANARY
        self.draining = False
        self._outputs = AnswerOutputs(spec)
        self._on_error = spec.decision.on_error
        self._allow_threshold = allow_threshold
        self._parsing = asyncio.Lock()
        self._track = {"track": track} if track else {}
        self._positive = json.dumps(list(spec.decision.positive), ensure_ascii=False)
        self._parameters = self._make_parameters(Options())
        self._log = log or RequestLog()
        self._ended: list[Record] = []
        self._dispatcher = Dispatcher(spec, upstream, metrics, limits, AnswerCache(0) if cache is None else cache)
        if shadow:
            shadow.is_spare = self._dispatcher.is_spare

    async def in_thread(self, parse: Callable[[], T]) -> T:
        """Parse a large request in a thread, one at a time: each holds Python's lock, of which several leave the loop little."""
        async with self._parsing:
            return await asyncio.to_thread(parse)

    def drain(self) -> None:
        """Report not ready from now on, and answer requests all the same."""
        self.draining = True

    async def close(self) -> None:
        """Cancel the calls that no request waits for any more, and count and log the requests that have ended."""
        await self._dispatcher.close()
        if self._shadow:
            await self._shadow.close()
        self.flush()

    async def ready(self) -> bool:
        """Whether an inference would find a worker and the service is not about to stop."""
        return await self._dispatcher.ready() and not self.draining

    async def follow(self) -> None:
        """Follow what the shadow's file says, until cancelled."""
        if self._shadow:
            await self._shadow.follow()

    async def watch(self) -> None:
        """Look whether TorchServe is ready, every WATCH_S, and whether this process stood still, until cancelled."""
        with self._dispatcher.noticing_stops():
            while True:
                await asyncio.sleep(WATCH_S)
                if not await self._dispatcher.ready():
                    self._dispatcher.forget()  # so that an early inference asks anew, instead of what was true before it

    def check_model(self, name: str, version: str = "") -> None:
        """Raise ModelUnknown or VersionUnknown unless name and version are this archive's; version "" is this one."""
        if name != self.spec.name:
            raise ModelUnknown(f"model {show(name)} is not served here; {self.spec.name} is")
        if version not in ("", self.spec.version):
            raise VersionUnknown(f"version {show(version)} of model {name} is not served here; {self.spec.version} is")

    async def config(self) -> dict[str, Any]:
        """Make the model's configuration, as Triton's tools ask for it, with the number of workers that there are now."""
        await self._dispatcher.ready()
        return model_config(self.spec, self.archive_digest, self._dispatcher.workers)

    async def load(self, name: str, parameters: object) -> None:
        """Answer the repository extension's load: only the served model can be loaded, and it is loaded already.

        Raises ModelUnknown, RepositoryFixed for a configuration or files of the client's, ModelNotReady.
        """
        self.check_model(name)
        if parameters not in (None, {}):
            raise RepositoryFixed(f"model {name} is served as its archive says; leave out {show(parameters)}")
        if not await self.ready():
            raise self.not_ready()

    def unload(self, name: str) -> None:
        """Refuse the repository extension's unload: raise RepositoryFixed for the served model, ModelUnknown for another."""
        self.check_model(name)
        raise RepositoryFixed(f"this server serves model {name} from its start to its end; stop the server instead")

    def not_ready(self) -> ModelNotReady:
        """The error that answers a client which asks for readiness before the model is ready."""
        if self.draining:
            return ModelNotReady(f"this server of model {self.spec.name} is about to stop; ask another one")
        return ModelNotReady(f"no worker of model {self.spec.name} is ready; try again in a few seconds")

    def end(self, record: Record) -> None:
        """Take a request that has ended, to be counted and logged in FLUSH_S at the latest."""
        record.end()
        if not self._ended:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        self._ended.append(record)
        if self._shadow:
            self._shadow.go_on()
        if len(self._ended) >= MAX_UNFLUSHED:
            self.flush()

    def flush(self) -> None:
        """Count and log the requests that have ended and were not yet."""
        ended, self._ended = self._ended, []
        for record in ended:
            if record.shadow:
                pass  # the stable release counts what becomes of it
            elif record.inference:
                self.metrics.end(record)
            else:
                self.metrics.count_error(record)
            self._log.write(record)

    def check_room(self) -> None:
        """Raise ServerOverloaded, before a request is read, if it would be refused whatever it asks."""
        self._dispatcher.check_room()

    def read(self, request: InferRequest, record: Record) -> PreparedRequest:
        """Check a request and read its images; it awaits nothing, so that a large one can be read in a thread.

        Raises RequestError, OptionError, ModelUnknown.
        """
        self.check_model(request.model, request.version)
        options = read_options(request.parameters, self.spec)
        if options.threshold is not None and not self._allow_threshold:
            raise ThresholdRefused("this server decides by the archive's threshold alone; leave out the parameter threshold")
        record.threshold, record.group = options.threshold, options.group
        outputs = self._outputs.choose(request.outputs, options)
        explain = options.explain if not request.outputs else self._outputs.explained(outputs)
        pictures = read_images(request.inputs, self.spec.limits, self.limits.max_images)
        record.images = len(pictures)
        questions = [
            self._dispatcher.question(picture, explain=explain, threshold=options.threshold, group=options.group)
            if isinstance(picture, Picture)
            else picture
            for picture in pictures
        ]
        return PreparedRequest(request.id, options, outputs, questions)

    async def answer(self, prepared: PreparedRequest, record: Record, left_s: float | None = None) -> InferAnswer:
        """Ask TorchServe for each image and put the answers together. `left_s`: what the client still waits, None for ever.

        Raises ImageError when every image is bad (the first one's error) and the archive has no decision about such images,
        what `Dispatcher.ask` does, and DeadlineExceeded or UpstreamTimeout when the client's time or the server's is up.
        """
        results = await self._ask_in_time(prepared, record, left_s)
        if self._shadow:
            self._shadow.offer(prepared.questions, results, record)
        errors = [result for result in results if isinstance(result, VisorError)]
        if len(errors) == len(results):
            undecided = [error for error in errors if not (self._on_error and isinstance(error, ImageError))]
            if undecided:
                raise undecided[0]
        options = prepared.options
        own = options.threshold is not None or options.group is not None
        return InferAnswer(
            model=self.spec.name,
            version=self.spec.version,
            id=prepared.id,
            parameters=self._make_parameters(options) if own else self._parameters,
            outputs=self._outputs.make(prepared.outputs, results, options),
        )

    def _make_parameters(self, options: Options) -> dict[str, bool | float | str]:
        """Make an answer's parameters: which archive answered, and the rule that decided. A list is JSON, as V2 has no lists."""
        rule = rule_of(self.spec, options.threshold, options.group)
        return {
            "archive_digest": self.archive_digest,
            "model_version": self.spec.version,
            "threshold": rule.threshold,
            "threshold_overridden": options.threshold is not None,
            "positive": self._positive,
            "review_from": rule.review_from,
            "review_to": rule.review_to,
            **({} if options.group is None else {"group": options.group}),
            **({} if rule.promise is None else {"promise": rule.promise}),
            **self._track,
        }

    async def _ask_in_time(self, prepared: PreparedRequest, record: Record, left_s: float | None) -> list[Result]:
        asked_s = prepared.options.timeout_s  # counted from the request's first byte, as the client's clock does
        client_s = min(math.inf if left_s is None else left_s, math.inf if asked_s is None else asked_s - record.elapsed())
        own_s = self.limits.timeout_s
        late = DeadlineExceeded("the time that the client gave is up; give more, or send fewer images at once")
        if client_s <= 0:
            raise late
        try:
            async with asyncio.timeout(min(client_s, own_s)):
                return await self._dispatcher.ask(prepared.questions, record)
        except TimeoutError as err:
            if client_s < own_s:
                raise late from err
            raise UpstreamTimeout(f"no answer within {own_s} s; send fewer images at once") from err
