"""docs/console-api.md: each route of the console, from its OpenAPI document."""

import json
from collections.abc import Iterator
from typing import Any

from console.app import create_app
from console.settings import Settings
from tools.reference.text import code, paragraphs, table

Schema = dict[str, Any]
JSON = "application/json"
PAGE = """\
# Console's API: every route

Made from the console's OpenAPI document by `make pages`; change the routes in `console/`, not this page. A running
console has the same document at `/openapi.json` and a page to try it at `/docs`. [console.md](console.md) says how to
start and ask it, [reviews.md](reviews.md) what the review queue is.

Send a key as `Authorization: Bearer KEY`, where the console has keys. Every error is answered as
[`ErrorAnswer`](#erroranswer); [errors.md](errors.md#of-the-console) has all codes.
"""
UNTOLD = {"Successful Response", "Service Unavailable"}
"""What FastAPI says of a status that the route says nothing about."""
BODIES = "## Bodies\n\nThe JSON of answers and questions."


def page() -> str:
    """Write the page."""
    return page_of(create_app(Settings(servers="http://127.0.0.1:8080", _env_file=None)).openapi())


def page_of(document: Schema) -> str:
    """Write the page of an OpenAPI document. Raises SystemExit for a route without a description."""
    parts = [PAGE]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            parts += _route(f"{method.upper()} {path}", route)
    parts.append(BODIES)
    for name, schema in document["components"]["schemas"].items():
        parts += [f"### {name}", *([paragraphs(schema["description"])] if "description" in schema else [])]
        parts.append(_fields(schema, "field", answered=True))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _route(name: str, route: Schema) -> Iterator[str]:
    if not route.get("description"):
        raise SystemExit(f"pages: the console's route {name} has no description")
    yield f"## {name}"
    yield paragraphs(route["description"])
    if parameters := route.get("parameters"):
        rows = ([f"`{one['name']}`", one["in"], *_told(_given(one["schema"]), required=one["required"])] for one in parameters)
        yield table(("parameter", "in", "type", "meaning"), rows)
    if body := route.get("requestBody"):
        yield "Body, as one of these:" if len(body["content"]) > 1 else "Body:"
        yield "\n".join(f"- `{kind}`: {kind_of(content['schema'])}" for kind, content in body["content"].items())
        for content in body["content"].values():
            if "properties" in content["schema"]:
                yield _fields(content["schema"], "field of the form")
    yield table(("status", "answer", "meaning"), (_answer(status, answer) for status, answer in route["responses"].items()))


def _given(schema: Schema) -> Schema:
    """What a parameter is where it is given: null is what it is where it is left out."""
    others = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return {**schema, "anyOf": others} if others else schema


def _answer(status: str, answer: Schema) -> list[str]:
    content = answer.get("content", {})
    shown = [kind_of(one["schema"]) if kind == JSON else f"`{kind}`" for kind, one in content.items()]
    return [status, ", ".join(shown), "" if answer["description"] in UNTOLD else " ".join(answer["description"].split())]


def _fields(schema: Schema, head: str, *, answered: bool = False) -> str:
    """A table of an object's fields. `answered`: it is an answer's, which leaves none out."""
    required = schema.get("required", ())
    rows = [
        [f"`{name}`", *_told(one, required=answered or name in required)] for name, one in schema.get("properties", {}).items()
    ]
    if any(row[-1] for row in rows):
        return table((head, "type", "meaning"), rows)
    return table((head, "type"), (row[:-1] for row in rows))


def _told(schema: Schema, *, required: bool) -> list[str]:
    """A value's type, with its bounds and default, and its meaning."""
    default = schema.get("default")
    kind = kind_of(schema) + (f", default `{_written(default)}`" if default is not None else "")
    return [
        kind + ("" if required or "default" in schema else ", may be left out"),
        " ".join(schema.get("description", "").split()),
    ]


def _written(value: Any) -> str:
    """A value as JSON, a text without its quotes unless it is empty."""
    return value if isinstance(value, str) and value else json.dumps(value)


def kind_of(schema: Schema) -> str:
    """Say what a JSON value is, such as "number from 0 to 1" or "list of `Item`", with a link to what has fields."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[`{name}`](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + code(str(one) or '""' for one in schema["enum"])
    if "const" in schema:
        return code([str(schema["const"])])
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items") or {}
        return f"list of {kind_of(items)}" if items else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object with values: {kind_of(schema['additionalProperties'])}"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": "null", None: "any"}
    told = "bytes" if schema.get("format") == "binary" else schema["format"] if "format" in schema else words.get(kind, str(kind))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        told += f" from {low}"
    if high is not None:
        told += f" to {high}"
    if "exclusiveMinimum" in schema:
        told += f" above {schema['exclusiveMinimum']}"
    if "maxLength" in schema:
        told += f" of at most {schema['maxLength']} characters"
    if "pattern" in schema:
        told += f" as `{schema['pattern']}`"
    return told
