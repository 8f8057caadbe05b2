"""Health and metadata over REST."""

import pytest

from tests.conformance.rest import read_error, read_object
from tests.conformance.subject import UNKNOWN, Subject
from tests.conformance.tensors import NUMPY

pytestmark = [pytest.mark.over("rest"), pytest.mark.group("REST: health, metadata")]

HEALTH = ("/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready")
STATES = ("live", "ready")


@pytest.mark.required("inference_rest.md, Health/Readiness/Liveness Probes")
@pytest.mark.parametrize("path", HEALTH)
def test_health_is_200_while_the_model_is_served(subject: Subject, path: str) -> None:
    response = subject.http.get(path.format(model=subject.options.model))
    assert response.status_code == 200


@pytest.mark.required("inference_rest.md, Server Live, Server Ready and Model Ready Response JSON Object")
@pytest.mark.parametrize("path", HEALTH)
def test_health_has_no_body_or_the_one_of_the_specification(subject: Subject, path: str) -> None:
    """Older texts want the body empty (required_api.md, Health); the present one wants an object."""
    response = subject.http.get(path.format(model=subject.options.model))
    assert response.status_code == 200
    if response.content:
        fields = read_object(response)
        assert [fields[key] for key in STATES if key in fields] == [True]
        assert fields.get("name", subject.options.model) == subject.options.model


@pytest.mark.required("inference_rest.md, Server Metadata Response JSON Object")
def test_server_metadata_has_name_version_and_extensions(subject: Subject) -> None:
    fields = read_object(subject.http.get("/v2"))
    assert isinstance(fields["name"], str)
    assert isinstance(fields["version"], str)
    assert isinstance(fields["extensions"], list)
    assert all(isinstance(extension, str) for extension in fields["extensions"])


@pytest.mark.required("inference_rest.md, Model Metadata Response JSON Object")
def test_model_metadata_has_name_platform_inputs_and_outputs(subject: Subject) -> None:
    fields = read_object(subject.http.get(subject.model_path))
    assert fields["name"] == subject.options.model
    assert isinstance(fields["platform"], str)
    assert fields["inputs"]
    assert fields["outputs"]


@pytest.mark.required("inference_rest.md, $metadata_tensor; inference_grpc.md, Tensor Data Types")
def test_model_metadata_describes_each_tensor(subject: Subject) -> None:
    fields = read_object(subject.http.get(subject.model_path))
    tensors = fields["inputs"] + fields["outputs"]
    assert tensors
    for tensor in tensors:
        assert isinstance(tensor["name"], str)
        assert tensor["datatype"] in NUMPY
        assert all(type(side) is int and side >= -1 for side in tensor["shape"])


@pytest.mark.recommended("inference_rest.md, HTTP/REST (Payload in JSON); RFC 9110, section 8.3 (SHOULD)")
@pytest.mark.parametrize("path", ["/v2", "/v2/models/{model}"])
def test_metadata_says_that_it_is_json(subject: Subject, path: str) -> None:
    response = subject.http.get(path.format(model=subject.options.model))
    read_object(response)
    assert response.headers["content-type"].partition(";")[0] == "application/json"


@pytest.mark.required("inference_rest.md, Model Metadata Response JSON Error Object")
def test_metadata_of_an_unknown_model_is_an_error(subject: Subject) -> None:
    read_error(subject.http.get(f"/v2/models/{UNKNOWN}"))


@pytest.mark.required("required_api.md, Health (a 4xx status code indicates false)")
def test_an_unknown_model_is_not_ready(subject: Subject) -> None:
    assert 400 <= subject.http.get(f"/v2/models/{UNKNOWN}/ready").status_code < 500


@pytest.mark.extension("versions", "inference_rest.md, HTTP/REST (the optional versions portion)")
class TestVersions:
    """The endpoints with the versions portion, for a server that lists versions."""

    def test_metadata_lists_versions_as_strings(self, subject: Subject) -> None:
        versions = read_object(subject.http.get(subject.model_path))["versions"]
        assert versions
        assert all(isinstance(version, str) for version in versions)

    def test_each_listed_version_has_metadata_and_is_ready(self, subject: Subject) -> None:
        for version in subject.model_metadata["versions"]:
            path = f"{subject.model_path}/versions/{version}"
            assert read_object(subject.http.get(path))["name"] == subject.options.model
            assert subject.http.get(f"{path}/ready").status_code == 200

    def test_metadata_of_an_unknown_version_is_an_error(self, subject: Subject) -> None:
        read_error(subject.http.get(f"{subject.model_path}/versions/{UNKNOWN}"))

    def test_an_unknown_version_is_not_ready(self, subject: Subject) -> None:
        assert 400 <= subject.http.get(f"{subject.model_path}/versions/{UNKNOWN}/ready").status_code < 500
