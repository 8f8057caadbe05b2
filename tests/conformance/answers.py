"""What a server answered, whatever way it came, and whether two answers say the same."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.conformance.tensors import Tensor, Violation

# Two runs of one network may differ by the order of its sums, and JSON may round; a wrong answer is further off.
RELATIVE, ABSOLUTE = 1e-3, 1e-5


@dataclass(frozen=True)
class Answer:
    """An inference response. `version` and `id` are empty where the answer has none."""

    model: str
    version: str
    id: str
    parameters: dict[str, Any]
    outputs: dict[str, Tensor]


def check_same(answer: Answer, expected: Answer, names: set[str] | None = None) -> None:
    """Raises Violation where the outputs (`names`: of these only) differ in name, datatype, shape or values."""
    wanted = set(expected.outputs) if names is None else names
    if set(answer.outputs) != wanted:
        raise Violation(f"outputs must be {sorted(wanted)}, got {sorted(answer.outputs)}")
    for name in wanted:
        check_same_tensor(answer.outputs[name], expected.outputs[name])


def check_same_tensor(tensor: Tensor, expected: Tensor) -> None:
    """Raises Violation where datatype, shape or values differ."""
    if (tensor.datatype, tensor.shape) != (expected.datatype, expected.shape):
        raise Violation(
            f"{tensor.name} must be {expected.datatype} {list(expected.shape)}, got {tensor.datatype} {list(tensor.shape)}"
        )
    if not equal_values(tensor, expected):
        raise Violation(f"{tensor.name} must hold {expected.values[:4]}..., got {tensor.values[:4]}...")


def equal_values(tensor: Tensor, expected: Tensor) -> bool:
    """Whether two tensors of one shape hold the same values, floating point ones but for rounding."""
    if expected.datatype.startswith("FP"):
        return bool(np.allclose(tensor.values, expected.values, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True))
    return bool(np.array_equal(tensor.values, expected.values))


def differ(answer: Answer, other: Answer) -> bool:
    """Whether any output differs, so that one answer cannot pass for the other."""
    return any(
        tensor.shape != other.outputs[name].shape or not equal_values(tensor, other.outputs[name])
        for name, tensor in answer.outputs.items()
        if name in other.outputs
    )
