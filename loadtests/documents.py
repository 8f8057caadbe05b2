"""Read short YAML files into strict, frozen values; an error names every wrong key."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from loadtests.errors import DocumentInvalid


class Document(BaseModel):
    """Is the base of every YAML file's content: no unknown keys, no conversion of types, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=Document)


def load(path: Path, kind: type[Kind], error: type[DocumentInvalid]) -> Kind:
    """Read one file. Raises `error`, which names all that is wrong in the file."""
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise error(f"{path} cannot be read as YAML: {err}") from err
    try:
        return kind.model_validate(tree)
    except ValidationError as err:
        raise error(f"{path}: " + "; ".join(_sentence(item) for item in err.errors())) from err


def _sentence(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "the file"
    return f"{where}: no such key" if item["type"] == "extra_forbidden" else f"{where}: {item['msg']} (got {item['input']!r})"
