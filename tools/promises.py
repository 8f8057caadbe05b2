"""Make docs/promises.md of docs/promises.yaml: what is promised, the tests that hold it, and how each was seen to fail.

`python -m tools.promises` breaks the code anew in each way that is listed, and says which test did not notice. A change is made
in the checkout itself and taken back, so a file with changes that are not committed is left alone. Tests on a cluster need one,
with what `make e2e` says; where they break what runs in a pod, its images are made anew, before and after.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from handlers.errors import counted
from tools.reference.text import wrap

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "docs/promises.yaml"
E2E = "tests/e2e/"

PAGE = """\
# What is promised

Made from `docs/promises.yaml` by `make pages`; change that file, not this page.

What users rely on, each with the page on which it stands and the tests that hold it. A promise that no test holds, or whose
test is gone, fails `tests/unit/test_promises.py`, and so the build. Here are {promises} promises, held by {tests} tests; these
are named from `tests/` on.

A test that cannot fail holds nothing. So the code was broken by hand, in one place and for one test at a time, and the test was
seen to fail: {tried} times, [listed below](#how-the-tests-were-seen-to-fail).{untried}
`python -m tools.promises` does all of them anew; those below `e2e/` need a cluster.
"""
UNTRIED = "{tests} not tried so, as {they} {why}: what {they} would say of broken code is not known."
FAILED = """\
## How the tests were seen to fail

By the numbers above: the test, the file, what stood there and what took its place, and the first line of what the test then said.
"""
COLUMNS = "| # | promise | held by |\n| --- | --- | --- |"
FAILURES = "| # | test | in | changed | said |\n| --- | --- | --- | --- | --- |"

Line = Annotated[str, Field(min_length=1, pattern=r"^[^\n|]+$")]
"""A text that a table's cell can hold."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Break(_Strict):
    """A change that broke what a test holds: of `file`, `was` became `became`, and the test's first words then were `said`."""

    file: Line
    was: Line
    became: Line
    said: Line


class Held(_Strict):
    """A test that holds a promise: its node id without parameters, and either what it was seen to fail by or why it was not."""

    test: Annotated[str, Field(pattern=r"^tests/[\w/]+\.py::test_\w+$")]
    broken: Break | None = None
    not_tried: Line | None = None

    @model_validator(mode="after")
    def _is_tried_or_not(self) -> Self:
        if (self.broken is None) == (self.not_tried is None):
            raise ValueError(f"{self.test} needs either `broken` or `not_tried`")
        return self


class Promise(_Strict):
    """A promise, as the docs make it on `page`, a path from docs/ with its anchor."""

    says: Line
    page: Annotated[str, Field(pattern=r"^[\w./-]+\.md#[\w-]+$")]
    tests: Annotated[tuple[Held, ...], Field(min_length=1)]


class Group(_Strict):
    """Promises about one thing."""

    name: Line
    promises: Annotated[tuple[Promise, ...], Field(min_length=1)]


def read(text: str) -> tuple[Group, ...]:
    """Read the groups of promises. Raises pydantic's ValidationError, and YAML's error."""
    return TypeAdapter(tuple[Group, ...]).validate_python(yaml.safe_load(text))


def promises_page(groups: Sequence[Group]) -> str:
    """Describe each promise in a table of its group, then how each test was seen to fail."""
    tests = [held for _, promise in _numbered(groups) for held in promise.tests]
    untried = [held.not_tried for held in tests if held.not_tried]
    said = f" {_untried(untried)}" if untried else ""
    names, tried = {held.test for held in tests}, len(tests) - len(untried)
    page = PAGE.format(promises=len([*_numbered(groups)]), tests=len(names), tried=tried, untried=said)
    head, *texts = page.split("\n\n")
    lines = [head, *(wrap(text) for text in texts)]
    numbers = iter(range(1, len(tests) + 1))
    for group in groups:
        rows = [_row(next(numbers), promise) for promise in group.promises]
        lines.append("\n".join([f"## {group.name}\n", COLUMNS, *rows]))
    heading, text = FAILED.strip().split("\n\n")
    failures = [_failure(number, held) for number, promise in _numbered(groups) for held in promise.tests]
    return "\n\n".join([*lines, heading, wrap(text), "\n".join([FAILURES, *failures])]) + "\n"


def _untried(reasons: Sequence[str]) -> str:
    """Say how many tests were not tried, and why."""
    one = len(reasons) == 1
    counts = Counter(reason.removeprefix("needs ") for reason in reasons)
    why = ", ".join(what if one else f"{what} ({count})" for what, count in counts.most_common())
    tests = counted(len(reasons), "test was", "tests were")
    return UNTRIED.format(tests=tests, they="it" if one else "they", why=f"{'needs' if one else 'need'} {why}")


def _numbered(groups: Sequence[Group]) -> Iterator[tuple[int, Promise]]:
    """Number all promises, from 1 on."""
    return enumerate((promise for group in groups for promise in group.promises), 1)


def _row(number: int, promise: Promise) -> str:
    name = promise.page.partition("#")[0].removeprefix("../")
    tests = ", ".join(_code(held.test.removeprefix("tests/")) for held in promise.tests)
    return f"| {number} | {promise.says} [{name}]({promise.page}) | {tests} |"


def _failure(number: int, held: Held) -> str:
    test = _code(held.test.rpartition("::")[2])
    if held.broken is None:
        return f"| {number} | {test} | | not tried: {held.not_tried} | |"
    broken = held.broken
    return f"| {number} | {test} | {_code(broken.file)} | {_code(broken.was)} → {_code(broken.became)} | {_code(broken.said)} |"


def _code(text: str) -> str:
    """Mark a text as code, which may have backticks of its own."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def main(argv: list[str] | None = None) -> int:
    """Break the code in each way that is listed, and say which test did not notice; exit with 1 where one did not."""
    parser = argparse.ArgumentParser(prog="python -m tools.promises", description="See tests fail where their promise is broken.")
    parser.add_argument("match", nargs="?", default="", help="of the tests' names, what those that are tried contain")
    wanted = parser.parse_args(argv).match
    silent = 0
    for number, promise in _numbered(read(SOURCE.read_text())):
        for held in promise.tests:
            if held.broken and wanted in held.test:
                said = _try(held.test, held.broken)
                silent += said is None
                sys.stdout.write(f"{number} {held.test}\n    {said or 'NOTICED NOTHING'}\n")
                sys.stdout.flush()
    return int(silent > 0)


def _try(test: str, broken: Break) -> str | None:
    """Break the code, run the test, mend the code: the first line of what the test said, None where it passed."""
    file = ROOT / broken.file
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", broken.file], cwd=ROOT, check=False).returncode:
        raise SystemExit(f"promises: {broken.file} has changes that are not committed; commit them first")
    in_image = test.startswith(E2E) and not broken.file.startswith(("charts/", "tests/"))
    whole = file.read_text()
    if whole.count(broken.was) != 1:
        raise SystemExit(f"promises: {broken.file} has {broken.was!r} {whole.count(broken.was)} times; it has to be there once")
    try:
        file.write_text(whole.replace(broken.was, broken.became))
        if in_image:
            _make_images()
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        file.write_text(whole)
        if in_image:
            _make_images()
    if run.returncode == 0:
        return None
    told = [line[1:].strip() for line in run.stdout.splitlines() if line.startswith("E  ")]
    words = [line for line in told if line and not line.endswith(":")]  # not the error's name alone
    return words[0] if words else f"pytest ended with {run.returncode}: {run.stdout[-2000:]}{run.stderr[-2000:]}"


def _make_images() -> None:
    subprocess.run(["make", "images", "IMAGES=serving transformer"], cwd=ROOT, stdout=sys.stderr, check=True)


if __name__ == "__main__":
    sys.exit(main())
