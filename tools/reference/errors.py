"""docs/errors.md: every stable error code, from the classes that declare them."""

import inspect
from collections.abc import Iterator
from types import ModuleType

import archives.errors
import console.errors
import console.reviews.errors
import handlers.errors
import loadtests.errors
import rollout.errors
import training.errors
import transformer.errors
import visor.errors
from handlers.errors import VisorError
from loadtests.errors import LoadTestError
from tools.reference.text import table

Kind = type[VisorError] | type[LoadTestError]

PAGE = """\
# Error codes: every one

Made from each package's `errors.py` by `make pages`; change the declarations there, not this page.

Each error that visor raises on purpose has a code, which is stable, and a sentence, which is not: it says what is
wrong, the value seen and what to do next. Compare codes, and show sentences. A command prints both as `CODE: sentence`;
in Python they are an error's `code` and text.
"""
SERVER = """
## Of a server

What REST and gRPC answer: [the form](v2.md#errors). Beside a request's other images, one that cannot be answered has
its error in its own place. No call of gRPC ends with a code that has no status of gRPC here.
"""
CONSOLE = """
## Of the console

What [the console](console.md#errors) answers by itself. What a server refuses keeps the server's code.
"""
COMMANDS = """
## Of commands

What ends a command, or the start of a server, by the package that raises it."""
ROOTS = {"image", "request", "console", "console.request", "console.review", "console.server_refused", "loadtest"}
"""Codes of classes that others inherit from, or whose own code is replaced: nobody is told them."""
OF_HTTP = {"request.content", "request.cross_site", "request.encoding", "request.form", "request.head", "request.http"}
OF_HTTP |= {"request.method", "request.path", "request.transfer"}
"""Codes that no call of gRPC ends with, whose own layer sees to what they mean."""
INTERNAL = "A mistake of the server's own; its log has more."
"""What the code of the root means, where it is answered."""
MORE = {
    "answer": "python.md#answers",
    "archive": "guide.md#archive",
    "archive.ambiguous": "kubernetes.md#when-something-is-refused",
    "archive.missing": "kubernetes.md#when-something-is-refused",
    "archive.parity": "training.md#what-serves",
    "audit": "audit.md",
    "client": "guide.md#asking",
    "compare": "search.md",
    "config": "config.md",
    "config.batch": "training.md#before-a-fit-and-in-its-midst",
    "console": "console.md#errors",
    "console.database_down": "reviews.md#tables",
    "console.database_unusable": "reviews.md#tables",
    "console.event_unreadable": "reviews.md#kserves-payload-logger",
    "console.item_taken": "reviews.md#at-work",
    "console.item_unknown": "reviews.md#at-work",
    "console.keys": "console.md#who-may-ask",
    "console.label_unknown": "reviews.md#at-work",
    "console.limit": "console.md#limits",
    "console.line_full": "console.md#the-line-in-front-of-a-server",
    "console.nothing_to_undo": "reviews.md#at-work",
    "console.nothing_waits": "reviews.md#what-waits",
    "console.picture_gone": "reviews.md#deleting-a-picture",
    "console.picture_unshown": "reviews.md#at-work",
    "console.pictures_down": "reviews.md#tables",
    "console.scope": "console.md#who-may-ask",
    "console.settings": "console.md#settings",
    "console.too_large": "console.md#limits",
    "console.unauthenticated": "console.md#who-may-ask",
    "console.zip": "console.md#batches",
    "data": "data.md",
    "data.leak": "data.md#near-duplicates",
    "data.reviews": "reviews-export.md",
    "data.unpulled": "data.md#dvc",
    "demo": "quick-start.md",
    "disk": "training.md#before-a-fit-and-in-its-midst",
    "drift": "drift.md",
    "folder": "training.md#before-a-fit-and-in-its-midst",
    "image": "guide.md#pictures",
    "image.changed": "scoring.md",
    "image.unreadable": "scoring.md",
    "internal": "v2.md#errors",
    "key": "guide.md#archive",
    "loadtest": "../loadtests/README.md",
    "model": "v2.md",
    "output": "scoring.md",
    "provenance": "security.md#where-an-archive-came-from",
    "remote": "training-on-kubernetes.md",
    "repository": "v2.md",
    "request": "v2.md#errors",
    "request.cross_site": "security.md#web-pages-of-others-in-a-browser-on-the-same-machine",
    "request.gone": "metrics.md",
    "request.group": "decisions.md",
    "request.threshold": "guide.md#asking",
    "request.unauthenticated": "kubernetes.md#who-may-ask",
    "rollout": "rollout.md#what-happens-when",
    "run": "training.md",
    "score": "scoring.md",
    "selftest": "kubernetes.md#install",
    "serve": "guide.md#serving",
    "serve.memory": "kubernetes.md#memory",
    "serve.shadow": "kubernetes.md#shadow",
    "serve.tokens": "kubernetes.md#who-may-ask",
    "server": "kubernetes.md#when-something-is-refused",
    "server.memory": "kubernetes.md#memory-of-the-edge",
    "store": "guide.md#archive",
    "study": "search.md",
    "tracking": "training.md#before-a-fit-and-in-its-midst",
    "upstream": "kubernetes.md#when-something-is-refused",
}
"""The page that says more about a code, or about all codes of its first word."""


