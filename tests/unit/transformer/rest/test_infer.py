"""POST .../infer: what the handler answered comes through, in every form of request and answer."""

import asyncio
import base64
import dataclasses
import json
import time

import numpy as np
import pytest

DIGEST = "ab" * 32
URL = "/v2/models/roofs/infer"
DEFAULT = ["label", "confidence", "probabilities", "decision", "score", "error"]


def image_input(images, **more):
    return {
        "name": "image",
        "datatype": "BYTES",
        "shape": [len(images)],
        "data": [base64.b64encode(i).decode() for i in images],
        **more,
    }


def binary_body(fields, blobs):
    """The binary extension's body and headers, written out by hand."""
    text = json.dumps(fields).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    return b"".join([text, *blobs]), headers


def length_prefixed(images):
    return b"".join(len(image).to_bytes(4, "little") + image for image in images)


def outputs_of(response):
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


async def test_json_request_and_answer(client, images, ask_handler):
    response = await client.post(URL, json={"id": "42", "inputs": [image_input(images[:2])]})
    answer = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("roofs", "3", "42")
    assert answer["parameters"] == {
        "archive_digest": DIGEST,
        "model_version": "3",
        "threshold": 0.4,
        "threshold_overridden": False,
        "positive": '["damaged"]',
        "review_from": 0.4,
        "review_to": 0.4,
    }
    assert [output["name"] for output in answer["outputs"]] == DEFAULT
    outputs = outputs_of(response)
    expected = [ask_handler(image) for image in images[:2]]
    assert outputs["label"] == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [2],
        "data": [answer["label"] for answer in expected],
    }
    assert outputs["decision"]["data"] == [answer["decision"] for answer in expected]
    assert outputs["error"]["data"] == ["", ""]
    assert outputs["confidence"]["datatype"] == "FP32"
    assert outputs["confidence"]["data"] == pytest.approx([answer["confidence"] for answer in expected], abs=1e-7)
    assert outputs["probabilities"]["shape"] == [2, 3]
    assert outputs["probabilities"]["data"] == pytest.approx(
        [p for answer in expected for p in answer["probabilities"]], abs=1e-7
    )


async def test_an_answer_without_an_id_has_none(client, images):
    for fields in ({}, {"id": None}):
        assert "id" not in (await client.post(URL, json={**fields, "inputs": [image_input(images[:1])]})).json()


