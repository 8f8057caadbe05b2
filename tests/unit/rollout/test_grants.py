"""The chart's Roles, for the canary gate and for a release by evidence, grant the calls that `rollout` makes, and no others."""

from dataclasses import replace
from pathlib import Path

import yaml

from rollout.run import Loop
from rollout.shift import Shift, shift
from tests.unit.rollout.conftest import ARCHIVE, NAMESPACE, make_route, route_path, shared_rules
from tests.unit.rollout.world import RECORD, service_at

# helm-unittest holds the rendered Roles against the rules in these files.
PINNED = Path(__file__).parents[3] / "charts" / "visor" / "tests"

Grant = tuple[str, str, str, str | None]  # group, resource, verb, name; None where any name is granted


def granted(name: str) -> set[Grant]:
    [equal] = yaml.safe_load((PINNED / name).read_text())["tests"][0]["asserts"]
    return {
        (group, resource, verb, name)
        for rule in equal["equal"]["value"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [None])
    }


def grant_for(method: str, path: str) -> Grant:
    """What RBAC asks of a request, by the path's form: /apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME."""
    api, *parts = path.strip("/").split("/")
    group = parts.pop(0) if api == "apis" else ""
    _version, namespaces, namespace, resource, *names = parts
    assert (namespaces, namespace) == ("namespaces", NAMESPACE)
    verb = {"GET": "get" if names else "list", "PATCH": "patch", "POST": "create"}[method]
    return group, resource, verb, names[0] if names else None


def test_the_gate_is_granted_what_rollout_calls_and_nothing_else(api, cluster, monkeypatch):
    monkeypatch.setattr("rollout.waiting.FAILURE_LASTS_S", 0.2)
    api.objects[route_path("HTTPRoute")] = make_route("HTTPRoute", *shared_rules(ports=(80, 8081)))
    shift(cluster, Shift("roofs-canary", (("HTTPRoute", "roofs"),), 20, ARCHIVE, 10.0, "helm"))
    assert api.weights("HTTPRoute") == [[80, 20], [80, 20], [None], [None]]
    assert len(api.applied) == 1  # REST's and gRPC's at once
    assert {grant_for(*call) for call in api.calls} == granted("canary_gate_test.yaml")


def test_a_release_by_evidence_is_granted_what_it_calls_and_nothing_else(api, world):
    """A canary with too few pods, which is promoted: all that a release does."""
    for name, pods in (("roofs", 2), ("roofs-canary", 1)):
        api.objects[service_at(name)]["spec"]["predictor"]["minReplicas"] = pods
    api.objects[RECORD] = {"metadata": {"name": "roofs-rollout", "resourceVersion": "1"}}  # the chart makes it
    order = replace(world.order, routes=(("HTTPRoute", "roofs"),))
    world.end(Loop(world.cluster, order, world.now, "one"))
    assert {body["metadata"]["name"] for _, body in api.applied} == {"roofs", "roofs-canary"}
    assert {grant_for(*call) for call in api.calls} == granted("rollout_test.yaml")
