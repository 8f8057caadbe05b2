"""What a manager owns is taken out of an object as its FieldsV1 says; the examples are of Kubernetes' own form."""

from typing import Any

import pytest

from rollout.fields import changed, owned, writer_of, writes

SPEC = {
    "predictor": {
        "minReplicas": 2,
        "maxReplicas": 5,
        "model": {"args": ["--digest=1", "--x"], "storageUri": "pvc://m/1", "resources": {}},
        "tolerations": [{"key": "a"}],
        "containers": [{"name": "one", "image": "a", "tty": True}, {"name": "two", "image": "b"}],
        "finalizers": ["x", "y"],
        "empty": {},
    }
}


def item(fields: Any, **entry: Any) -> dict[str, Any]:
    made = {"manager": "helm", "operation": "Apply", "time": "2026-11-30T00:00:00Z", "fieldsV1": fields, **entry}
    metadata = {"name": "roofs", "namespace": "demo", "resourceVersion": "5", "uid": "u", "labels": {"a": "b", "c": "d"}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {**metadata, "managedFields": [made]},
        "spec": SPEC,
        "status": {"url": "x"},
    }


@pytest.mark.parametrize(
    ("fields", "predictor"),
    [
        ({"f:minReplicas": {}}, {"minReplicas": 2}),
        ({"f:model": {"f:args": {}, "f:storageUri": {}}}, {"model": {"args": ["--digest=1", "--x"], "storageUri": "pvc://m/1"}}),
        ({"f:model": {}}, {"model": SPEC["predictor"]["model"]}),
        ({"f:tolerations": {}}, {"tolerations": [{"key": "a"}]}),
        (
            {"f:containers": {'k:{"name":"two"}': {".": {}, "f:image": {}, "f:name": {}}}},
            {"containers": [{"name": "two", "image": "b"}]},
        ),
        ({"f:finalizers": {".": {}, 'v:"y"': {}}}, {"finalizers": ["y"]}),
        ({"f:containers": {"i:0": {"f:image": {}}}}, {"containers": [{"image": "a"}]}),
        ({"f:empty": {}, "f:gone": {}}, {"empty": {}}),
        ({".": {}}, {}),
    ],
)
def test_only_what_was_applied_is_there(fields: dict[str, Any], predictor: dict[str, Any]) -> None:
    found = owned(item({"f:spec": {"f:predictor": fields}}), "helm")
    assert found["spec"] == {"predictor": predictor}
    assert found["metadata"] == {"name": "roofs", "namespace": "demo", "resourceVersion": "5"}
    assert set(found) == {"apiVersion", "kind", "metadata", "spec"}


def test_labels_of_its_own_stay() -> None:
    found = owned(item({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}), "helm")
    assert found["metadata"]["labels"] == {"a": "b"}


@pytest.mark.parametrize("entry", [{"manager": "kubectl"}, {"operation": "Update"}, {"subresource": "status"}])
def test_what_others_wrote_is_not_there(entry: dict[str, str]) -> None:
    found = owned(item({"f:spec": {"f:predictor": {"f:minReplicas": {}}}}, **entry), "helm")
    assert set(found) == {"apiVersion", "kind", "metadata"}


def test_a_change_leaves_the_original() -> None:
    before = {"a": {"b": 1, "c": 2}}
    assert changed(before, ("a", "b"), 3) == {"a": {"b": 3, "c": 2}}
    assert changed(before, ("a", "c"), None) == {"a": {"b": 1}}
    assert changed(before, ("x", "y"), 1) == {"a": {"b": 1, "c": 2}, "x": {"y": 1}}
    assert before == {"a": {"b": 1, "c": 2}}


def test_the_last_writer_is_named_and_no_controller_of_the_status() -> None:
    written = item({})
    written["metadata"]["managedFields"] += [
        {"manager": "kubectl-patch", "operation": "Update", "time": "2026-11-30T01:00:00Z"},
        {"manager": "contour", "operation": "Update", "time": "2026-11-30T02:00:00Z", "subresource": "status"},
    ]
    assert writer_of(written) == "kubectl-patch"
    assert len(writes(written)) == 2
    assert writer_of({"metadata": {}}) == ""
