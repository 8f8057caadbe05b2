"""Nested values as flat names, and the names that MLflow takes for them: none lost, none mistaken for another's."""

import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from training import keys

LENGTH = 250
"""Characters of a key in MLflow, at most (mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH)."""
SHOWN = 5
"""Keys that differ between two configs, of which a sentence names so many."""
DIGITS = 8
"""Hexadecimal digits of a name's SHA-256 that tell it from others of the same key."""


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings as (`a.b.c`, value), in order. A list of mappings counts from 0, others are leaves."""
    for key, value in tree.items():
        if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """List the leaves in which two trees differ as (`a.b.c`, value of one, value of the other); None where one lacks it."""
    first, second = dict(flatten(one)), dict(flatten(other))
    names = [*first, *(name for name in second if name not in first)]
    return [(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)]


def describe_differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Write the leaves in which two trees differ as a clause, the first SHOWN of them; "" where none does, or one is empty."""
    found = differing(there, here) if there and here else []
    said = [f"{name} is {keys.written(old)} there and {keys.written(new)} here" for name, old, new in found[:SHOWN]]
    return ", ".join([*said, *([f"and {len(found) - SHOWN} more keys differ"] if len(found) > SHOWN else [])])


def keys_of(names: Iterable[str]) -> dict[str, str]:
    """Return the key for each name, as MLflow accepts it: its labels may hold any character, its keys may not.

    A name that is a key stays as it is. Of others whose keys would be the same, or too long, each has a part of its digest
    behind it. The same names give the same keys.
    """
    names = list(dict.fromkeys(names))
    plain = {name: _plain(name) for name in names}
    times = Counter(plain.values())
    alone = {name for name, key in plain.items() if len(key) <= LENGTH and (times[key] == 1 or key == name)}
    return {name: key if name in alone else _marked(name, key) for name, key in plain.items()}


def _plain(name: str) -> str:
    """The name with `_` for what no key holds. MLflow refuses what would be another path if it were one, such as `a//b`."""
    key = re.sub(r"[^\w\-. /]", "_", name)
    normal = posixpath.normpath(key)
    if normal == key and not normal.startswith(("..", "/")):
        return key
    return key.replace("/", "_").replace("..", "__")


def _marked(name: str, key: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]
    return f"{key[: LENGTH - DIGITS - 1]}-{digest}"
