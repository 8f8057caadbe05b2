"""The metadata of the server and of the model, as REST answers them; gRPC takes the same fields."""

from importlib.metadata import version
from typing import Any

from handlers.spec import Spec
from transformer.images import INPUTS
from transformer.outputs import OUTPUTS

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository", "parameters", "statistics")
"""The protocol's extensions that the edge speaks, by Triton's names."""

READY, UNAVAILABLE = "READY", "UNAVAILABLE"


def server_metadata() -> dict[str, Any]:
    """Make the server's metadata: name, version and protocol extensions."""
    return {"name": "visor", "version": version("visor"), "extensions": list(EXTENSIONS)}


def model_metadata(spec: Spec) -> dict[str, Any]:
    """Make the model's metadata: name, versions, platform, inputs and outputs; -1 is any side.

    The outputs are those that come without being asked for, as clients expect of this list; `model_facts` has the others.
    """
    return {
        "name": spec.name,
        "versions": [spec.version],
        "platform": f"visor_{spec.backend}",
        "inputs": [{"name": x.name, "datatype": x.datatype, "shape": list(x.shape)} for x in INPUTS.values()],
        "outputs": _outputs(spec, on_request=False),
    }


def _outputs(spec: Spec, *, on_request: bool) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": output.datatype, "shape": [-1, *output.sides(spec)]}
        for name, output in OUTPUTS.items()
        if bool(output.needs) == on_request
    ]


def model_facts(spec: Spec, archive_digest: str) -> dict[str, Any]:
    """Make the facts for which the protocol's metadata has no field; REST adds them as `parameters`."""
    return {
        "archive_digest": archive_digest,
        "labels": list(spec.labels),
        "outputs_on_request": _outputs(spec, on_request=True),
        "positive": list(spec.decision.positive),
        "threshold": spec.decision.threshold,
    }


def repository_index(spec: Spec, ready: bool, only_ready: bool | None) -> list[dict[str, str]]:
    """List the one model and its state; the list is empty where only ready models are asked for and it is not ready."""
    if only_ready and not ready:
        return []
    state, reason = (READY, "") if ready else (UNAVAILABLE, "no worker is ready")
    return [{"name": spec.name, "version": spec.version, "state": state, "reason": reason}]
