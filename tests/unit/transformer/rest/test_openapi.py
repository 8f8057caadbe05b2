"""The document says what the edge does: its addresses, its errors and its answers, each held against the running app."""

import json
import re
from html.parser import HTMLParser

import pytest
import schemathesis
from openapi_spec_validator import validate
from starlette.routing import Route

from handlers.errors import ArchiveBroken, ImageError, VisorError
from transformer import errors
from transformer.outputs import outputs_of
from transformer.rest.app import create_app
from transformer.rest.openapi import ANYWHERE, document
from transformer.rest.swagger import FILES

DIGEST = "ab" * 32
IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["YWI="]}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
# Errors that no request is answered with over HTTP, or that only stand for those below them.
NEVER_ANSWERED = {
    ImageError,
    errors.RequestError,
    errors.Unavailable,
    ArchiveBroken,
    errors.ProtobufInvalid,
    errors.ClientGone,
    errors.PortTaken,
    errors.TokensUnusable,
    errors.SelftestFailed,
    errors.ShadowUnusable,
}


@pytest.fixture(scope="session")
def made(spec):
    return document(spec, DIGEST, max_images=6, max_body_bytes=400_000)


@pytest.fixture(scope="session")
def schema(made):
    return schemathesis.openapi.from_dict(made)


def tree(kind):
    return {kind}.union(*(tree(below) for below in kind.__subclasses__() if below.__module__ in OURS))


OURS = {VisorError.__module__, errors.__name__}


