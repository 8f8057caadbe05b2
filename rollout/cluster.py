"""The client of the few Kubernetes objects that a release is made of; no other module knows the kubernetes package."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from rollout.errors import ClusterConflict, ClusterError, ClusterUnreachable

Object = dict[str, Any]

GATEWAY = ("gateway.networking.k8s.io", "v1")
KSERVE = ("serving.kserve.io", "v1beta1")
RUNTIMES = ("serving.kserve.io", "v1alpha1")
KNATIVE = ("serving.knative.dev", "v1")
APPS = ("apps", "v1")
PLURALS = {"HTTPRoute": "httproutes", "GRPCRoute": "grpcroutes"}
APPLIED = {**{kind: (GATEWAY, plural) for kind, plural in PLURALS.items()}, "InferenceService": (KSERVE, "inferenceservices")}
TIMEOUT_S = 10  # of one request
NOT_FOUND, CONFLICT, TOO_MANY, SERVER_ERROR = 404, 409, 429, 500


class Cluster:
    """Access to one namespace, by the service account of the pod that this runs in, else by KUBECONFIG.

    Its methods raise ClusterError, of the kind ClusterUnreachable where another try may help.
    """

    def __init__(self, namespace: str) -> None:
        where = client.Configuration()
        try:
            config.load_incluster_config(where)
        except config.ConfigException:
            try:
                config.load_kube_config(client_configuration=where)
            except config.ConfigException as err:
                raise ClusterError(
                    f"no cluster is known ({err}); set KUBECONFIG, or run in a pod with a service account"
                ) from err
        self._namespace = namespace
        self._api = client.ApiClient(where)
        self._core = client.CoreV1Api(self._api)
        self._custom = client.CustomObjectsApi(self._api)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def service(self, name: str) -> Object | None:
        """Read an InferenceService; None where there is none."""
        return self._get(KSERVE, "inferenceservices", name)

    def pods(self, service: str) -> list[Object]:
        """List the pods of an InferenceService."""
        selector = f"serving.kserve.io/inferenceservice={service}"
        return _items(_asked(self._core.list_namespaced_pod, self._namespace, label_selector=selector))

    def runtime(self, name: str) -> Object | None:
        """Read a ServingRuntime; None where there is none."""
        return self._get(RUNTIMES, "servingruntimes", name)

    def deployment(self, name: str) -> Object | None:
        """Read a Deployment; None where there is none."""
        return self._get(APPS, "deployments", name)

    def knative_service(self, name: str) -> Object | None:
        """Read a Service of Knative's; None where there is none."""
        return self._get(KNATIVE, "services", name)

    def routes_to(self, service: str) -> list[Object]:
        """List the routes of either kind that send requests to a Service; none where the cluster has no such kind."""
        return [
            {"kind": kind, **route}
            for kind, plural in PLURALS.items()
            for route in self._list(GATEWAY, plural)
            if any(
                backend["name"] == service for rule in route["spec"].get("rules", []) for backend in rule.get("backendRefs", [])
            )
        ]

    def warnings(self) -> dict[str, str]:
        """The last warning event of each pod, by the pod's name."""
        chosen = "type=Warning,involvedObject.kind=Pod"
        events = _items(_asked(self._core.list_namespaced_event, self._namespace, field_selector=chosen))
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return {event["involvedObject"]["name"]: event.get("message", "") for event in events}

    def route(self, kind: str, name: str) -> Object | None:
        """Read an HTTPRoute or GRPCRoute; None where there is none."""
        return self._get(GATEWAY, PLURALS[kind], name)

    def apply(self, item: Object, manager: str) -> None:
        """Apply a route or an InferenceService on the server as `manager`, which then owns all that `item` says.

        Raises ClusterConflict where it has another resource version by now.
        """
        group, plural = APPLIED[item["kind"]]
        _asked(
            self._custom.patch_namespaced_custom_object,
            *group,
            self._namespace,
            plural,
            item["metadata"]["name"],
            item,
            field_manager=manager,
            force=True,
            _content_type="application/apply-patch+yaml",  # JSON is YAML
        )

    def config_map(self, name: str) -> Object | None:
        """Read a ConfigMap; None where there is none."""
        return _found(self._core.read_namespaced_config_map, name, self._namespace)

    def create_config_map(self, item: Object) -> None:
        """Make a ConfigMap. Raises ClusterConflict where there is one."""
        _asked(self._core.create_namespaced_config_map, self._namespace, item)

    def patch_config_map(self, name: str, change: Object) -> None:
        """Merge a change into a ConfigMap. Raises ClusterConflict where it has another resource version than the change names."""
        _asked(self._core.patch_namespaced_config_map, name, self._namespace, change)

    def create_event(self, item: Object) -> None:
        """Write an event."""
        _asked(self._core.create_namespaced_event, self._namespace, item)

    def _list(self, group: tuple[str, str], plural: str) -> list[Object]:
        found = _found(self._custom.list_namespaced_custom_object, *group, self._namespace, plural)
        return [] if found is None else _items(found)

    def _get(self, group: tuple[str, str], plural: str, name: str) -> Object | None:
        return _found(self._custom.get_namespaced_custom_object, *group, self._namespace, plural, name)


def _found(call: Callable[..., Any], *of: str) -> Object | None:
    """What there is; None where there is nothing."""
    with _errors():
        try:
            return _answer(call, *of)
        except client.ApiException as err:
            if err.status == NOT_FOUND:
                return None
            raise


def _asked(call: Callable[..., Any], *of: Any, **how: Any) -> Object:
    with _errors():
        return _answer(call, *of, **how)


def _answer(call: Callable[..., Any], *of: Any, **how: Any) -> Object:
    """The object that the API answers, as it spells it: not parsed into the client's classes.

    Raises ClusterUnreachable where a proxy on the way answered something else.
    """
    text = call(*of, _preload_content=False, _request_timeout=TIMEOUT_S, **how).data
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ClusterUnreachable(f"the Kubernetes API answers no JSON, but {text[:50]!r}") from err
    if not isinstance(answer, dict):
        raise ClusterUnreachable(f"the Kubernetes API answers no object, but {text[:50]!r}")
    return cast(Object, answer)


def _items(answer: Object) -> list[Object]:
    items = answer.get("items")
    if not isinstance(items, list):
        raise ClusterUnreachable(f"the Kubernetes API answers no list, but {str(answer)[:50]!r}")
    return cast(list[Object], items)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except HTTPError as err:
        raise ClusterUnreachable(f"the Kubernetes API does not answer: {err}") from err
    except client.ApiException as err:
        sentence = f"the Kubernetes API answers {err.status}: {_message(err)}"
        if err.status == CONFLICT:
            raise ClusterConflict(sentence) from err
        if err.status == TOO_MANY or err.status >= SERVER_ERROR:
            raise ClusterUnreachable(sentence) from err
        raise ClusterError(sentence) from err


def _message(err: client.ApiException) -> str:
    """The sentence of the API's Status object, which says who was refused what."""
    try:
        return str(json.loads(err.body or "")["message"])
    except (ValueError, TypeError, KeyError):
        return str(err.reason)
