"""The request and the answer of a V2 inference, as REST and gRPC both mean them, whatever their form on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformer.tensors import InputTensor, OutputTensor


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a request names. `classification`: how many classes to name instead of the tensor, as the client sent it."""

    name: str
    classification: Any = None


@dataclass(frozen=True)
class InferRequest:
    """An inference request. `version` and `id` are "" and `outputs` is () where the client left them out."""

    model: str
    version: str = ""
    id: str = ""
    inputs: tuple[InputTensor, ...] = ()
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InferAnswer:
    """The answer to an inference, its outputs in the order in which they were asked for."""

    model: str
    version: str
    id: str
    parameters: Mapping[str, bool | float | str]
    outputs: tuple[OutputTensor, ...]