async def test_an_empty_id_comes_back_too(client, images):
    assert (await client.post(URL, json={"id": "", "inputs": [image_input(images[:1])]})).json()["id"] == ""


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "application/json; charset=utf-8", "application/vnd.v2+json", "application/x-www-form-urlencoded"],
)
async def test_json_is_read_under_any_name(client, images, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post(URL, content=json.dumps({"inputs": [image_input(images[:1])]}), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("shape", [[3], [3, 1]])
async def test_binary_request_and_answer(client, images, ask_handler, shape):
    blob = length_prefixed(images[:3])
    tensor = {"name": "image", "datatype": "BYTES", "shape": shape, "parameters": {"binary_data_size": len(blob)}}
    body, headers = binary_body({"inputs": [tensor], "parameters": {"binary_data_output": True, "explain": True}}, [blob])
    response = await client.post(URL, content=body, headers=headers)
    assert response.status_code == 200, response.text
    size = int(response.headers["Inference-Header-Content-Length"])
    outputs = json.loads(response.content[:size])["outputs"]
    assert [output["name"] for output in outputs] == [
        *DEFAULT[:5],
        "heatmap",
        "heatmap_label",
        "heatmap_box",
        "heatmap_peak",
        "error",
    ]
    raw, at = {}, size
    for output in outputs:
        assert "data" not in output
        raw[output["name"]] = response.content[at : at + output["parameters"]["binary_data_size"]]
        at += output["parameters"]["binary_data_size"]
    assert at == len(response.content)
    expected = [ask_handler(image, explain="true") for image in images[:3]]
    assert raw["label"] == length_prefixed([answer["label"].encode() for answer in expected])
    assert raw["error"] == b"\0\0\0\0" * 3
    confidence = np.frombuffer(raw["confidence"], "<f4")
    np.testing.assert_allclose(confidence, [answer["confidence"] for answer in expected], rtol=1e-6)
    heatmaps = np.frombuffer(raw["heatmap"], "<f4").reshape(3, 4, 4)
    np.testing.assert_allclose(heatmaps, [answer["heatmap"] for answer in expected], atol=1e-6)
    assert {output["name"]: output["shape"] for output in outputs}["heatmap"] == [3, 4, 4]
    assert raw["heatmap_label"] == length_prefixed([answer["heatmap_label"].encode() for answer in expected])


async def test_one_output_alone_can_be_binary(client, images, ask_handler):
    asked = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    response = await client.post(URL, json={"inputs": [image_input(images[:1])], "outputs": asked})
    size = int(response.headers["Inference-Header-Content-Length"])
    probabilities, label = json.loads(response.content[:size])["outputs"]
    expected = ask_handler(images[0])
    assert label["data"] == [expected["label"]]
    assert probabilities["parameters"] == {"binary_data_size": 12}
    np.testing.assert_allclose(np.frombuffer(response.content[size:], "<f4"), expected["probabilities"], rtol=1e-6)


async def test_one_output_alone_can_stay_json(client, images):
    asked = [{"name": "confidence", "parameters": {"binary_data": False}}, {"name": "label"}]
    fields = {"inputs": [image_input(images[:1])], "outputs": asked, "parameters": {"binary_data_output": True}}
    response = await client.post(URL, json=fields)
    size = int(response.headers["Inference-Header-Content-Length"])
    confidence, label = json.loads(response.content[:size])["outputs"]
    assert len(confidence["data"]) == 1
    assert label["parameters"]["binary_data_size"] == len(response.content) - size


async def test_a_raw_binary_request_is_answered_in_binary(client, images, ask_handler):
    """The extension's words: with a length of 0 the body is the one input, and all outputs are binary."""
    headers = {"Inference-Header-Content-Length": "0", "Content-Type": "image/png"}
    response = await client.post(URL, content=images[0], headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    size = int(response.headers["Inference-Header-Content-Length"])
    outputs = json.loads(response.content[:size])["outputs"]
    assert [output["name"] for output in outputs] == DEFAULT
    assert not any("data" in output for output in outputs)
    assert sum(output["parameters"]["binary_data_size"] for output in outputs) == len(response.content) - size
    label = ask_handler(images[0])["label"].encode()
    assert response.content[size : size + 4 + len(label)] == length_prefixed([label])


@pytest.mark.parametrize("content_type", ["image/png", "Image/JPEG; q=1", "image/*", "image/heic", "image/heif"])
async def test_a_picture_as_it_is_is_answered_in_json(client, images, ask_handler, content_type):
    response = await client.post(URL, content=images[0], headers={"Content-Type": content_type})
    assert outputs_of(response)["label"]["data"] == [ask_handler(images[0])["label"]]


@pytest.mark.parametrize("name", ["threshold", "group", "explain", "top_k"])
async def test_parameters_of_ours_in_the_address_are_refused_as_nothing_reads_them(client, images, name):
    picture = {"content": images[0], "headers": {"Content-Type": "image/png"}}
    response = await client.post(f"{URL}?a=1&{name}", **picture)
    assert (response.status_code, response.json()["code"]) == (400, "request.parameter")
    assert f"{name}: no parameters are read from the address" in response.json()["error"]
    assert (await client.post(f"{URL}?a={name}&trace=x%ff", **picture)).status_code == 200


async def test_a_form_with_a_picture_is_answered_in_json(client, images, ask_handler):
    """httpx writes the form."""
    response = await client.post(URL, files={"file": ("roof.png", images[0], "image/png")})
    assert outputs_of(response)["label"]["data"] == [ask_handler(images[0])["label"]]


async def test_a_form_with_two_pictures_is_refused(client, images):
    response = await client.post(URL, files=[("file", images[0]), ("file", images[1])])
    assert (response.status_code, response.json()["code"]) == (400, "request.form")


@pytest.mark.parametrize("parameters", [{"threshold": "0.25", "top_k": "2"}, {"threshold": "2.5e-1", "top_k": "2"}])
async def test_numbers_may_be_strings(client, images, parameters):
    fields = {"inputs": [image_input(images[:1])], "parameters": {**parameters, "timeout": "5000000", "priority": "1"}}
    response = await client.post(URL, json=fields)
    assert outputs_of(response)["top_labels"]["shape"] == [1, 2]
    assert response.json()["parameters"]["threshold"] == 0.25


@pytest.mark.parametrize("name", ["explain", "top_k", "threshold", "timeout", "priority", "binary_data_output", "mine"])
async def test_null_is_as_if_left_out(client, images, name):
    fields = {"inputs": [{**image_input(images[:1]), "parameters": {"binary_data_size": None}}], "parameters": {name: None}}
    fields["outputs"] = [{"name": "label", "parameters": {"classification": None, "binary_data": None}}]
    assert (await client.post(URL, json=fields)).status_code == 200


@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
async def test_pixels(client, form, ask_handler, torchserve):
    pixels = np.random.default_rng(3).integers(0, 256, (2, 33, 20, 3), dtype=np.uint8)
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [2, 33, 20, 3]}
    if form == "binary":
        tensor["parameters"] = {"binary_data_size": pixels.size}
        body, headers = binary_body({"inputs": [tensor]}, [pixels.tobytes()])
        response = await client.post(URL, content=body, headers=headers)
    else:
        tensor["data"] = pixels.ravel().tolist() if form == "flat" else pixels.tolist()
        response = await client.post(URL, json={"inputs": [tensor]})
    expected = [ask_handler(image.tobytes(), shape="33,20") for image in pixels]
    probabilities = [p for answer in expected for p in answer["probabilities"]]
    assert outputs_of(response)["probabilities"]["data"] == pytest.approx(probabilities, abs=1e-7)
    assert {call["x-visor-shape"] for call in torchserve.calls} == {"33,20"}


async def test_the_requests_threshold_is_used_and_named(client, images, ask_handler):
    for threshold in (0.0, 1, 0.25):
        fields = {"inputs": [image_input(images[:1])], "parameters": {"threshold": threshold}}
        response = await client.post(URL, json=fields)
        assert outputs_of(response)["decision"]["data"] == [ask_handler(images[0], threshold=str(threshold))["decision"]]
        assert response.json()["parameters"]["threshold"] == threshold
        assert response.json()["parameters"]["threshold_overridden"] is True


async def test_top_k_is_the_sorted_probabilities(client, images):
    outputs = outputs_of(await client.post(URL, json={"inputs": [image_input(images[:2])], "parameters": {"top_k": 2}}))
    labels, probabilities = ("intact", "damaged", "unsure"), outputs["probabilities"]["data"]
    expected = [sorted(zip(probabilities[row : row + 3], labels, strict=True), reverse=True)[:2] for row in (0, 3)]
    assert outputs["top_labels"]["shape"] == outputs["top_probabilities"]["shape"] == [2, 2]
    assert outputs["top_labels"]["data"] == [label for row in expected for _, label in row]
    assert outputs["top_probabilities"]["data"] == [p for row in expected for p, _ in row]


async def test_requested_outputs_are_honoured_in_their_order(client, images, torchserve):
    asked = [{"name": "error"}, {"name": "label"}]
    fields = {"inputs": [image_input(images[:1])], "outputs": asked, "parameters": {"explain": True}}
    response = await client.post(URL, json=fields)
    assert [output["name"] for output in response.json()["outputs"]] == ["error", "label"]
    assert "x-visor-explain" not in torchserve.calls[0]  # nobody would see the heat map


async def test_what_other_clients_send_along_is_no_error(client, images):
    parameters = {"timeout": 5_000_000, "priority": 1, "sequence_id": 0, "made_up": "x"}
    fields = {"model_name": "roofs", "inputs": [image_input(images[:1])], "outputs": [], "parameters": parameters, "id": None}
    assert (await client.post(URL, json=fields)).status_code == 200


async def test_a_bad_image_answers_for_itself(client, images, torchserve):
    tensor = image_input([images[0], b"not an image", b"", images[1], bytes(100_001)])
    tensor["data"].append("not base64!")
    tensor["shape"] = [6]
    parameters = {"explain": True, "top_k": 1}
    outputs = outputs_of(await client.post(URL, json={"inputs": [tensor], "parameters": parameters}))
    codes = ["", "image.undecodable", "image.empty", "", "image.too_large", "image.undecodable"]
    assert outputs["error"]["data"] == codes
    for row, code in enumerate(codes):
        blank = code != ""
        assert (outputs["label"]["data"][row] == "") == blank
        assert (outputs["decision"]["data"][row] == "") == blank
        assert (outputs["confidence"]["data"][row] == 0) == blank
        assert (outputs["heatmap_label"]["data"][row] == "") == blank
        assert (outputs["top_labels"]["data"][row] == "") == blank
        assert (not any(outputs["probabilities"]["data"][3 * row : 3 * row + 3])) == blank
    assert len(torchserve.calls) == 3  # what cannot be an image does not travel


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ([b"x"], "image.undecodable"),
        ([b""], "image.empty"),
        ([b"", b"x"], "image.empty"),
        ([b"GIF89a.."], "image.unsupported"),
    ],
)
async def test_nothing_but_bad_images_is_an_error(client, bad, code):
    response = await client.post(URL, json={"inputs": [image_input(bad)]})
    assert response.status_code == 400
    assert response.json()["code"] == code
    assert response.json()["error"].startswith(f"{code}: ")
    assert response.json()["error"].count(code) == 1


