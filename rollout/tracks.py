"""The two tracks of a release, stable and canary, as the cluster has them; one interface over Standard and Knative mode.

Standard: two InferenceServices behind weighted routes. Knative: two revisions of one, and `canaryTrafficPercent`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from rollout.canary import State, archive_uri, read_state
from rollout.cluster import Cluster
from rollout.errors import RouteUnexpected
from rollout.fields import changed, owned, writer_of, writes
from rollout.plan import Pod, Pods, Sight
from rollout.pods import archive_of, describe, failure_of, is_ready, live, why_replaced
from rollout.release import Found, is_knative, read_release, runtime_of
from rollout.routes import canary_percent, set_canary_percent, to_apply, why_not_all

Object = Mapping[str, Any]
PREDICTOR = ("spec", "predictor")


class Tracks(Protocol):
    """What a release by evidence reads and does. All raise ClusterError, and RouteUnexpected where a route is not as expected."""

    def see(self) -> Sight:
        """Look."""

    def share(self, percent: int) -> None:
        """Give the canary a share of the requests."""

    def scale(self, pods: int) -> None:
        """Give the canary so many pods."""

    def adopt(self, archive: str, arguments: Sequence[str]) -> None:
        """Give the stable release another archive, the canary's or its own again, and its pods the arguments that go with it."""


def tracks_of(cluster: Cluster, name: str, routes: Sequence[tuple[str, str]], manager: str) -> Tracks:
    """The tracks of the release `name`. `routes`: kind and name of each, empty for all that lead to the canary."""
    service = cluster.service(name)
    if service is not None and is_knative(service):
        return Knative(cluster, name, manager)
    return Standard(cluster, name, routes, manager)


class Standard:
    """Two InferenceServices, NAME and NAME-canary, behind weighted routes."""

    def __init__(self, cluster: Cluster, name: str, routes: Sequence[tuple[str, str]], manager: str) -> None:
        self._cluster, self._name, self._manager = cluster, name, manager
        self._canary, self._backend = f"{name}-canary", f"{name}-canary-predictor"
        self._named = tuple(routes)

    def see(self) -> Sight:
        """Look at both InferenceServices, their pods and routes."""
        stable, canary = self._cluster.service(self._name), self._cluster.service(self._canary)
        if stable is None or canary is None:
            return Sight(stable=(stable and archive_uri(stable)) or "")
        routes = self._routes()
        every = self._cluster.pods(self._canary)
        theirs, ours = live(self._cluster.pods(self._name)), live(every)
        own = [pod for pod in ours if archive_of(pod) == archive_uri(canary)]
        state = read_state(canary, ours, None)
        return Sight(
            percent=canary_percent(routes, self._backend),
            by=max((write for route in routes for write in writes(route)), default=("", ""))[1],
            stable=archive_uri(stable) or "",
            canary=archive_uri(canary) or "",
            failure=state.failure,
            # A failure or an alarm is still rolled back; a step up is what waits for it.
            unready="; ".join(filter(None, [state.waiting, why_not_all(routes, self._backend)])),
            replaced=why_replaced([pod for pod in every if archive_of(pod) == archive_uri(canary)]),
            settling=self._settling(stable, theirs) if archive_uri(stable) == archive_uri(canary) else "",
            stable_args=_arguments(stable),
            canary_args=_arguments(canary),
            pods=Pods(_replicas(stable), _replicas(canary), sum(map(is_ready, own)), _fixed(canary)),
            restarts=restarts(own),
            stable_restarts=restarts(theirs),
            pods_of={**pods_of(theirs, "stable"), **pods_of(ours, "canary")},
        )

    def share(self, percent: int) -> None:
        """Set the weights of all routes, each as its owner."""
        for route in self._routes():
            moved = set_canary_percent(route, self._backend, percent)
            if moved != route:
                self._cluster.apply(to_apply(moved), self._manager)

    def scale(self, pods: int) -> None:
        """Set the canary's number of pods, which KServe keeps to."""
        change(self._cluster, self._canary, self._manager, {("minReplicas",): pods})

    def adopt(self, archive: str, arguments: Sequence[str]) -> None:
        """Give the stable InferenceService an archive, with the digest that goes with it, in one apply."""
        values: dict[tuple[str, ...], object] = {("model", "storageUri"): archive, ("model", "args"): list(arguments) or None}
        change(self._cluster, self._name, self._manager, values)

    def _routes(self) -> list[dict[str, Any]]:
        if not self._named:
            routes = self._cluster.routes_to(self._backend)
        else:
            routes = [route for kind, name in self._named if (route := self._cluster.route(kind, name))]
        if len(routes) < max(len(self._named), 1):
            wanted = ", ".join(f"{kind} {name}" for kind, name in self._named) or f"route to {self._backend}"
            raise RouteUnexpected(f"there is no {wanted}; name the routes of the release")
        return routes

    def _settling(self, service: Object, pods: Sequence[Object]) -> str:
        runtime = runtime_of(service)
        found = Found(
            service,
            self._cluster.runtime(runtime) if runtime else None,
            self._cluster.deployment(f"{self._name}-predictor"),
            pods,
        )
        state: State = read_release(found, None, None)
        return state.failure or state.waiting


