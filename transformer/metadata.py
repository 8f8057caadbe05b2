"""The metadata of the server and of the model, as REST answers them; gRPC takes the same fields."""

import json
from importlib.metadata import version
from typing import Any

from handlers.decision import Rule, rule_of
from handlers.spec import Spec
from transformer.images import IMAGE, PIXELS, Input
from transformer.outputs import outputs_of
from transformer.tensors import BYTES

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters", "statistics")
"""The protocol's extensions that the edge speaks, by Triton's names."""

READY, UNAVAILABLE = "READY", "UNAVAILABLE"


def server_metadata() -> dict[str, Any]:
    """Make the server's metadata: name, version and protocol extensions."""
    return {"name": "visor", "version": version("visor"), "extensions": list(EXTENSIONS)}


def model_metadata(spec: Spec) -> dict[str, Any]:
    """Make the model's metadata: name, versions, platform, inputs and outputs; -1 is any side.

    The input is the one that a request needs, the outputs are those that come without being asked for, as clients expect of
    these lists; `model_facts` has the others.
    """
    return {
        "name": spec.name,
        "versions": [spec.version],
        "platform": f"visor_{spec.backend}",
        "inputs": [_described(IMAGE)],
        "outputs": _outputs(spec, on_request=False),
    }


def _described(declared: Input) -> dict[str, Any]:
    return {"name": declared.name, "datatype": declared.datatype, "shape": list(declared.shape)}


def _outputs(spec: Spec, *, on_request: bool) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": output.datatype, "shape": [-1, *output.sides(spec)]}
        for name, output in outputs_of(spec).items()
        if bool(output.needs) == on_request
    ]


def model_facts(spec: Spec, archive_digest: str) -> dict[str, Any]:
    """Make the facts for which the protocol's metadata has no field; REST adds them as `parameters`.

    A request brings either the metadata's input or one of `inputs_instead` in its place. Of the rule: which labels are flagged,
    from which score, between which ends a person looks; and, where the archive has them, its bound on missed images, what other
    thresholds would do, its groups' rules, its prediction sets and its decision about pictures that fail.
    """
    wanted, sets = spec.decision, spec.prediction_sets
    facts = {
        "archive_digest": archive_digest,
        "inputs_instead": [{**_described(PIXELS), "instead_of": IMAGE.name}],
        "labels": list(spec.labels),
        "outputs_on_request": _outputs(spec, on_request=True),
        "positive": list(wanted.positive),
        **_ends(rule_of(spec)),
        "fnr_bound": wanted.fnr_bound and wanted.fnr_bound.model_dump(),
        "curve": wanted.curve and [point.model_dump() for point in wanted.curve],
        "groups": wanted.groups and [{"name": one.name, **_ends(rule_of(spec, group=one.name))} for one in wanted.groups],
        "prediction_sets": sets and sets.model_dump(include={"method", "coverage"}),
        "on_error": wanted.on_error,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _ends(rule: Rule) -> dict[str, float]:
    return {"threshold": rule.threshold, "review_from": rule.review_from, "review_to": rule.review_to}


def model_config(spec: Spec, archive_digest: str, workers: int) -> dict[str, Any]:
    """Make the model's configuration, the fields of Triton's ModelConfig that say something here.

    `max_batch_size` 0 means that shapes are whole, with the side that counts images. `workers`: 0 where their number is not
    known. The parameters are the facts of `model_facts`, as text or as JSON; over gRPC they are nowhere else.
    """
    described = model_metadata(spec)
    group = {"name": f"{spec.name}_0", "kind": "KIND_CPU", "count": workers}
    facts = model_facts(spec, archive_digest).items()
    return {
        "name": spec.name,
        "platform": described["platform"],
        "backend": "visor",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [_configured(tensor) for tensor in described["inputs"]],
        "output": [_configured(tensor) for tensor in described["outputs"]],
        "instance_group": [group] if workers else [],
        "parameters": {name: {"string_value": fact if isinstance(fact, str) else json.dumps(fact)} for name, fact in facts},
    }


def _configured(tensor: dict[str, Any]) -> dict[str, Any]:
    kind = "STRING" if tensor["datatype"] == BYTES else tensor["datatype"]
    return {"name": tensor["name"], "data_type": f"TYPE_{kind}", "dims": tensor["shape"]}


def repository_index(spec: Spec, ready: bool, only_ready: bool | None) -> list[dict[str, str]]:
    """List the one model and its state; the list is empty where only ready models are asked for and it is not ready."""
    if only_ready and not ready:
        return []
    state, reason = (READY, "") if ready else (UNAVAILABLE, "no worker is ready")
    return [{"name": spec.name, "version": spec.version, "state": state, "reason": reason}]
