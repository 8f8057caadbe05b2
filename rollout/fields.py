"""Who wrote which fields of an object, as its managedFields say. Pure functions.

Helm 4 applies on the server, as the field manager "helm". What is changed in a release under another name is another owner's,
and the next `helm upgrade` ends with a conflict. So a change is applied under Helm's own name, together with all that Helm owns
there: what an apply leaves out, its manager gives up.
"""

import json
from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]


def writer_of(item: Mapping[str, Any]) -> str:
    """The manager who wrote an object last, its status aside; "" where nobody is named."""
    return max(writes(item), default=("", ""))[1]


def writes(item: Mapping[str, Any]) -> list[tuple[str, str]]:
    """When each manager last wrote an object, its status aside, and who it was."""
    entries = [entry for entry in item["metadata"].get("managedFields", []) if not entry.get("subresource")]
    return [(entry.get("time", ""), entry.get("manager", "")) for entry in entries]


def owned(item: Mapping[str, Any], manager: str) -> Object:
    """What a manager has applied of an object, as it could be applied again; the bare object where that is nothing.

    The resource version stays: with it, the server refuses when somebody else has written meanwhile.
    """
    metadata = item["metadata"]
    entries = [
        entry["fieldsV1"]
        for entry in metadata.get("managedFields", [])
        if (entry["manager"], entry["operation"]) == (manager, "Apply") and not entry.get("subresource")
    ]
    kept = _kept(item, entries[0]) if entries else {}
    named = {key: metadata[key] for key in ("name", "namespace", "resourceVersion") if key in metadata}
    return {**kept, "apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": {**kept.get("metadata", {}), **named}}


def changed(item: Mapping[str, Any], path: tuple[str, ...], value: object) -> Object:
    """A copy of an object with another value at a path; None takes the field away."""
    key, *rest = path
    if rest:
        return {**item, key: changed(item.get(key, {}), tuple(rest), value)}
    others = {name: there for name, there in item.items() if name != key}
    return others if value is None else {**others, key: value}


def _kept(value: Any, fields: Mapping[str, Any]) -> Any:
    """The part of a value that a FieldsV1 tree names: `f:` in objects, `k:`, `v:` and `i:` in lists, and {} for all of it."""
    if not fields:
        return value
    if isinstance(value, Mapping):
        names = [name.removeprefix("f:") for name in fields if name.startswith("f:")]
        return {name: _kept(value[name], fields[f"f:{name}"]) for name in names if name in value}
    if isinstance(value, list):
        return [part for name in fields if name != "." for part in _parts(value, name, fields[name])]
    return value


def _parts(value: list[Any], name: str, fields: Mapping[str, Any]) -> list[Any]:
    kind, _, text = name.partition(":")
    wanted = json.loads(text)
    if kind == "i":
        return [_kept(value[wanted], fields)] if wanted < len(value) else []
    if kind == "v":
        return [part for part in value if part == wanted]
    return [{**wanted, **_kept(part, fields)} for part in value if all(part.get(key) == wanted[key] for key in wanted)]
