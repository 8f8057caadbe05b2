"""What pods say about themselves, as the API gives them. Pure functions, which a release's state is read with."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]

ENDED = ("Failed", "Succeeded")
ARCHIVE = "internal.serving.kserve.io/storage-initializer-sourceuri"  # KServe's annotation on each pod


def live(pods: Sequence[Object]) -> list[Object]:
    """The pods that are not on their way out and have not ended.

    An evicted pod, or that of a node that was shut down, has ended and stays until it is collected. It says nothing about its
    archive: a container that ends by itself is started again in the same pod, as a Deployment's pods always are.
    """
    return [pod for pod in pods if not is_leaving(pod) and pod.get("status", {}).get("phase") not in ENDED]


def is_leaving(pod: Object) -> bool:
    """Whether a pod is on its way out. A quota still counts it, as it does none that has ended."""
    return "deletionTimestamp" in pod["metadata"]


def archive_of(pod: Object) -> str | None:
    """The URI of the archive that a pod, or a pod's template, serves."""
    uri: str | None = pod.get("metadata", {}).get("annotations", {}).get(ARCHIVE)
    return uri


def is_ready(pod: Object) -> bool:
    """Whether a pod takes requests."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in _conditions(pod))


def is_starting(pod: Object) -> bool:
    """Whether a pod has not been ready yet, and its containers are the first that run in it.

    The kubelet says that it is not ready before it starts any of them. One that was ready lost that while they ran.
    """
    containers = list(_containers(pod))
    if is_ready(pod) or any(one.get("restartCount") for one in containers):
        return False
    if any("terminated" in one.get("state", {}) for one in pod.get("status", {}).get("containerStatuses", [])):
        return False
    since = max((one.get("lastTransitionTime", "") for one in _conditions(pod) if one["type"] == "Ready"), default="")
    return not any("running" in one.get("state", {}) and one["state"]["running"]["startedAt"] < since for one in containers)


def why_replaced(pods: Sequence[Object]) -> str:
    """What is waited for where no pod is ready and none has lost that by itself: those that were are taken away, others start.

    `pods`: all of one archive, those that leave or have ended among them. "" where a pod is ready, or one has failed.
    """
    there = live(pods)
    if any(map(is_ready, there)) or not all(is_starting(pod) or _is_disrupted(pod) for pod in there):
        return ""
    starting = [pod for pod in there if not _is_disrupted(pod)]
    return "; ".join(describe(pod, {}) for pod in starting) or "it has no pod"


def failures(pod: Object) -> Iterator[str]:
    """A sentence for each reason for which a pod will not get ready: a container that ends again and again, with its last words
    (the container's termination message), and a claim that is not there.

    That no node has room is none: a node may be added.
    """
    for container in _containers(pod):
        if container.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff":
            last = container.get("lastState", {}).get("terminated", {})
            words = last.get("message", "").strip() or f"{last.get('reason', 'it')} with exit code {last.get('exitCode')}"
            yield f"{container['name']} of pod {_name(pod)} ends again and again: {words}"
    for message in _unscheduled(pod):
        if "persistentvolumeclaim" in message and "not found" in message:
            yield f"pod {_name(pod)}: {message}"


def _newest(pods: Sequence[Object]) -> list[Object]:
    """The pods of the template that made the last of them. An earlier one's may fail, and stay until these are ready."""

    def template(pod: Object) -> object:
        return pod["metadata"].get("labels", {}).get("pod-template-hash")

    last = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)
    return [pod for pod in pods if last is not None and template(pod) == template(last)]


def failure_of(pods: Sequence[Object]) -> str:
    """Why pods of the newest template will not get ready; "" where nothing says so."""
    return next((why for pod in _newest(pods) for why in failures(pod)), "")


def describe(pod: Object, warnings: Mapping[str, str]) -> str:
    """Say what a pod that is not ready waits for. `warnings`: the last warning event of each pod, by the pod's name."""
    for container in _containers(pod):
        if waiting := container.get("state", {}).get("waiting"):
            if waiting.get("reason") in ("ContainerCreating", "PodInitializing") and _name(pod) in warnings:
                break  # what keeps it from being created is in an event alone
            why = f"{waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip()
            return f"{container['name']} of pod {_name(pod)}: {why}"
    for message in _unscheduled(pod):
        return f"pod {_name(pod)}: {message}"
    return f"pod {_name(pod)} is not ready" + (f": {warnings[_name(pod)]}" if _name(pod) in warnings else "")


def _is_disrupted(pod: Object) -> bool:
    """Whether something takes a pod away, such as an eviction, before it is on its way out."""
    return any(one["type"] == "DisruptionTarget" and one["status"] == "True" for one in _conditions(pod))


def _unscheduled(pod: Object) -> Iterator[str]:
    for one in _conditions(pod):
        if one.get("reason") == "Unschedulable":
            yield one.get("message", "Unschedulable")


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _conditions(pod: Object) -> Sequence[Object]:
    conditions: Sequence[Object] = pod.get("status", {}).get("conditions", [])
    return conditions


def _containers(pod: Object) -> Iterator[Object]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", [])
    yield from status.get("containerStatuses", [])
