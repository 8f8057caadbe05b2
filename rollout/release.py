"""Whether a whole release serves what its values say is read off all that KServe made of it. Pure functions.

`helm --wait` and `kubectl wait` cannot tell: they compare generations, and KServe writes the *Deployment's* generation into the
InferenceService's status. Both numbers agree while nothing but KServe touches the Deployment; a scaler's step adds to one alone,
for ever. So what KServe has handed on is compared with what the InferenceService and its ServingRuntime name, and the Deployment
(in Knative mode, Knative's Service) is asked for its own progress.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollout.canary import Object, State, archive_uri, read_service, why_not_ready
from rollout.pods import ARCHIVE, archive_of, describe, failure_of, is_leaving, is_ready, live

# Fields of an InferenceService's predictor that are the pods' own, and go on to them as they are.
POD_FIELDS = (
    *("affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy", "hostAliases", "imagePullSecrets", "initContainers"),
    *("nodeSelector", "priorityClassName", "runtimeClassName", "securityContext", "serviceAccountName"),
    *("terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints", "volumes"),
)
# KServe keeps these from the pods: ServiceAnnotationDisallowedList and RevisionTemplateLabelDisallowedList of its constants.go.
KEPT_BACK = {
    ARCHIVE,
    "autoscaling.knative.dev/max-scale",
    "autoscaling.knative.dev/min-scale",
    "internal.serving.kserve.io/modelformat",
    "kubectl.kubernetes.io/last-applied-configuration",
    "networking.kserve.io/visibility",
}
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|[MGTPE]i?|Ki)?")
UNITS = {"m": 1e-3, "k": 1e3, "": 1.0} | {
    f"{prefix}{i}": float(base**power)
    for i, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("KMGTPE", 1)
    if prefix + i != "K"
}


@dataclass(frozen=True)
class Found:
    """What the API server has of a release. `workload`: its Deployment, or in Knative mode Knative's Service.

    `routes`: the Gateway API's, of those that name its Service; `warnings`: the last warning event of each pod, by its name.
    """

    service: Object | None
    runtime: Object | None = None
    workload: Object | None = None
    pods: Sequence[Object] = ()
    routes: Sequence[Object] = ()
    warnings: Mapping[str, str] = field(default_factory=dict)


def is_knative(service: Object) -> bool:
    """Whether an InferenceService's pods are Knative's."""
    return bool(service["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode") in ("Knative", "Serverless"))


def runtime_of(service: Object) -> str | None:
    """The name of the ServingRuntime that an InferenceService names."""
    name: str | None = service["spec"]["predictor"].get("model", {}).get("runtime")
    return name


def read_release(found: Found, archive: str | None, digest: str | None, handed_on: bool = False) -> State:
    """Read a release's state. `archive`, `digest`: what it must serve, None for whatever it names.

    `handed_on`: take it that KServe has handed on what it will, although the pods' template lacks something that is named.
    """
    service = found.service
    if (refused := read_service(service, archive, digest)) or service is None:
        return refused or State()
    if found.workload is None:
        return State("; ".join(filter(None, ["KServe has made no pods of it yet", why_not_ready(service)])))
    own = [pod for pod in live(found.pods) if _is_own(pod, service)]
    if is_knative(service):
        revision = found.workload.get("status", {}).get("latestCreatedRevisionName")
        own = [pod for pod in own if pod["metadata"].get("labels", {}).get("serving.knative.dev/revision") == revision]
    not_ready = why_not_ready(service)
    if missing := _not_handed_on(service, found.runtime, found.workload, handed_on):
        return State("; ".join(filter(None, [f"KServe has not handed on its {missing} yet", not_ready])))
    if failure := failure_of(own):
        return State(failure=failure)
    leaving = any(map(is_leaving, found.pods))
    rolling = _rolling_in_knative(found.workload) if is_knative(service) else _rolling(found.workload, leaving)
    if rolling.failure:
        return rolling
    if rolling.waiting:
        waiting = [describe(pod, found.warnings) for pod in own if not is_ready(pod)]
        return State("; ".join(filter(None, [rolling.waiting, *waiting, not_ready])))
    if not is_knative(service) and len(own) < len(live(found.pods)):
        return State(f"{len(live(found.pods)) - len(own)} of its pods are of another archive, digest or template")
    return State(not_ready or "; ".join(_refused(found.routes)))


def _is_own(pod: Object, service: Object) -> bool:
    """Whether a pod is of what the InferenceService names now, as far as the pod tells."""
    predictor = service["spec"]["predictor"]
    arguments = {argument for one in pod.get("spec", {}).get("containers", []) for argument in one.get("args", [])}
    return (
        archive_of(pod) == archive_uri(service)
        and set(predictor.get("model", {}).get("args", [])) <= arguments
        and carries(pod["metadata"].get("annotations", {}), _handed(predictor.get("annotations", {})))
    )


def _not_handed_on(service: Object, runtime: Object | None, workload: Object, handed_on: bool) -> str:
    """Name what an InferenceService or its ServingRuntime says and the pods' template lacks; "" where it has all."""
    template = workload["spec"]["template"]
    predictor = service["spec"]["predictor"]
    if archive_of(template) != archive_uri(service):
        return "archive"
    if _scaled_by_kserve(service) and workload["spec"].get("replicas") != predictor.get("minReplicas", 1):
        return "number of pods"
    if handed_on:
        return ""
    for what, wanted in _wanted(predictor, runtime or {}):
        if not carries(template, wanted):
            return what
    return ""


