"""What REST and gRPC share: one archive behind the V2 protocol, from a request to its answer."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from handlers.errors import VisorError
from handlers.spec import Spec
from transformer.answer_cache import AnswerCache
from transformer.dispatch import Bounds, Dispatcher, Question
from transformer.errors import (
    DeadlineExceeded,
    ModelNotReady,
    ModelUnknown,
    RepositoryFixed,
    UpstreamTimeout,
    VersionUnknown,
    show,
)
from transformer.images import Picture, read_images
from transformer.messages import InferAnswer, InferRequest, RequestedOutput
from transformer.metrics import Metrics
from transformer.outputs import OUTPUTS, Options, choose_outputs, make_outputs, read_options
from transformer.request_log import Record, RequestLog
from transformer.upstream import TorchServe
from transformer.verdicts import Result

# Requests are counted and logged together: between inferences, which take the CPU's caches, one alone would cost four times as
# much [0.4 ms]. No more of them at once than an event loop can bear [1 ms].
SETTLE_S, SETTLED_AT_ONCE = 0.05, 16


@dataclass(frozen=True)
class Job:
    """A request that was read: what is left is to ask TorchServe. A picture that cannot be asked about is its error."""

    request: InferRequest
    options: Options
    outputs: tuple[RequestedOutput, ...]
    questions: Sequence[Question | VisorError]


class Service:
    """One archive's service. `track`: what its answers call this release, "" for nothing."""

    def __init__(
        self,
        spec: Spec,
        archive_digest: str,
        upstream: TorchServe,
        metrics: Metrics,
        *,
        track: str = "",
        bounds: Bounds = Bounds(),  # noqa: B008 - frozen
        cache: AnswerCache | None = None,
        log: RequestLog | None = None,
    ) -> None:
        self.spec = spec
        self.archive_digest = archive_digest
        self.metrics = metrics
        self.bounds = bounds
        self.draining = False
        self._track = {"track": track} if track else {}
        self._log = log or RequestLog()
        self._ended: list[Record] = []
        self._dispatcher = Dispatcher(spec, upstream, metrics, bounds, AnswerCache(0) if cache is None else cache)

    def drain(self) -> None:
        """Be ready no more, and answer what comes all the same."""
        self.draining = True

    async def close(self) -> None:
        """Give up what nobody waits for any more, and count and log what there was."""
        await self._dispatcher.close()
        self.settle()

    async def ready(self) -> bool:
        """True while an inference would find a worker, and the service is not about to stop."""
        return await self._dispatcher.ready() and not self.draining

    def check_model(self, name: str, version: str = "") -> None:
        """Raises ModelUnknown or VersionUnknown for any but this archive's; version "" is this one."""
        if name != self.spec.name:
            raise ModelUnknown(f"model {show(name)} is not served here; {self.spec.name} is")
        if version not in ("", self.spec.version):
            raise VersionUnknown(f"version {show(version)} of model {name} is not served here; {self.spec.version} is")

    async def load(self, name: str, parameters: object) -> None:
        """The repository extension's load: of the served model, which is loaded.

        Raises ModelUnknown, RepositoryFixed for a configuration or files of the client's, ModelNotReady.
        """
        self.check_model(name)
        if parameters not in (None, {}):
            raise RepositoryFixed(f"model {name} is served as its archive says; leave out {show(parameters)}")
        if not await self.ready():
            raise self.not_ready()

    def unload(self, name: str) -> None:
        """The repository extension's unload. Raises ModelUnknown, and RepositoryFixed for the served model."""
        self.check_model(name)
        raise RepositoryFixed(f"this server serves model {name} from its start to its end; stop the server instead")

    def not_ready(self) -> ModelNotReady:
        """The error of whoever asks for readiness in vain."""
        if self.draining:
            return ModelNotReady(f"this server of model {self.spec.name} is about to stop; ask another one")
        return ModelNotReady(f"no worker of model {self.spec.name} is ready; try again in a few seconds")

    def end(self, record: Record) -> None:
        """Have a request that has ended counted and logged, in SETTLE_S at the latest."""
        record.end()
        if not self._ended:
            asyncio.get_running_loop().call_later(SETTLE_S, self.settle)
        self._ended.append(record)
        if len(self._ended) >= SETTLED_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Count and log the requests that have ended."""
        ended, self._ended = self._ended, []
        for record in ended:
            if record.inference:
                self.metrics.end(record)
            self._log.write(record)

    def check_room(self) -> None:
        """Before a request is read: raises ServerOverloaded where it would be refused whatever it asks."""
        self._dispatcher.check_room()

    def read(self, request: InferRequest, record: Record) -> Job:
        """Check a request and read its images; it awaits nothing, so that a large one can be read in a thread.

        Raises RequestError, OptionError, ModelUnknown.
        """
        self.check_model(request.model, request.version)
        options = read_options(request.parameters, self.spec)
        outputs = choose_outputs(request.outputs, options)
        explain = options.explain if not request.outputs else any(OUTPUTS[output.name].needs == "explain" for output in outputs)
        pictures = read_images(request.inputs, self.spec.limits, self.bounds.max_images)
        record.images = len(pictures)
        questions = [
            self._dispatcher.question(picture, explain=explain, threshold=options.threshold)
            if isinstance(picture, Picture)
            else picture
            for picture in pictures
        ]
        return Job(request, options, outputs, questions)

    async def answer(self, job: Job, record: Record, left_s: float | None = None) -> InferAnswer:
        """Ask TorchServe for each image and put the answers together. `left_s`: what the client still waits, None for ever.

        Raises ImageError when every image is bad (the first one's error), what `Dispatcher.ask` does, and DeadlineExceeded
        or UpstreamTimeout when the client's time or the server's is up.
        """
        results = await self._ask_in_time(job, record, left_s)
        errors = [result for result in results if isinstance(result, VisorError)]
        if len(errors) == len(results):
            raise errors[0]
        threshold = job.options.threshold
        return InferAnswer(
            model=self.spec.name,
            version=self.spec.version,
            id=job.request.id,
            parameters={
                "archive_digest": self.archive_digest,
                "model_version": self.spec.version,
                "threshold": self.spec.decision.threshold if threshold is None else threshold,
                "threshold_overridden": threshold is not None,
                **self._track,
            },
            outputs=make_outputs(job.outputs, results, job.options, self.spec),
        )

    async def _ask_in_time(self, job: Job, record: Record, left_s: float | None) -> list[Result]:
        asked_s = job.options.timeout_s  # counted from the request's first byte, as the client's clock does
        client_s = min(math.inf if left_s is None else left_s, math.inf if asked_s is None else asked_s - record.elapsed())
        own_s = self.bounds.timeout_s
        late = DeadlineExceeded("the time that the client gave is up; give more, or send fewer images at once")
        if client_s <= 0:
            raise late
        try:
            async with asyncio.timeout(min(client_s, own_s)):
                return await self._dispatcher.ask(job.questions, record)
        except TimeoutError as err:
            if client_s < own_s:
                raise late from err
            raise UpstreamTimeout(f"no answer within {own_s} s; send fewer images at once") from err
