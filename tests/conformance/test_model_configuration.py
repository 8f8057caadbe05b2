"""The model configuration extension: what Triton's tools, perf_analyzer first of all, ask of a model."""

import pytest
from tritonclient.grpc import service_pb2 as messages

from tests.conformance.rest import read_error, read_object
from tests.conformance.rpc import TIMEOUT_S, check_refused
from tests.conformance.subject import UNKNOWN, Subject
from tests.conformance.tensors import NUMPY

pytestmark = [
    pytest.mark.group("Model configuration"),
    pytest.mark.extension("model_configuration", "extension_model_configuration.md; model_config.proto, ModelConfig"),
]

# model_config.proto, DataType: the protocol's datatypes with TYPE_ before them, but for BYTES.
DATATYPES = {f"TYPE_{name}" for name in NUMPY if name != "BYTES"} | {"TYPE_STRING"}


@pytest.mark.over("rest")
def test_the_configuration_is_told_in_the_messages_form(subject: Subject) -> None:
    config = read_object(subject.http.get(f"{subject.model_path}/config"))
    assert config["name"] == subject.options.model
    assert type(config.get("max_batch_size", 0)) is int
    for tensor in config["input"] + config["output"]:
        assert tensor["data_type"] in DATATYPES
        assert all(type(side) is int for side in tensor["dims"])


@pytest.mark.over("rest")
def test_its_tensors_are_the_metadatas(subject: Subject) -> None:
    """With a batch size of 0 the sides of both are the same; else the metadata has the batch's before them."""
    config = read_object(subject.http.get(f"{subject.model_path}/config"))
    first = 1 if config.get("max_batch_size", 0) else 0
    for kind in ("input", "output"):
        listed = {tensor["name"]: tensor["shape"][first:] for tensor in subject.model_metadata[f"{kind}s"]}
        assert {tensor["name"]: tensor["dims"] for tensor in config[kind]} == listed


@pytest.mark.over("rest")
def test_a_version_can_be_asked_by_name(subject: Subject) -> None:
    path = f"{subject.model_path}/versions/{subject.version}" if subject.version else subject.model_path
    assert read_object(subject.http.get(f"{path}/config"))["name"] == subject.options.model


@pytest.mark.over("rest")
def test_an_unknown_model_is_refused(subject: Subject) -> None:
    read_error(subject.http.get(f"/v2/models/{UNKNOWN}/config"))


@pytest.mark.over("rest", "grpc")
def test_grpc_says_what_rest_says(subject: Subject) -> None:
    config = read_object(subject.http.get(f"{subject.model_path}/config"))
    told = subject.stub.ModelConfig(messages.ModelConfigRequest(name=subject.options.model), timeout=TIMEOUT_S).config
    assert (told.name, told.max_batch_size) == (config["name"], config.get("max_batch_size", 0))
    for ours, theirs in ((config["input"], told.input), (config["output"], told.output)):
        assert {(x["name"], tuple(x["dims"])) for x in ours} == {(x.name, tuple(x.dims)) for x in theirs}


@pytest.mark.over("grpc")
def test_an_unknown_model_is_refused_over_grpc(subject: Subject) -> None:
    check_refused(subject.stub.ModelConfig, messages.ModelConfigRequest(name=UNKNOWN))