def page() -> str:
    """Write the page."""
    answers, console_answers = _answered(handlers.errors, transformer.errors), _answered(console.errors, console.reviews.errors)
    parts = [PAGE, SERVER, table(("code", "meaning", "REST", "gRPC", "more"), map(_server_row, answers)), CONSOLE]
    parts += [table(("code", "meaning", "status", "more"), map(_console_row, console_answers)), COMMANDS]
    groups = (
        ("Archives and keys", (archives.errors, handlers.errors)),
        ("Training and data", (training.errors,)),
        ("Serving, scoring, clients", (visor.errors, transformer.errors)),
        ("The console's start", (console.errors, console.reviews.errors)),
        ("Releases", (rollout.errors,)),
        ("Load tests", (loadtests.errors,)),
    )
    for title, modules in groups:
        kinds = sorted((one for module in modules for one in _declared(module) if not _is_answer(one)), key=_code)
        parts += [
            f"### {title}",
            table(("code", "meaning", "more"), ([f"`{one.code}`", about(one), more(one)] for one in kinds)),
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def about(kind: Kind) -> str:
    """What a kind of error means, as its class says. Raises SystemExit for one that says nothing."""
    if not vars(kind).get("__doc__"):
        raise SystemExit(f"pages: the error {kind.code} has no description")
    told = inspect.cleandoc(str(kind.__doc__)).split("\n\n")[0]
    return " ".join(told.split(". `")[0].rstrip(".").split()) + "."  # what follows is about the class's attributes


def more(kind: Kind) -> str:
    """Link the page about a code. Raises SystemExit for one that no page is named for."""
    found = MORE.get(kind.code) or MORE.get(kind.code.partition(".")[0])
    if not found:
        raise SystemExit(f"pages: no page says more about {kind.code}; name one in tools/reference/errors.py")
    return f"[{found.removeprefix('../').removesuffix('/README.md').partition('.md')[0]}]({found})"


def _declared(module: ModuleType) -> Iterator[Kind]:
    """The kinds of a module that bring a code of their own, in the module's order."""
    for kind in vars(module).values():
        known = isinstance(kind, type) and issubclass(kind, VisorError | LoadTestError) and kind.__module__ == module.__name__
        if known and "code" in vars(kind) and kind.code not in ROOTS:
            yield kind


def _answered(*modules: ModuleType) -> list[Kind]:
    return sorted((one for module in modules for one in _declared(module) if _is_answer(one)), key=_code)


def _is_answer(kind: Kind) -> bool:
    """Whether a client is answered it: it has a status of its own, or is the root, which is the server's mistake."""
    return issubclass(kind, VisorError) and (kind.status != VisorError.status or kind is VisorError)


def _code(kind: Kind) -> str:
    return kind.code


def _server_row(kind: Kind) -> list[str]:
    assert issubclass(kind, VisorError)
    told = INTERNAL if kind is VisorError else about(kind)
    return [f"`{kind.code}`", told, str(kind.status), _grpc(kind), more(kind)]


def _console_row(kind: Kind) -> list[str]:
    assert issubclass(kind, VisorError)
    return [f"`{kind.code}`", about(kind), str(kind.status), more(kind)]


def _grpc(kind: type[VisorError]) -> str:
    return "" if kind.code in OF_HTTP else transformer.errors.grpc_code(kind("")).name