def operations(made):
    return [
        (path, method, operation)
        for path, item in made["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def test_is_an_openapi_document(made):
    validate(made)


def test_has_the_addresses_of_the_app_and_no_other(made, service):
    routes = [route for route in create_app(service).app.routes if isinstance(route, Route) and route.include_in_schema]
    served = {(route.path, method) for route in routes for method in route.methods - {"HEAD"}}  # HEAD comes with every GET
    assert {(path, method.upper()) for path, method, _ in operations(made)} == served


def test_has_every_code_that_the_edge_answers_with_at_its_status(made):
    expected = {(kind.status, kind.code) for kind in tree(VisorError) - NEVER_ANSWERED}
    rows = re.findall(r"^\| `([\w.]+)` \| (\d+) \|", made["info"]["description"], re.MULTILINE)
    assert {(int(status), code) for code, status in rows} == expected
    listed = {
        (int(status), code)
        for _, _, operation in operations(made)
        for status, response in operation["responses"].items()
        if status != "200"
        for code in response["content"]["application/json"]["schema"]["properties"]["code"]["enum"]
    }
    # Those that are answered before it is known which operation is meant.
    assert listed == expected - {(kind.status, kind.code) for kind in ANYWHERE}


def test_names_this_archive(made, spec):
    about = made["info"]["description"]
    assert {spec.name, DIGEST, *spec.labels} <= set(re.findall(r"`([^`]+)`", about))
    assert f"at most {spec.limits.max_bytes} bytes" in about
    assert made["components"]["parameters"]["name"]["schema"]["enum"] == [spec.name]
    assert made["components"]["schemas"]["RequestedOutput"]["properties"]["name"]["enum"] == list(outputs_of(spec))


@pytest.mark.parametrize(
    ("path", "method", "url", "status", "request_"),
    [
        ("/v2", "GET", "/v2", 200, {}),
        ("/v2/health/live", "GET", "/v2/health/live", 200, {}),
        ("/v2/health/ready", "GET", "/v2/health/ready", 200, {}),
        ("/v2/models/{name}", "GET", "/v2/models/roofs", 200, {}),
        ("/v2/models/{name}", "GET", "/v2/models/walls", 404, {}),
        ("/v2/models/{name}/versions/{version}", "GET", "/v2/models/roofs/versions/3", 200, {}),
        ("/v2/models/{name}/versions/{version}", "GET", "/v2/models/roofs/versions/4", 404, {}),
        ("/v2/models/{name}/ready", "GET", "/v2/models/roofs/ready", 200, {}),
        ("/v2/models/{name}/config", "GET", "/v2/models/roofs/config", 200, {}),
        ("/v2/models/{name}/versions/{version}/config", "GET", "/v2/models/roofs/versions/4/config", 404, {}),
        ("/v2/models/{name}/infer", "POST", "/v2/models/roofs/infer", 400, {"content": b"", "headers": FORM}),
        ("/v2/models/{name}/versions/{version}/ready", "GET", "/v2/models/roofs/versions/3/ready", 200, {}),
        ("/v2/repository/index", "GET", "/v2/repository/index", 200, {}),
        ("/v2/repository/index", "POST", "/v2/repository/index", 200, {"json": {"ready": True}}),
        ("/v2/repository/index", "POST", "/v2/repository/index", 400, {"content": b"["}),
        ("/v2/repository/index", "POST", "/v2/repository/index", 400, {"json": {"ready": "yes"}}),
        ("/v2/repository/models/{name}/load", "POST", "/v2/repository/models/roofs/load", 200, {}),
        ("/v2/repository/models/{name}/load", "POST", "/v2/repository/models/roofs/load", 400, {"json": {"parameters": 5}}),
        ("/v2/repository/models/{name}/unload", "POST", "/v2/repository/models/roofs/unload", 400, {}),
        ("/v2/repository/models/{name}/unload", "POST", "/v2/repository/models/walls/unload", 404, {}),
        ("/v2/models/stats", "GET", "/v2/models/stats", 200, {}),
        ("/v2/models/{name}/stats", "GET", "/v2/models/walls/stats", 404, {}),
        ("/metrics", "GET", "/metrics", 200, {}),
        ("/v2/models/{name}/infer", "POST", "/v2/models/roofs/infer", 400, {"json": {"inputs": [IMAGE]}}),
        ("/v2/models/{name}/infer", "POST", "/v2/models/roofs/infer", 400, {"content": b""}),
        ("/v2/models/{name}/infer", "POST", "/v2/models/roofs/infer", 413, {"content": bytes(400_001)}),
        (
            "/v2/models/{name}/infer",
            "POST",
            "/v2/models/roofs/infer",
            415,
            {"content": b"", "headers": {"Content-Type": "video/mp4"}},
        ),
    ],
)
async def test_answers_are_of_its_form(client, schema, path, method, url, status, request_):
    response = await client.request(method, url, **request_)
    assert response.status_code == status
    schema[path][method].validate_response(response)


@pytest.mark.parametrize("at", ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"])
@pytest.mark.parametrize("parameters", [{}, {"explain": True, "top_k": 2, "threshold": 0.5}, {"binary_data_output": True}])
async def test_inferences_are_of_its_form(client, schema, images, at, parameters):
    head = json.dumps({"id": "7", "inputs": [{**IMAGE, "data": None, "parameters": {"binary_data_size": len(images[0]) + 4}}],
                       "parameters": parameters}).encode()  # fmt: skip
    body = head + len(images[0]).to_bytes(4, "little") + images[0]
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = await client.post(at.format(name="roofs", version="3") + "/infer", content=body, headers=headers)
    assert response.status_code == 200
    schema[f"{at}/infer"]["POST"].validate_response(response)


@pytest.mark.parametrize(
    ("headers", "around"),
    [
        ({"Content-Type": "image/png"}, (b"", b"")),
        ({"Content-Type": "image/*"}, (b"", b"")),  # what the page at /docs sends
        ({"Content-Type": "application/octet-stream"}, (b"", b"")),
        (FORM, (b"--x\r\n\r\n", b"\r\n--x--")),
    ],
)
async def test_uploads_are_answered_in_its_form(client, schema, images, headers, around):
    body = images[0].join(around)
    response = await client.post("/v2/models/roofs/infer", content=body, headers=headers)
    assert response.status_code == 200
    schema["/v2/models/{name}/infer"]["POST"].validate_response(response)


async def test_bytes_that_are_neither_picture_nor_json_are_told_what_to_be(client):
    for body, said in ((b"GIF89a" + bytes(9), "GIF is not read; send a JPEG, PNG"), (b"picture", "are not JSON")):
        response = await client.post("/v2/models/roofs/infer", content=body, headers={"Content-Type": "application/octet-stream"})
        assert response.status_code == 400
        assert said in response.json()["error"]


async def test_its_own_example_is_answered(client, made):
    response = await client.post("/v2/models/roofs/infer", json=made["components"]["schemas"]["InferRequest"]["example"])
    assert response.status_code == 200


async def test_is_served_as_it_is_made(client, service, spec):
    response = await client.get("/openapi.json")
    expected = document(spec, DIGEST, service.limits.max_images, service.limits.max_body_bytes)
    assert response.json() == json.loads(json.dumps(expected))


async def test_the_page_asks_no_other_host_for_anything(client):
    page = await client.get("/docs")
    asked: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda _, attributes: asked.extend(value for key, value in attributes if key in ("src", "href"))
    parser.feed(page.text)
    assert set(asked) == {"data:,", "openapi.json", *(f"docs/{name}" for name in FILES)}
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {source for sources in policy.values() for source in sources.split()} == {"'none'", "'self'", "data:"}


@pytest.mark.parametrize(
    ("name", "media_type"), [("page.js", "javascript"), ("swagger-ui.css", "css"), ("swagger-ui-bundle.js", "javascript")]
)
async def test_the_pages_files_are_served(client, name, media_type):
    response = await client.get(f"/docs/{name}")
    assert response.status_code == 200
    assert response.content == FILES[name].read_bytes()
    assert response.headers["content-type"] == f"text/{media_type}; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["", "app.py", "swagger-ui.js", "../app.py", "%2e%2e/app.py"])
async def test_no_other_file_is(client, name):
    response = await client.get(f"/docs/{name}")
    assert (response.status_code, response.json()["code"]) == (404, "request.path")
