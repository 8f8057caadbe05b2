"""docs/python-api.md: every public name of `import visor`, its signature and its docstring, out of the sources."""

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Any

import visor
from handlers.errors import VisorError
from tools.reference.errors import about
from tools.reference.text import paragraphs, table

PAGE = """\
# Python: every public name

Made from the sources by `make pages`; change the docstrings there, not this page. [python.md](python.md) shows how they
are used together. A call's arguments behind `*` are given by name.
"""
INNER = {"ask"}
"""Public methods that other parts of visor call, and no user."""


def page() -> str:
    """Write the page."""
    found = [(name, getattr(visor, name)) for name in sorted(visor._PLACE_OF, key=str.lower)]
    errors = [(name, value) for name, value in found if inspect.isclass(value) and issubclass(value, VisorError)]
    classes = [(name, value) for name, value in found if inspect.isclass(value) and not issubclass(value, VisorError)]
    parts = [PAGE, "## Functions"]
    parts += [_call(f"### `{name}`", value, f"visor.{name}") for name, value in found if inspect.isfunction(value)]
    parts += ["## Classes", *(_class(name, value) for name, value in classes), "## Types"]
    parts += [_alias(name) for name, value in found if not inspect.isclass(value) and not inspect.isfunction(value)]
    rows = ([f"`{name}`", f"`{value.code}`", f"`{value.__mro__[1].__name__}`", about(value)] for name, value in errors)
    parts += ["## Errors", "[errors.md](errors.md) has all codes.", table(("error", "code", "is a", "meaning"), rows)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _call(heading: str, call: Any, name: str) -> str:
    return f"{heading}\n\n{_block(f'{name}{_signature(call)}')}\n\n{_about(name, call)}"


def _class(name: str, kind: type) -> str:
    """A class: what it is made of, if that is public, and its public methods and properties, inherited ones too."""
    parts = [f"### `{name}`"]
    if is_dataclass(kind):
        parts += [_block("\n    ".join([f"class {name}:", *_fields(kind)])), _about(name, kind)]
    elif vars(kind)["__init__"].__doc__:
        parts += [_about(name, kind), _block(f"visor.{name}{_signature(vars(kind)['__init__'])}")]
        parts.append(_about(f"{name}.__init__", vars(kind)["__init__"]))
    else:
        parts.append(_about(name, kind))
    for member, value in _members(kind):
        heading = f"#### `{name}.{member}`"
        if isinstance(value, property):
            parts += [heading, _block(f"{member}: {ast.unparse(_function(value.fget).returns)}"), _about(member, value.fget)]  # type: ignore[arg-type]
        else:
            parts.append(_call(heading, value, member))
    return "\n\n".join(parts)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    seen = set(INNER)
    for base in kind.__mro__:
        for name, value in vars(base).items() if base is not object else ():
            if not name.startswith("_") and name not in seen and (inspect.isfunction(value) or isinstance(value, property)):
                seen.add(name)
                yield name, value


def _fields(kind: type) -> Iterator[str]:
    """The public fields of a dataclass, as the source has them; what a default is made by is left out."""
    for node in _class_node(kind).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
            default = f" = {_default(node.value, kind)}" if node.value and not isinstance(node.value, ast.Call) else ""
            yield f"{node.target.id}: {_typed(node.annotation)}{default}"


def _alias(name: str) -> str:
    """A type's name: what it stands for, and the text below it."""
    module = importlib.import_module(visor._PLACE_OF[name])
    for node, after in pairwise(ast.parse(inspect.getsource(module)).body):
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == name and isinstance(node, ast.AnnAssign) and node.value:
            told = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
            if isinstance(told, str):
                return f"### `{name}`\n\n{_block(f'{name} = {_typed(node.value)}')}\n\n{paragraphs(inspect.cleandoc(told))}"
    raise SystemExit(f"pages: visor.{name} has no description")


def _about(name: str, value: Any) -> str:
    told = inspect.getdoc(value)
    if not told:
        raise SystemExit(f"pages: visor's {name} has no docstring")
    return paragraphs(told)


def _signature(call: Any) -> str:
    """The arguments and the result of a call, each argument in a line of its own where there are several."""
    node = _function(call)
    arguments = node.args
    shown = [_argument(one, default, call) for one, default in _defaults(arguments)]
    if arguments.vararg:
        shown.append(f"*{arguments.vararg.arg}: {_typed(arguments.vararg.annotation)}")
    elif arguments.kwonlyargs:
        shown.append("*")
    shown += [_argument(*pair, call) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        shown.append(f"**{arguments.kwarg.arg}: {_typed(arguments.kwarg.annotation)}")
    result = f" -> {_typed(node.returns)}" if node.name != "__init__" else ""
    return f"({', '.join(shown)}){result}" if len(shown) < 3 else "(\n    " + ",\n    ".join(shown) + f",\n){result}"


def _defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    given = [*arguments.posonlyargs, *arguments.args]
    for argument, default in zip(given, [None] * (len(given) - len(arguments.defaults)) + list(arguments.defaults), strict=True):
        if argument.arg != "self":
            yield argument, default


def _argument(argument: ast.arg, default: ast.expr | None, call: Any) -> str:
    return f"{argument.arg}: {_typed(argument.annotation)}" + (f" = {_default(default, call)}" if default else "")


def _default(node: ast.expr, of: Any) -> str:
    """A default as the source has it; in the place of a constant's name its value."""
    return repr(getattr(sys.modules[of.__module__], node.id)) if isinstance(node, ast.Name) else ast.unparse(node)


def _typed(annotation: ast.expr | None) -> str:
    """An annotation as the source has it, without the quotes of one that is written as a text."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation) if annotation else "Any"


def _block(text: str) -> str:
    return "```python\n{}\n```".format(text.replace("'", '"'))


def _function(call: Any) -> ast.FunctionDef:
    [node] = ast.parse(textwrap.dedent(inspect.getsource(call))).body
    assert isinstance(node, ast.FunctionDef)
    return node


def _class_node(kind: type) -> ast.ClassDef:
    [node] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(node, ast.ClassDef)
    return node
