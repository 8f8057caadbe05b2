"""Requests of each form, read back by who would get them: visor's own protocol code, and a parser of forms."""

import email
import email.policy

import numpy as np
import pytest

from loadtests.bench.forms import BINARY, GRPC, JSON, V2_FORMS, raw, upload
from transformer.images import Picture, read_images
from transformer.rest.body import parse_request

IMAGES = [b"\xff\xd8 first", b"\xff\xd8 the second, longer"]


@pytest.mark.parametrize("name", [JSON, BINARY])
def test_the_rest_forms_carry_the_images(name: str) -> None:
    from handlers.spec import Limits

    request = V2_FORMS[name].make(IMAGES, "roofs")
    assert request.path == "/v2/models/roofs/infer"
    parsed, form = parse_request(request.body, request.headers.get("Inference-Header-Content-Length"), "roofs", "")
    pictures = read_images(parsed.inputs, Limits(), 64)
    assert [bytes(picture.body) for picture in pictures if isinstance(picture, Picture)] == IMAGES
    assert form.is_binary("label") is (name == BINARY)


def test_the_grpc_message_carries_the_images() -> None:
    import tritonclient.grpc.service_pb2 as v2
    from tritonclient.utils import deserialize_bytes_tensor

    request = V2_FORMS[GRPC].make(IMAGES, "roofs")
    message = v2.ModelInferRequest.FromString(request.body)
    assert (request.path, message.model_name) == ("/inference.GRPCInferenceService/ModelInfer", "roofs")
    assert list(message.inputs[0].shape) == [2]
    np.testing.assert_array_equal(deserialize_bytes_tensor(message.raw_input_contents[0]), np.array(IMAGES, np.object_))


def test_an_upload_is_a_form_with_one_file() -> None:
    request = upload("/classify", "image").make(IMAGES[:1], "roofs")
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    (part,) = email.message_from_bytes(head + request.body, policy=email.policy.HTTP).iter_parts()
    assert part.get_param("name", header="content-disposition") == "image"
    assert part.get_content_type() == "image/jpeg"
    assert part.get_payload(decode=True) == IMAGES[0]


def test_a_raw_body_is_the_image_at_the_model_s_path() -> None:
    request = raw("/predictions/{model}").make(IMAGES[:1], "roofs")
    assert (request.path, request.body) == ("/predictions/roofs", IMAGES[0])
