"""Whether a canary serves its archive is read off its InferenceService and its pods. Pure functions.

The InferenceService's own status does not tell. KServe 0.20 leaves Ready at True and the model `UpToDate` while the pods of
an earlier archive still serve, `observedGeneration` there is the Deployment's, and `lastFailureInfo` is never taken back. The
pods themselves are what gets the traffic, and each carries its archive's URI.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]

ARCHIVE = "internal.serving.kserve.io/storage-initializer-sourceuri"  # KServe's annotation on each pod


@dataclass(frozen=True)
class CanaryState:
    """The state of a canary. `waiting`: why it is not ready yet; `failure`: why it will not get ready; "" where neither is so."""

    waiting: str = ""
    failure: str = ""

    @property
    def ready(self) -> bool:
        """Whether the canary can take traffic."""
        return not (self.waiting or self.failure)


def read_state(service: Object | None, pods: Sequence[Object], archive: str | None) -> CanaryState:
    """Read the canary's state off its InferenceService and its pods, as the API gives them.

    `archive`: the URI that it must serve, None for its own.
    """
    if service is None:
        return CanaryState("it does not exist")
    uri = service["spec"]["predictor"].get("model", {}).get("storageUri")
    if archive is not None and uri != archive:
        return CanaryState(f"its storageUri is {uri} and not {archive}")
    status = service.get("status", {})
    if status.get("modelStatus", {}).get("transitionStatus") == "InvalidSpec":
        return CanaryState(failure=f"KServe refuses its specification: {_last_failure(status)}")
    live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    own = [pod for pod in live if pod["metadata"].get("annotations", {}).get(ARCHIVE) == uri]
    for pod in own:
        for crash in _crashes(pod):
            return CanaryState(failure=crash)
    not_ready = _why_not_ready(status)
    if not any(_is_ready(pod) for pod in own):
        return CanaryState("; ".join(filter(None, [*map(_describe, own), *([] if own else ["it has no pod"]), not_ready])))
    if len(own) < len(live):
        return CanaryState(f"{len(live) - len(own)} of its pods still serve another archive")
    return CanaryState(not_ready)


def _last_failure(status: Object) -> str:
    info = status["modelStatus"].get("lastFailureInfo", {})
    return info.get("message") or info.get("reason") or "it does not say why"


def _why_not_ready(status: Object) -> str:
    ready: Object = next((condition for condition in status.get("conditions", []) if condition["type"] == "Ready"), {})
    if ready.get("status") == "True":
        return ""
    return f"KServe: {ready.get('reason') or 'not ready'} {ready.get('message', '')}".strip()


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _crashes(pod: Object) -> Iterator[str]:
    """A sentence for each container that ends again and again, with its last words: the container's termination message."""
    for container in _containers(pod):
        if container.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff":
            last = container.get("lastState", {}).get("terminated", {})
            words = last.get("message", "").strip() or f"{last.get('reason', 'it')} with exit code {last.get('exitCode')}"
            yield f"{container['name']} of pod {pod['metadata']['name']} ends again and again: {words}"


def _describe(pod: Object) -> str:
    """Say what a pod that is not ready waits for."""
    for container in _containers(pod):
        state = container.get("state", {})
        if waiting := state.get("waiting"):
            why = f"{waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip()
            return f"{container['name']} of pod {pod['metadata']['name']}: {why}"
    unscheduled = [one for one in pod.get("status", {}).get("conditions", []) if one.get("reason") == "Unschedulable"]
    if unscheduled:
        return f"pod {pod['metadata']['name']}: {unscheduled[0].get('message', 'Unschedulable')}"
    return f"pod {pod['metadata']['name']} is not ready"


def _containers(pod: Object) -> Iterator[Object]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", [])
    yield from status.get("containerStatuses", [])
