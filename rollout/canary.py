"""Whether a canary serves its archive is read off its InferenceService and its pods. Pure functions.

The InferenceService's own status does not tell. KServe 0.20 leaves Ready at True and the model `UpToDate` while the pods of
an earlier archive still serve, `observedGeneration` there is the Deployment's, and `lastFailureInfo` is never taken back. The
pods themselves are what gets the traffic, and each carries its archive's URI.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollout.pods import archive_of, describe, failure_of, is_ready, live

Object = Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """How far a release is. `waiting`: why it is not ready yet; `failure`: why it will not get ready; "" where neither is so."""

    waiting: str = ""
    failure: str = ""

    @property
    def ready(self) -> bool:
        """Whether it can take traffic."""
        return not (self.waiting or self.failure)


def read_state(service: Object | None, pods: Sequence[Object], archive: str | None) -> State:
    """Read the canary's state off its InferenceService and its pods, as the API gives them.

    One ready pod is enough for a share of the requests, while a scaler adds others; `release.read_release` wants all of them.
    `archive`: the URI that it must serve, None for its own.
    """
    if (refused := read_service(service, archive)) or service is None:
        return refused or State()
    uri = archive_uri(service)
    there = live(pods)
    own = [pod for pod in there if archive_of(pod) == uri]
    if failure := failure_of(own):
        return State(failure=failure)
    not_ready = why_not_ready(service)
    if not any(map(is_ready, own)):
        reasons = [*(describe(pod, {}) for pod in own), *([] if own else ["it has no pod"]), not_ready]
        return State("; ".join(filter(None, reasons)))
    if len(own) < len(there):
        return State(f"{len(there) - len(own)} of its pods still serve another archive")
    return State(not_ready)


def read_service(service: Object | None, archive: str | None, digest: str | None = None) -> State | None:
    """What an InferenceService alone tells: that it is not the one that is asked for, or that KServe refuses it; else None."""
    if service is None:
        return State("it does not exist")
    if "deletionTimestamp" in service["metadata"]:
        return State("it is being deleted")
    uri = archive_uri(service)
    if archive is not None and uri != archive:
        return State(f"its storageUri is {uri} and not {archive}")
    arguments = service["spec"]["predictor"].get("model", {}).get("args", [])
    if digest is not None and f"--digest={digest}" not in arguments:
        asked = [argument.removeprefix("--digest=") for argument in arguments if argument.startswith("--digest=")]
        return State(f"its pods ask for {' '.join(asked) or 'no digest'} and not for the digest {digest}")
    status = service.get("status", {})
    if status.get("modelStatus", {}).get("transitionStatus") == "InvalidSpec":
        return State(failure=f"KServe refuses its specification: {_last_failure(status)}")
    return None


def archive_uri(service: Object) -> str | None:
    """The URI of the archive that an InferenceService names."""
    uri: str | None = service["spec"]["predictor"].get("model", {}).get("storageUri")
    return uri


def why_not_ready(service: Object) -> str:
    """KServe's own reason for which an InferenceService is not Ready; "" where it is."""
    conditions = service.get("status", {}).get("conditions", [])
    ready: Object = next((condition for condition in conditions if condition["type"] == "Ready"), {})
    if ready.get("status") == "True":
        return ""
    return f"KServe: {ready.get('reason') or 'not ready'} {ready.get('message', '')}".strip()


def _last_failure(status: Object) -> str:
    info = status["modelStatus"].get("lastFailureInfo", {})
    return info.get("message") or info.get("reason") or "it does not say why"
