"""The classification extension: the k highest elements of an output as `value:index[:label]`."""

from dataclasses import dataclass

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as messages

from tests.conformance.answers import ABSOLUTE, RELATIVE
from tests.conformance.rest import binary_request, outputs_named, read_answer, read_error, request_fields
from tests.conformance.rpc import TIMEOUT_S, infer_request
from tests.conformance.rpc import read_answer as read_grpc
from tests.conformance.subject import Subject
from tests.conformance.tensors import Tensor

pytestmark = [
    pytest.mark.group("Classification"),
    pytest.mark.extension("classification", "extension_classification.md"),
]


NO_COUNTS = ["two", -1, 0.5, True]


@dataclass(frozen=True)
class Scores:
    """The output to classify by, (N, K)."""

    name: str
    values: "np.ndarray[tuple[int, int], np.dtype[np.float64]]"


@pytest.fixture
def scores(subject: Subject) -> Scores:
    """The first output with numbers for several classes."""
    for name, tensor in subject.reference.outputs.items():
        if tensor.datatype != "BYTES" and tensor.shape[-1:] > (1,) and len(tensor.shape) > 1:
            return Scores(name, tensor.values.astype(float).reshape(-1, tensor.shape[-1]))
    pytest.fail("the server claims classification, and no output has numbers for several classes")


def _check(tensor: Tensor, scores: Scores, count: int) -> None:
    """Against numpy's own sort; where two classes are equal, either may come first."""
    assert tensor.datatype == "BYTES"
    # "[ batch-size, count ]", and the document's own example leaves the batch of one out.
    assert tensor.shape in {(len(scores.values), count), (len(scores.values) * count,)}
    rows = np.reshape([element.decode() for element in tensor.values], (len(scores.values), count))
    for row, values in zip(rows, scores.values, strict=True):
        parts = [str(element).split(":", 2) for element in row]
        indexes = [int(part[1]) for part in parts]
        assert len(set(indexes)) == count
        np.testing.assert_allclose([float(part[0]) for part in parts], np.sort(values)[::-1][:count], RELATIVE, ABSOLUTE)
        np.testing.assert_allclose([float(part[0]) for part in parts], values[indexes], RELATIVE, ABSOLUTE)
        assert all(len(part) == 2 or part[2] for part in parts)


def _counts(scores: Scores) -> set[int]:
    return {1, 2, scores.values.shape[1]}


@pytest.mark.over("rest")
def test_the_highest_classes_are_told_over_rest(subject: Subject, scores: Scores) -> None:
    for count in _counts(scores):
        outputs = outputs_named([scores.name], {"classification": count})
        answer = read_answer(subject.infer(request_fields(subject.sample(0), outputs=outputs)))
        assert set(answer.outputs) == {scores.name}
        _check(answer.outputs[scores.name], scores, count)


@pytest.mark.over("rest")
def test_a_label_belongs_to_its_index(subject: Subject, scores: Scores) -> None:
    """The same index has the same label in two answers."""
    outputs = outputs_named([scores.name], {"classification": scores.values.shape[1]})
    seen: dict[str, str] = {}
    for number in range(2):
        answer = read_answer(subject.infer(request_fields(subject.sample(number), outputs=outputs)))
        for element in answer.outputs[scores.name].values:
            _, index, *label = element.decode().split(":", 2)
            assert seen.setdefault(index, "".join(label)) == "".join(label)
    assert len(seen) == scores.values.shape[1]


@pytest.mark.over("rest")
def test_other_outputs_stay_as_they_are(subject: Subject, scores: Scores) -> None:
    others = [name for name in subject.reference.outputs if name != scores.name]
    outputs = [*outputs_named([scores.name], {"classification": 1}), *outputs_named(others)]
    answer = read_answer(subject.infer(request_fields(subject.sample(0), outputs=outputs)))
    assert set(answer.outputs) == set(subject.reference.outputs)
    for name in others:
        assert answer.outputs[name].shape == subject.reference.outputs[name].shape


@pytest.mark.over("rest")
def test_the_highest_classes_are_told_as_binary(subject: Subject, scores: Scores) -> None:
    if not subject.claims("binary_tensor_data"):
        pytest.skip("not claimed: binary_tensor_data")
    outputs = outputs_named([scores.name], {"classification": 2, "binary_data": True})
    body, headers = binary_request(subject.sample(0), outputs=outputs)
    answer = read_answer(subject.http.post(f"{subject.model_path}/infer", content=body, headers=headers))
    _check(answer.outputs[scores.name], scores, 2)


@pytest.mark.over("rest")
@pytest.mark.parametrize("count", NO_COUNTS)
def test_a_count_that_is_none_is_refused(subject: Subject, scores: Scores, count: object) -> None:
    outputs = outputs_named([scores.name], {"classification": count})
    read_error(subject.infer(request_fields(subject.sample(0), outputs=outputs)))


@pytest.mark.over("grpc")
def test_the_highest_classes_are_told_over_grpc(subject: Subject, scores: Scores) -> None:
    for count in _counts(scores):
        request = infer_request(subject.options.model, subject.sample(0), outputs=[scores.name])
        request.outputs[0].parameters["classification"].CopyFrom(messages.InferParameter(int64_param=count))
        answer = read_grpc(subject.stub.ModelInfer(request, timeout=TIMEOUT_S))
        _check(answer.outputs[scores.name], scores, count)
