"""The keys of a config's models: what each is, in words; setting one; the nearest to one that is not there; errors by key."""

import difflib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from handlers.errors import counted
from training.errors import ConfigError

SHOWN = 80
"""Characters of a wrong value that an error shows, at most."""
LIKE, ALIKE = 0.6, 0.8
"""How alike a key has to be to be suggested (difflib's ratio), beside the wrong one and elsewhere."""
OURS = "Value error, "
"""What pydantic begins a sentence with that a model of ours has written."""
KIND = "Input should be "
"""What pydantic begins a sentence with that goes on with a kind of value."""
LIST, TEXT = "a list", "text"
PLAIN = {
    "a valid dictionary": "a mapping of keys to values",
    "a valid tuple": LIST,
    "a valid list": LIST,
    "a valid string": TEXT,
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
}
"""What pydantic calls a kind of value, by how it begins, in the words of the docs."""


PATTERN = "String should match pattern"
"""What pydantic begins a sentence with about a name: no other text in a config has a pattern."""
NAME_LENGTH = 53
"""Characters of a model's name at most, as of a Helm release's."""
NAME = f"holds small letters, digits and -, {NAME_LENGTH} at most, a letter or digit first and last; take {{}}"
"""What is said of a name that cannot be, with one that can."""
TROUBLE = {
    "\\t": "a tab stands where spaces belong",
    "mapping values are not allowed": "a second colon stands on the line, or keys below one that has a value already",
    "end of stream": "it ends within what a quote has opened",
    "'<stream end>'": "it ends within what [ or { has opened",
    "could not find expected ':'": "a line without a colon",
}
"""What PyYAML says, by a part of it, in words for those who do not know how it reads."""
LINES = "a line is KEY: VALUE, and the keys of a section stand below it behind two spaces"
"""What a YAML file of keys looks like."""


@dataclass(frozen=True)
class Key:
    """A key, or a section of keys. `path`: `a.b`, with `[]` behind a list of sections; `kind`: its values, "" for a section."""

    path: str
    about: str
    required: bool
    kind: str = ""
    default: Any = None

    @property
    def is_section(self) -> bool:
        """Tell whether it holds other keys."""
        return not self.kind

    @property
    def head(self) -> str:
        """What may stand there, and what does where nothing is said."""
        return f"{self.kind}; {'required' if self.required else f'default {show(self.default)}'}"


