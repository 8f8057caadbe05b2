"""The suite's options, its levels, and how their outcome is told.

A check has one level: `required(CITES)`, `recommended(CITES)` or `extension(NAME, CITES)`. A check of an extension that the
server does not claim is neither passed nor failed nor skipped: it is "not claimed", a category of its own.
"""

import json
from collections import Counter
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.subject import Options, Subject, SubjectInvalid

HERE = Path(__file__).parent
PROTOCOLS = ("rest", "grpc")
LEVELS = ("required", "recommended", "extension")
NOT_CLAIMED = "not claimed"
MARKERS = (
    "required(cites): what the Open Inference Protocol, or the HTTP and gRPC below it, asks of every server",
    "recommended(cites, extension=None): what these texts call typical, say with SHOULD, or only mean",
    "extension(name, cites): what a server must do that claims this extension",
    "over(*protocols): which of rest and grpc a check speaks",
    "group(name): the row of the results' table",
    "disruptive: runs last, since a server may not come back from it",
)
SUBJECT = pytest.StashKey[Subject]()
RESULTS = pytest.StashKey[dict[str, dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("oip-conformance", "the server under test (tests/conformance)")
    group.addoption("--rest", metavar="URL", help="its REST address, such as http://127.0.0.1:8080")
    group.addoption("--grpc", metavar="HOST:PORT", help="its gRPC address")
    group.addoption("--model", metavar="NAME", help="the model to ask")
    group.addoption("--model-version", metavar="V", help="a version of it, where its metadata lists none")
    group.addoption("--input", action="append", default=[], metavar="NAME:DATATYPE:SHAPE", help="an input of a valid request")
    group.addoption("--request", type=Path, metavar="FILE", help="JSON of a valid request, instead of --input")
    group.addoption("--image", action="append", default=[], type=Path, metavar="FILE", help="contents for inputs of BYTES")
    group.addoption("--assume", action="append", default=[], metavar="EXTENSION", help="check it though it is not claimed")
    group.addoption("--without", action="append", default=[], choices=PROTOCOLS, help="deselect the checks of a protocol")
    group.addoption("--results", type=Path, metavar="FILE", help="write every check's outcome as JSON")


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[RESULTS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    for item in ours:
        if len(_levels(item)) != 1:
            raise pytest.UsageError(f"{item.nodeid} needs one level: {', '.join(LEVELS)}")
    if not ours or config.option.collectonly:
        return
    without = config.getoption("--without", default=[])
    left_out = [item for item in ours if _protocols(item) & set(without)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)
    try:
        config.stash[SUBJECT] = Subject.connect(_read_options(config, without))
    except SubjectInvalid as err:
        raise pytest.UsageError(f"oip-conformance: {err}") from err


def _protocols(item: pytest.Item) -> set[str]:
    return {protocol for marker in item.iter_markers("over") for protocol in marker.args}


def _read_options(config: pytest.Config, without: list[str]) -> Options:
    given = {name: config.getoption(f"--{name}", default=None) for name in ("rest", "grpc", "model")}
    missing = [f"--{name}" for name, value in given.items() if not value and name not in without]
    if missing:
        raise SubjectInvalid(
            f"{' and '.join(missing)} missing; call it as `pytest tests/conformance --rest http://HOST:PORT --grpc HOST:PORT "
            "--model NAME`, with --without rest or --without grpc where the server has none"
        )
    return Options(
        rest=None if "rest" in without else given["rest"],
        grpc=None if "grpc" in without else given["grpc"],
        model=given["model"],
        version=config.getoption("--model-version"),
        inputs=tuple(config.getoption("--input")),
        request=config.getoption("--request"),
        images=tuple(config.getoption("--image")),
        assumed=tuple(config.getoption("--assume")),
    )


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """The server under test."""
    subject = request.config.stash[SUBJECT]
    yield subject
    subject.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.path.is_relative_to(HERE):
        for extension in filter(None, map(_extension, _levels(item))):
            if not item.config.stash[SUBJECT].claims(extension):
                pytest.skip(f"{NOT_CLAIMED}: {extension}")


def _levels(item: pytest.Item) -> list[pytest.Mark]:
    return [marker for level in LEVELS for marker in item.iter_markers(level)]


def _extension(marker: pytest.Mark) -> str | None:
    """The extension that a server has to claim for a check of this level to be made."""
    name: str | None = marker.args[0] if marker.name == "extension" else marker.kwargs.get("extension")
    return name


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    return (NOT_CLAIMED, "n", "NOT CLAIMED") if _is_unclaimed(report) else None


def _is_unclaimed(report: pytest.TestReport) -> bool:
    return report.skipped and isinstance(report.longrepr, tuple) and NOT_CLAIMED in report.longrepr[2]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    checks = item.config.stash[RESULTS]
    if item.path.is_relative_to(HERE) and (report.when == "call" or not report.passed):
        outcome = NOT_CLAIMED if _is_unclaimed(report) else report.outcome
        entry = {**_describe(item), "outcome": outcome, "message": _message(report)}
        if checks.get(item.nodeid, {}).get("outcome") != "failed":  # a failure stays, whatever its teardown says
            checks[item.nodeid] = entry
    return report


def _describe(item: pytest.Item) -> dict[str, Any]:
    (marker,) = _levels(item)
    extension = _extension(marker)
    group = item.get_closest_marker("group")
    return {
        "check": item.nodeid.removeprefix("tests/conformance/"),
        "group": group.args[0] if group else item.path.stem,
        "level": f"{marker.name}({extension})" if extension else marker.name,
        "cites": marker.args[-1],
    }


def _message(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message.splitlines()[0] if crash and not report.passed else ""


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    unclaimed = [c["level"] for c in config.stash[RESULTS].values() if c["outcome"] == NOT_CLAIMED]
    if unclaimed:
        terminalreporter.section("extensions that the server does not claim")
        for level, count in sorted(Counter(unclaimed).items()):
            terminalreporter.line(f"{level}: {count} checks left out; --assume NAME makes them")


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--results", default=None)
    subject = session.config.stash.get(SUBJECT, None)
    if path and subject:
        document = {
            "date": datetime.now(UTC).date().isoformat(),
            "server": {key: subject.metadata.get(key) for key in ("name", "version", "extensions")},
            "checks": list(session.config.stash[RESULTS].values()),
        }
        path.write_text(json.dumps(document, indent=1) + "\n")