def _scaled_by_kserve(service: Object) -> bool:
    """Whether the number of pods is the InferenceService's own: KServe then undoes what others scale."""
    scaler = service["metadata"].get("annotations", {}).get("serving.kserve.io/autoscalerClass")
    return scaler == "none" and not is_knative(service)


def _wanted(predictor: Object, runtime: Object) -> Iterator[tuple[str, Object]]:
    """What a pods' template must carry, part by part, each with its name. Parts that KServe fills in are left out."""
    model = predictor.get("model", {})
    for part in ("annotations", "labels"):
        yield part, {"metadata": {part: _handed(predictor.get(part, {}))}}
    for field_name in POD_FIELDS:
        if predictor.get(field_name):
            yield field_name, {"spec": {field_name: predictor[field_name]}}
    for container in runtime.get("spec", {}).get("containers", []):
        of_model = container["name"] == "kserve-container"
        wanted = {key: value for key, value in container.items() if key not in ("args", "resources")}
        arguments = [*container.get("args", []), *(model.get("args", []) if of_model else [])]
        wanted["args"] = [argument for argument in arguments if "{{" not in argument]
        wanted["resources"] = (model.get("resources") if of_model else None) or container.get("resources", {})
        yield f"container {container['name']}", {"spec": {"containers": [wanted]}}
    yield "volumes", {"spec": {"volumes": runtime.get("spec", {}).get("volumes", [])}}


def _handed(named: Object) -> Object:
    return {key: value for key, value in named.items() if key not in KEPT_BACK}


def carries(actual: Any, wanted: Any) -> bool:
    """Whether a value of the API has all that another one says; defaults, and whatever others added, may be there beside it."""
    if wanted in (None, {}, []):
        return True
    if isinstance(wanted, Mapping):
        return isinstance(actual, Mapping) and all(carries(actual.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(actual, list) and all(any(carries(one, value) for one in actual) for value in wanted)
    return bool(actual == wanted) or (actual is not None and _amount(actual) == _amount(wanted))


def _amount(value: object) -> float | str:
    """Kubernetes's quantities by their size, which the API server writes in its own way: 0.5 as 500m, 1024Mi as 1Gi."""
    found = QUANTITY.fullmatch(str(value))
    return float(found[1]) * UNITS[found[2] or ""] if found else str(value)


def _rolling(deployment: Object, leaving: bool) -> State:
    """How far a Deployment has rolled out its template, as `kubectl rollout status` reads it.

    `leaving`: a pod is on its way out, which a quota still counts; that others cannot be made is then no failure yet.
    """
    status = deployment.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            why = f"its pods cannot be made: {condition.get('message') or condition.get('reason')}"
            return State(waiting=why) if leaving else State(failure=why)
    wanted = deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return State("its Deployment is not looked at yet")
    updated, there, available = (status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas"))
    if updated < wanted or there > updated or available < wanted:
        return State(f"{updated} of {wanted} pods are new, {available} available, {there - updated} old")
    return State("" if wanted else "it is scaled to no pod")


def _rolling_in_knative(service: Object) -> State:
    """How far Knative's Service has come to its newest revision."""
    status = service.get("status", {})
    if status.get("observedGeneration", 0) < service["metadata"]["generation"]:
        return State("Knative has not looked at it yet")
    created, ready = status.get("latestCreatedRevisionName"), status.get("latestReadyRevisionName")
    if created != ready:
        return State(f"revision {created} is not ready yet, {ready or 'none'} is the last that was")
    conditions = status.get("conditions", [])
    waiting = [f"{one.get('reason', '')} {one.get('message', '')}".strip() for one in conditions if one["status"] != "True"]
    return State("; ".join(f"Knative: {why or 'not ready'}" for why in waiting))


def _refused(routes: Sequence[Object]) -> Iterator[str]:
    """A sentence for each route that a gateway has not taken as it is now, or whose backends it does not know."""
    for route in routes:
        name = f"{route['kind']} {route['metadata']['name']}"
        parents = route.get("status", {}).get("parents", [])
        if len(parents) < len(route["spec"].get("parentRefs", [])):
            yield f"{name}: no gateway has looked at it yet"
        for parent in parents:
            for kind in ("Accepted", "ResolvedRefs"):
                said: Object = next((one for one in parent.get("conditions", []) if one["type"] == kind), {})
                if not said and kind == "ResolvedRefs":
                    continue  # not every gateway says it
                if said.get("observedGeneration", 0) < route["metadata"]["generation"]:
                    yield f"{name}: the gateway {parent['parentRef']['name']} has not looked at it yet"
                    break
                if said["status"] != "True":
                    why = f"{said.get('reason', '')}: {said.get('message', '')}"
                    yield f"{name}: not {kind} by the gateway {parent['parentRef']['name']}: {why}"