class Knative:
    """Two revisions of one InferenceService: the newest is the canary, the last that had all requests the stable release."""

    def __init__(self, cluster: Cluster, name: str, manager: str) -> None:
        self._cluster, self._name, self._manager = cluster, name, manager

    def see(self) -> Sight:
        """Look at the InferenceService, Knative's Service and the pods of both revisions."""
        service, workload = self._cluster.service(self._name), self._cluster.knative_service(f"{self._name}-predictor")
        if service is None or workload is None:
            return Sight()
        uri = archive_uri(service) or ""
        percent = float(service["spec"]["predictor"].get("canaryTrafficPercent", 100))
        status, rolled = workload.get("status", {}), service.get("status", {}).get("components", {}).get("predictor", {})
        newest, out = status.get("latestCreatedRevisionName", ""), rolled.get("latestRolledoutRevision", "")
        stable = out if out != newest else rolled.get("previousRolledoutRevision", "")
        by_revision: dict[str, list[Object]] = {}
        for pod in live(self._cluster.pods(self._name)):
            by_revision.setdefault(pod["metadata"]["labels"].get("serving.knative.dev/revision", ""), []).append(pod)
        ours, theirs = by_revision.get(newest, []), by_revision.get(stable, [])
        replaced = why_replaced(ours)
        waiting = ""
        if archive_of(workload["spec"]["template"]) != uri or status.get("observedGeneration") != _generation(workload):
            waiting = "KServe has not handed on its archive yet"
        elif status.get("latestReadyRevisionName") != newest:
            waiting = "; ".join([f"revision {newest} is not ready yet", *_not_ready(ours)])
        elif not replaced and not any(map(is_ready, ours)):
            waiting = "; ".join(_not_ready(ours))
        # Without requests it has no pod. The next request waits in Knative's activator until one has started.
        ready = sum(map(is_ready, ours)) or int(not waiting)
        return Sight(
            percent=percent,
            by=writer_of(service),
            stable=stable,
            canary=uri,
            failure=failure_of(ours),
            unready=waiting,
            replaced=replaced if ours else "",
            pods=Pods(ready=ready, fixed=False),
            restarts=restarts(ours),
            stable_restarts=restarts(theirs),
            pods_of={**pods_of(theirs, "stable"), **pods_of(ours, "canary")},
        )

    def share(self, percent: int) -> None:
        """Set `canaryTrafficPercent`."""
        change(self._cluster, self._name, self._manager, {("canaryTrafficPercent",): percent})

    def scale(self, pods: int) -> None:
        """Leave the number of pods to Knative."""

    def adopt(self, archive: str, arguments: Sequence[str]) -> None:
        """Leave the archive: the newest revision is the release once it has all requests."""


def change(cluster: Cluster, name: str, manager: str, values: Mapping[tuple[str, ...], object]) -> None:
    """Change fields of an InferenceService's predictor, by their paths, as the release's owner, in one apply."""
    service = cluster.service(name)
    if service is None:
        return
    item = owned(service, manager)
    for path, value in values.items():
        item = changed(item, (*PREDICTOR, *path), value)
    cluster.apply(item, manager)


def restarts(pods: Iterable[Object]) -> dict[str, int]:
    """How often containers of each pod were started again."""
    return {
        pod["metadata"]["name"]: sum(one.get("restartCount", 0) for one in pod.get("status", {}).get("containerStatuses", []))
        for pod in pods
    }


def pods_of(pods: Iterable[Object], track: str) -> dict[str, Pod]:
    """The pods of a track, by their names."""
    return {
        pod["metadata"]["name"]: Pod(
            track, datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp(), is_ready(pod)
        )
        for pod in pods
    }


def _not_ready(pods: Iterable[Object]) -> Iterable[str]:
    return (describe(pod, {}) for pod in pods if not is_ready(pod))


def _replicas(service: Object) -> int:
    return int(service["spec"]["predictor"].get("minReplicas", 1))


def _fixed(service: Object) -> bool:
    return bool(service["metadata"].get("annotations", {}).get("serving.kserve.io/autoscalerClass") == "none")


def _arguments(service: Object) -> tuple[str, ...]:
    return tuple(service["spec"]["predictor"].get("model", {}).get("args", ()))


def _generation(item: Object) -> int | None:
    generation: int | None = item["metadata"].get("generation")
    return generation
