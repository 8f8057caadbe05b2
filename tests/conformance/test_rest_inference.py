"""Inference over REST, with tensors as JSON."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conformance.answers import check_same, check_same_tensor
from tests.conformance.rest import outputs_named, read_answer, request_fields
from tests.conformance.subject import Subject
from tests.conformance.tensors import Tensor

pytestmark = [pytest.mark.over("rest"), pytest.mark.group("REST: inference")]

PARALLEL, REQUESTS = 8, 32


@pytest.mark.required("inference_rest.md, Inference Response JSON Object")
def test_a_request_is_answered_by_the_model_it_names(subject: Subject) -> None:
    answer = read_answer(subject.infer(request_fields(subject.sample(0))))
    assert answer.model == subject.options.model
    assert answer.outputs


@pytest.mark.recommended("inference_rest.md, HTTP/REST (Payload in JSON); RFC 9110, section 8.3 (SHOULD)")
def test_an_answer_says_that_it_is_json(subject: Subject) -> None:
    response = subject.infer(request_fields(subject.sample(0)))
    read_answer(response)
    assert response.headers["content-type"].partition(";")[0] == "application/json"


@pytest.mark.required("inference_rest.md, Model Metadata Response JSON Object (inputs: the inputs required by the model)")
def test_a_request_of_all_that_the_metadata_lists_is_answered(subject: Subject) -> None:
    """Whatever the suite was told of a valid request: a client that reads the metadata has nothing else to go by."""
    assert read_answer(subject.infer(request_fields(subject.by_metadata(0)))).outputs


@pytest.mark.required("inference_rest.md, Inference Request JSON Object (id)")
@pytest.mark.parametrize("name", ["42", 'ünïcode "quoted"', "x" * 500, ""])
def test_the_id_comes_back(subject: Subject, name: str) -> None:
    response = subject.infer(request_fields(subject.sample(0), id=name))
    assert read_answer(response).id == name
    assert "id" in response.json()


@pytest.mark.required("required_api.md, Tensor Data (flattened or natural representation)")
def test_nested_data_is_answered_as_flat_data_is(subject: Subject) -> None:
    nested = read_answer(subject.infer(request_fields(subject.sample(0), nested=True)))
    check_same(nested, subject.reference)


@pytest.mark.required("inference_rest.md, Inference Request JSON Object (outputs)")
def test_each_output_can_be_asked_for_alone(subject: Subject) -> None:
    for name in subject.reference.outputs:
        answer = read_answer(subject.infer(request_fields(subject.sample(0), outputs=outputs_named([name]))))
        check_same(answer, subject.reference, {name})


@pytest.mark.required("inference_rest.md, Inference Request JSON Object (outputs)")
def test_outputs_can_be_asked_for_in_any_order(subject: Subject) -> None:
    """The specification does not order the answer's outputs, so they are read by name."""
    names = [*subject.reference.outputs][::-1]
    answer = read_answer(subject.infer(request_fields(subject.sample(0), outputs=outputs_named(names))))
    check_same(answer, subject.reference)


@pytest.mark.required("inference_rest.md, Model Metadata Response JSON Object and Inference Request JSON Object (outputs)")
def test_without_outputs_the_answer_has_all_that_the_metadata_names(subject: Subject) -> None:
    assert set(subject.reference.outputs) == {output["name"] for output in subject.model_metadata.get("outputs", ())}


@pytest.mark.required("inference_rest.md, Model Metadata Response JSON Object (outputs)")
def test_each_output_of_the_metadata_can_be_asked_for(subject: Subject) -> None:
    names = [output["name"] for output in subject.model_metadata.get("outputs", ())]
    assert names
    for name in names:
        answer = read_answer(subject.infer(request_fields(subject.sample(0), outputs=outputs_named([name]))))
        assert set(answer.outputs) == {name}


@pytest.mark.required("inference_rest.md, $metadata_tensor (datatype, shape)")
def test_outputs_are_of_the_datatype_and_shape_that_the_metadata_promises(subject: Subject) -> None:
    promised = {output["name"]: output for output in subject.model_metadata.get("outputs", ())}
    for name, tensor in subject.reference.outputs.items():
        assert tensor.datatype == promised[name]["datatype"]
        assert len(tensor.shape) == len(promised[name]["shape"])
        assert all(promise in (-1, side) for side, promise in zip(tensor.shape, promised[name]["shape"], strict=True))


@pytest.mark.required("inference_rest.md, Inference Request JSON Object and required_api.md, Parameters (zero or more)")
def test_empty_parameters_are_allowed_wherever_they_may_stand(subject: Subject) -> None:
    names = [*subject.reference.outputs]
    fields = request_fields(subject.sample(0), parameters={}, outputs=[{"name": name, "parameters": {}} for name in names])
    for tensor in fields["inputs"]:
        tensor["parameters"] = {}
    check_same(read_answer(subject.infer(fields)), subject.reference)


@pytest.mark.required("inference_rest.md, Inference Request JSON Object (each answer belongs to its request)")
def test_requests_in_parallel_get_their_own_answers(subject: Subject) -> None:
    other = subject.other_sample()
    expected = {0: subject.reference, other: subject.answer_to(subject.sample(other))}
    numbers = [(0, other)[n % 2] for n in range(REQUESTS)]
    with ThreadPoolExecutor(PARALLEL) as pool:
        requests = [request_fields(subject.sample(number), id=f"request {n}") for n, number in enumerate(numbers)]
        found = [read_answer(response) for response in pool.map(subject.infer, requests)]
    assert [answer.id for answer in found] == [f"request {n}" for n in range(REQUESTS)]
    for answer, number in zip(found, numbers, strict=True):
        check_same(answer, expected[number])


@pytest.mark.extension("batch", "inference_rest.md, Request Input (the full shape and contents of the entire batch)")
def test_a_batch_is_answered_row_by_row(subject: Subject) -> None:
    answer = read_answer(subject.infer(request_fields(subject.batch(2))))
    for name, tensor in answer.outputs.items():
        assert tensor.shape[0] == 2
        for row, values in enumerate(np.split(tensor.values, 2)):
            lone = subject.answer_to(subject.sample(row)).outputs[name]
            check_same_tensor(Tensor(name, tensor.datatype, (1, *tensor.shape[1:]), values), lone)


@pytest.mark.extension("batch", "required_api.md, Tensor Data (row-major order)")
def test_a_nested_batch_is_read_row_by_row(subject: Subject) -> None:
    nested = read_answer(subject.infer(request_fields(subject.batch(3), nested=True)))
    check_same(nested, subject.answer_to(subject.batch(3)))


@pytest.mark.extension("versions", "inference_rest.md, HTTP/REST (the optional versions portion) and model_version")
def test_a_version_can_be_asked_by_name(subject: Subject) -> None:
    answer = read_answer(subject.infer(request_fields(subject.sample(0)), f"/versions/{subject.version}/infer"))
    assert answer.version == subject.version
    check_same(answer, subject.reference)
