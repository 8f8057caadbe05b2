"""The request and the answer of a V2 inference, as REST and gRPC both mean them, whatever their form on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handlers.errors import OptionError
from transformer.errors import NO_SHARED_MEMORY, SharedMemoryRefused, show
from transformer.tensors import InputTensor, OutputTensor


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a request names. `classification`: how many classes to name instead of the tensor, as the client sent it."""

    name: str
    classification: Any = None


@dataclass(frozen=True)
class InferRequest:
    """An inference request. `version` is "", `id` None and `outputs` () where the client left them out."""

    model: str
    version: str = ""
    id: str | None = None
    inputs: tuple[InputTensor, ...] = ()
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InferAnswer:
    """The answer to an inference, its outputs in the order in which they were asked for."""

    model: str
    version: str
    id: str | None
    parameters: Mapping[str, bool | float | str]
    outputs: tuple[OutputTensor, ...]


def check_parameters(parameters: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Check the parameters of a request, an input or an output, and return those that have a value: null is none.

    Raises OptionError for a value that is no string, number or boolean, as the protocol has them; SharedMemoryRefused.
    """
    given = {key: value for key, value in parameters.items() if value is not None}
    for key, value in given.items():
        if not isinstance(value, str | int | float):  # to Python a bool is an int
            raise OptionError(f"parameter {show(key)} of {what} must be a string, a number or a boolean, got {show(value)}")
    if "shared_memory_region" in given:
        raise SharedMemoryRefused(f"{what} is to be in shared memory; {NO_SHARED_MEMORY}")
    return given