@pytest.mark.parametrize(("shape", "code"), [([1, 0, 5, 3], "image.empty"), ([1, 1001, 1000, 3], "image.too_large")])
async def test_pixels_of_a_size_that_no_image_has(client, service, shape, code):
    service.limits = dataclasses.replace(service.limits, max_body_bytes=4_000_000)
    blob = bytes(int(np.prod(shape)))
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": len(blob)}}
    body, headers = binary_body({"inputs": [tensor]}, [blob])
    response = await client.post(URL, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, code)


async def test_the_version_is_optional(client, images):
    response = await client.post("/v2/models/roofs/versions/3/infer", json={"inputs": [image_input(images[:1])]})
    assert response.status_code == 200


async def test_large_requests_are_parsed_one_at_a_time(service):
    at_once, most = 0, 0

    def parse():
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.02)
        at_once -= 1

    await asyncio.gather(*(service.in_thread(parse) for _ in range(4)))
    assert (at_once, most) == (0, 1)


async def test_a_body_of_more_than_a_mebibyte_is_read_in_a_thread(client, service, images):
    service.limits = dataclasses.replace(service.limits, max_body_bytes=4_000_000)
    fields = {"inputs": [image_input(images[:1])], "padding": "x" * 1_500_000}
    assert (await client.post(URL, json=fields)).status_code == 200
