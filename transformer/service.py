"""What REST and gRPC share: one archive behind the V2 protocol, from a request to its answer."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from handlers.errors import ImageError, OptionError, VisorError
from handlers.spec import Spec
from transformer.errors import ModelUnknown, VersionUnknown, show
from transformer.images import Picture, read_images
from transformer.messages import InferAnswer, InferRequest
from transformer.metrics import Metrics
from transformer.outputs import OUTPUTS, Options, choose_outputs, make_outputs, read_options
from transformer.upstream import TorchServe
from transformer.verdicts import Result, Verdict


@dataclass(frozen=True)
class Job:
    """A request that was read: what is left is to ask TorchServe. `explain`: an output of it needs the heat map."""

    request: InferRequest
    options: Options
    outputs: tuple[str, ...]
    explain: bool
    pictures: Sequence[Picture | VisorError]


class Service:
    """One archive's service. `max_images` of one request; `max_body_bytes` of one request on either protocol.

    `track`: what its answers call this release, "" for nothing.
    """

    def __init__(
        self,
        spec: Spec,
        archive_digest: str,
        upstream: TorchServe,
        metrics: Metrics,
        *,
        track: str = "",
        max_images: int = 64,
        max_body_bytes: int = 64 << 20,
    ) -> None:
        self.spec = spec
        self.archive_digest = archive_digest
        self.metrics = metrics
        self.max_body_bytes = max_body_bytes
        self.draining = False
        self._upstream = upstream
        self._track = {"track": track} if track else {}
        self._max_images = max_images

    def drain(self) -> None:
        """Be ready no more, and answer what comes all the same."""
        self.draining = True

    async def ready(self) -> bool:
        """True while an inference would find a worker, and the service is not about to stop."""
        return not self.draining and await self._upstream.ready()

    def check_model(self, name: str, version: str = "") -> None:
        """Raises ModelUnknown or VersionUnknown for any but this archive's; version "" is this one."""
        if name != self.spec.name:
            raise ModelUnknown(f"model {show(name)} is not served here; {self.spec.name} is")
        if version not in ("", self.spec.version):
            raise VersionUnknown(f"version {show(version)} of model {name} is not served here; {self.spec.version} is")

    def read(self, request: InferRequest) -> Job:
        """Check a request and read its images; it awaits nothing, so that a large one can be read in a thread.

        Raises RequestError, OptionError, ModelUnknown.
        """
        self.check_model(request.model, request.version)
        options = read_options(request.parameters, self.spec)
        outputs = choose_outputs(request.outputs, options)
        explain = any(OUTPUTS[name].needs == "explain" for name in outputs)
        return Job(request, options, outputs, explain, read_images(request.inputs, self.spec.limits, self._max_images))

    async def answer(self, job: Job) -> InferAnswer:
        """Ask TorchServe for each image and put the answers together.

        Raises ImageError when every image is bad (the first one's error), ModelNotReady or UpstreamFailed when one
        could not be asked for; then the calls still under way are cancelled, as they are when the caller is.
        """
        results = await self._ask(job)
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

    async def _ask(self, job: Job) -> list[Result]:
        if len(job.pictures) == 1:
            return [await self._ask_one(job.pictures[0], job)]
        calls = [asyncio.create_task(self._ask_one(picture, job)) for picture in job.pictures]
        try:
            return await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()

    async def _ask_one(self, picture: Picture | VisorError, job: Job) -> Result:
        if isinstance(picture, VisorError):
            self.metrics.reject(picture)
            return picture
        start = time.perf_counter()
        try:
            answer = await self._upstream.predict(picture, explain=job.explain, threshold=job.options.threshold)
        except (ImageError, OptionError) as err:
            self.metrics.reject(err)
            return err
        verdict = Verdict.parse(answer, self.spec)
        self.metrics.accept(verdict, time.perf_counter() - start)
        return verdict