def keys_of(model: type[BaseModel], path: str = "") -> Iterator[Key]:
    """Yield every key of a model: its own single keys first, then each section followed by its keys, in the models' order.

    Raises TypeError for a key without a description, or of a kind that there are no words for.
    """
    schemas = model.model_json_schema()["properties"]
    inner: list[tuple[Key, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        if not field.description:
            raise TypeError(f"the config key {path}{name} has no description; write a string literal below it")
        contained = model_in(field.annotation)
        if contained is None:
            yield Key(f"{path}{name}", field.description, field.is_required(), kind_of(schemas[name]), field.get_default())
        else:
            many = "[]" if get_origin(field.annotation) is tuple else ""
            inner.append((Key(f"{path}{name}{many}", field.description, field.is_required()), contained))
    for section, contained in inner:
        yield section
        yield from keys_of(contained, f"{section.path}.")


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a key holds one of, many of, or none of; None where the key holds single values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, UnionType, Union):
        for part in get_args(annotation):
            if (found := model_in(part)) is not None:
                return found
    return None


def kind_of(schema: Mapping[str, Any]) -> str:
    """Say in words what values a JSON schema allows; that a value may be left out is its default's to say."""
    if "anyOf" in schema:
        return " or ".join(kind_of(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    match schema["type"]:
        case "array":
            items = schema.get("prefixItems")
            return f"list of {len(items)} {_plural(items[0])}" if items else f"list of {_plural(schema['items'])}"
        case "object":
            return f"mapping of names to {_plural(schema['additionalProperties'])}"
        case "boolean":
            return "`true` or `false`"
        case "string":
            return "path" if schema.get("format") == "path" else "text"
        case "integer" | "number" as kind:
            signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
            limits = [f"{sign} {_number(schema[key])}" for key, sign in signs.items() if key in schema]
            return " ".join(["whole number" if kind == "integer" else "number", ", ".join(limits)]).strip()
    raise TypeError(f"there are no words for a value of the schema {schema}")


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)  # of a whole number every digit, 1000000 and not 1e+06


def _plural(schema: Mapping[str, Any]) -> str:
    word, *more = kind_of(schema).split(" ", 1)
    return " ".join([f"{word}s", *more])


def show(value: Any) -> str:
    """Write a value as YAML has it; none where a key may be left out."""
    if value is None:
        return "none"
    return f"`{value if isinstance(value, str) else f'{value:g}' if isinstance(value, float) else json.dumps(value)}`"


def unknown(key: str, model: type[BaseModel]) -> str:
    """Say that a config has no such key, which one may be meant, and where all are."""
    meant = nearest(key, [one.path for one in keys_of(model)])
    return f"{key}: no such key{f'; did you mean {meant}?' if meant else ''} (`visor config` lists all keys)"


def nearest(key: str, known: Sequence[str]) -> str | None:
    """Return the key that was meant by `key`: one beside it, of a like name, or else one elsewhere of nearly this name."""
    parents, _, last = _unnumbered(key).rpartition(".")
    beside = [path for path in known if path.rpartition(".")[0] == parents]
    for among, alike in ((beside, LIKE), (known, ALIKE)):
        by_last = {path.rpartition(".")[2].removesuffix("[]"): path for path in reversed(among)}
        if found := difflib.get_close_matches(last, by_last, n=1, cutoff=alike):
            return by_last[found[0]].removesuffix("[]").replace("[]", ".0")
    return None


def _unnumbered(path: str) -> str:
    """`fit.phases.0` as it stands among the keys, `fit.phases[]`."""
    return re.sub(r"\.[0-9]+(?=\.|$)", "[]", path)


def set_value(tree: Any, override: str) -> None:
    """Set one value of a nested config by `a.b.0.c=VALUE`, which is YAML; mappings that are not there are made.

    Raises ConfigError.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not KEY=VALUE, such as fit.batch_size=16")
    try:
        value = read_yaml(text)
    except KeyTwice as err:
        raise ConfigError(f"override {override!r}: {err}") from err
    except yaml.YAMLError as err:
        raise ConfigError(f"override {override!r}: the value is not YAML: {yaml_trouble(err)}") from err
    parts = key.split(".")
    for place, part in enumerate(parts):
        if not isinstance(tree, dict | list):
            raise ConfigError(f"override {override!r}: {parts[place - 1]} holds a value, not a mapping")
        if isinstance(tree, list) and not (part.isdecimal() and int(part) < len(tree)):
            raise ConfigError(
                f"override {override!r}: {'.'.join(parts[:place])} has {counted(len(tree), 'entry', 'entries')}, the first is 0"
            )
        found: Any = int(part) if isinstance(tree, list) else part
        if place == len(parts) - 1:
            tree[found] = value
        else:
            tree = tree.setdefault(found, {}) if isinstance(tree, dict) else tree[found]


class KeyTwice(ValueError):
    """A YAML mapping has a key twice, of which PyYAML would take the last one without a word."""


def read_yaml(text: str) -> Any:
    """Read YAML of which each mapping has each key once. Raises yaml.YAMLError; KeyTwice, which names key and lines."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if twice := list(dict.fromkeys(_twice(node, "", set()))):
            raise KeyTwice("; ".join(twice))
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _twice(node: yaml.Node, path: str, seen: set[int]) -> Iterator[str]:
    """Say which keys stand twice in one mapping, anywhere below a node. `seen`: nodes that aliases have led to already."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            yield from _twice(item, f"{path}{place}.", seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines and key.tag != "tag:yaml.org,2002:merge":
                first = lines[key.value]
                where = f"on line {line}" if line == first else f"on lines {first} and {line}"
                yield f"{path}{key.value}: stands twice, {where}; keep one of the two"
            lines.setdefault(key.value, line)
            yield from _twice(value, f"{path}{key.value}.", seen)


def yaml_trouble(error: yaml.YAMLError) -> str:
    """Say on one line where YAML ends to be YAML, and why."""
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    said = next((words for part, words in TROUBLE.items() if part in said), said)
    return f"line {mark.line + 1}, column {mark.column + 1}: {said}" if mark else said


def kind_of_value(value: Any) -> str:
    """Say what a YAML value is, where another kind was wanted."""
    named = {type(None): "nothing", str: "text", list: "list", bool: "true or false", int: "number", float: "number"}
    return named.get(type(value), type(value).__name__)


def as_name(text: str) -> str:
    """Make a model's name of a text: small letters, digits and single dashes; `images` where nothing is left of it."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:NAME_LENGTH].strip("-") or "images"


def sentences(error: ValidationError, model: type[BaseModel], whole: str = "config") -> str:
    """Say what is wrong with which key, and the value seen; where a value may be of several kinds, once for all of them.

    `whole`: what a model is called that is wrong as a whole.
    """
    found: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for one in error.errors():
        extra = one["type"] == "extra_forbidden"
        where, beside = _place(one["loc"], model, extra)
        if extra:
            meant = nearest(where.rpartition(".")[2], beside)
            said = f"no such key; did you mean {meant}?" if meant else f"no such key; there are {', '.join(beside)}"
            found[unknown(where, model) if whole == "config" else f"{where}: {said}"] = []
            continue
        if one["type"] == "missing" and isinstance(one["loc"][-1], int):  # the place in a list that ends before it
            where, _, place = where.rpartition(".")
            found[where] = [f"it must have at least {int(place) + 1} items, not {len(one['input'])}"]
            values[where] = one["input"]
            continue
        says = found.setdefault(where or whole, [])
        values.setdefault(where or whole, one["input"])
        if one["msg"] not in says:
            says.append(one["msg"])
    # A list whose entries are wrong is called too short, too, as none of them counts.
    return "; ".join(
        _sentence(where, says, values.get(where), model)
        for where, says in found.items()
        if not any(other.startswith(f"{where}.") for other in found)
    )


def _sentence(where: str, says: Sequence[str], value: Any, model: type[BaseModel]) -> str:
    if not says:
        return where  # which is a sentence already
    if list(says) == ["Field required"]:
        return f"{where}: missing, and there is no default"
    kinds = [said.removeprefix(KIND) for said in says if said.startswith(KIND)]
    kinds = [next((words for part, words in PLAIN.items() if kind.startswith(part)), kind) for kind in kinds]
    if LIST in kinds:
        kinds[kinds.index(LIST)] = _as_list(where, value, model)
    if TEXT in kinds and not isinstance(value, bool | None | list | dict):
        kinds[kinds.index(TEXT)] = f'{TEXT}, with its quotes: "{value}"'
    kinds += ["a path" for said in says if said.startswith("Input is not a valid path")]
    others = [
        said.removeprefix(OURS).replace("Tuple should", "it must").replace(" after validation", "")
        for said in says
        if not said.startswith("Input ")
    ]
    if any(said.startswith(PATTERN) for said in others):
        others = [NAME.format(as_name(str(value)))]
    told = "; ".join([*([f"must be {' or '.join(kinds)}"] if kinds else []), *others])
    if isinstance(value, Mapping) and all(said.startswith(OURS) for said in says):
        return f"{where}: {told}"  # of keys of the section, which the sentence names: the whole of it would say nothing
    return f"{where}: {told} (got {got(value)})"


def got(value: Any) -> str:
    """Say which value was seen: in quotes, as a config has it; "nothing" where there was none."""
    if value is None:
        return "nothing"
    return repr(value[:SHOWN]) if isinstance(value, str) else f"'{written(value)}'"


def written(value: Any, most: int = SHOWN) -> str:
    """Write a value on one line as YAML has it; a list or mapping of more than `most` characters ends after an element."""
    if isinstance(value, Mapping):
        items, begin, end = [f"{key}: {written(item, most)}" for key, item in value.items()], "{", "}"
    elif isinstance(value, list | tuple):
        items, begin, end = [written(item, most) for item in value], "[", "]"
    elif isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    else:
        plain = value if isinstance(value, str | int | bool | None) else str(value)
        return yaml.safe_dump(plain, allow_unicode=True, width=float("inf")).partition("\n")[0]
    shown: list[str] = []
    for item in items:
        if shown and len(", ".join([*shown, item])) > most:
            return f"{begin}{', '.join(shown)}, ...{end}"
        shown.append(item)
    return f"{begin}{', '.join(shown)}{end}"


def _as_list(where: str, value: Any, model: type[BaseModel]) -> str:
    """Say which list a key holds, in the words of `kind_of`, and how the value that was given is written as one."""
    kind = next((key.kind for key in keys_of(model) if key.path == _unnumbered(where)), "").partition(" or ")[0] or "list"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    items: list[Any] = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
    if kind == "list of lists of numbers":
        example = "[[0, 1], [5, 0]]"
    elif kind.startswith("list of text") and (number or isinstance(value, str)):
        example = _flow([str(item) for item in items])
    elif kind.startswith("list of ") and number:
        count = re.match("list of ([0-9]+) ", kind)
        example = _flow(items * (int(count[1]) if count else 1))
    else:
        return f"a {kind}"
    return f"a {kind}, such as {example}"


def _flow(items: Sequence[Any]) -> str:
    return yaml.safe_dump(list(items), default_flow_style=True, allow_unicode=True, width=float("inf")).strip()


def _place(parts: Sequence[int | str], model: type[BaseModel], extra: bool) -> tuple[str, list[str]]:
    """The key at which an error is, and the keys that may stand there.

    pydantic's own words for one of several kinds of value are no part of it.
    """
    named: list[str] = []
    models, values = [model], None  # what may hold the next part: these models, or a mapping to values of this annotation
    beside: list[str] = []
    for place, part in enumerate(parts):
        fields = [one.model_fields[str(part)] for one in models if part in one.model_fields]
        if fields or isinstance(part, int) or values is not None or (extra and place == len(parts) - 1):
            named.append(str(part))
            beside = [name for one in models for name in one.model_fields]
        if fields:
            models, values = _models_in(fields[0].annotation), _values_of(fields[0].annotation)
        elif values is not None:
            models, values = _models_in(values), None
        elif len(tagged := [one for one in models if one.__name__.lower() == part]) == 1:
            models = tagged
    return ".".join(named), beside


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is dict:
        return []
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _values_of(annotation: Any) -> Any:
    """What a mapping of names holds; None for anything else."""
    return next((get_args(one)[1] for one in (annotation, *get_args(annotation)) if get_origin(one) is dict), None)
