"""Each promise stands on a page and is held by tests that there are, which were seen to fail; and the page is made of them."""

import ast
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from tests.unit.test_docs import anchors
from tools import pages, promises
from tools.promises import Break, Group, Held, Promise

ROOT = Path(__file__).parents[2]
GROUPS = promises.read(promises.SOURCE.read_text())
HELD = Held(test="tests/unit/test_promises.py::test_nothing_is_amiss", not_tried="needs a cluster")
BREAK = Break(file="tools/promises.py", was="`a`", became="b", said="AssertionError")
TRIED = Held(test="tests/unit/test_docs.py::test_modules_that_are_named_exist", broken=BREAK)


@cache
def functions(file: Path) -> set[str]:
    """The tests of a file, read and not collected."""
    found = ast.parse(file.read_text()).body if file.is_file() else []
    return {one.name for one in found if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def faults(groups: Sequence[Group]) -> Iterator[str]:
    """What promises name and what is not there."""
    for promise in (promise for group in groups for promise in group.promises):
        page, _, anchor = promise.page.partition("#")
        file = ROOT / "docs" / page
        if not file.is_file() or anchor not in anchors(file):
            yield promise.page
        for held in promise.tests:
            name, _, test = held.test.partition("::")
            if test not in functions(ROOT / name):
                yield held.test
            if held.broken and not (ROOT / held.broken.file).is_file():
                yield held.broken.file


def group(says: str = "It holds.", page: str = "guide.md#serving", tests: Sequence[Held] = (HELD,)) -> Group:
    return Group(name="Security", promises=(Promise(says=says, page=page, tests=tuple(tests)),))


def test_nothing_is_amiss() -> None:
    assert list(faults(GROUPS)) == []


def test_the_page_is_what_the_source_says() -> None:
    assert pages.make_all()["promises.md"] == (ROOT / "docs/promises.md").read_text() == promises.promises_page(GROUPS)


def test_no_promise_is_made_twice() -> None:
    said = [promise.says for one in GROUPS for promise in one.promises]
    assert len(set(said)) == len(said) >= 40
    assert len({one.name for one in GROUPS}) == len(GROUPS)


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (group(page="nowhere.md#serving"), "nowhere.md#serving"),
        (group(page="guide.md#nowhere"), "guide.md#nowhere"),
        (group(tests=[HELD.model_copy(update={"test": "tests/unit/test_docs.py::test_gone"})]), "test_docs.py::test_gone"),
        (group(tests=[HELD.model_copy(update={"test": "tests/unit/test_gone.py::test_it"})]), "test_gone.py::test_it"),
        (group(tests=[TRIED.model_copy(update={"broken": BREAK.model_copy(update={"file": "gone.py"})})]), "gone.py"),
    ],
)
def test_what_is_not_there_is_seen(broken: Group, named: str) -> None:
    assert next(faults([group(), broken])).endswith(named)
    assert list(faults([group()])) == []


WHOLE = {"file": "a.py", "was": "a", "became": "b", "said": "c"}


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ([], "at least 1 item"),
        ([{"test": HELD.test}], "needs either `broken` or `not_tried`"),
        ([{"test": HELD.test, "broken": WHOLE, "not_tried": "needs time"}], "needs either `broken` or `not_tried`"),
        ([{"test": HELD.test, "not_tried": ""}], "at least 1 character"),
        ([{"test": HELD.test, "broken": {**WHOLE, "said": ""}}], "at least 1 character"),
        ([{"test": HELD.test, "broken": {key: WHOLE[key] for key in ("file", "was", "said")}}], "became\n"),
        ([{"test": HELD.test, "broken": {**WHOLE, "became": "b\nc"}}], "should match pattern"),
        ([{"test": f"{HELD.test}[a]", "broken": WHOLE}], "should match pattern"),
        ([{"test": HELD.test, "broken": WHOLE, "why": "so"}], "Extra inputs are not permitted"),
    ],
)
def test_a_promise_without_a_test_that_was_seen_to_fail_is_refused(tests: object, words: str) -> None:
    one = {"says": "It holds.", "page": "guide.md#serving", "tests": tests}
    with pytest.raises(ValidationError) as refused:
        promises.read(yaml.safe_dump([{"name": "Security", "promises": [one]}]))
    assert words in str(refused.value)


def test_a_page_has_each_promise_with_its_tests_and_how_these_failed() -> None:
    one = Promise(says="It holds.", page="../README.md#then", tests=(TRIED, HELD))
    other = Promise(says="So does that.", page="guide.md#serving", tests=(TRIED,))
    page = promises.promises_page([Group(name="Data", promises=(one,)), Group(name="Security", promises=(other,))])
    head, data, security, failures = page.split("\n## ")
    said = head.replace("\n", " ")
    assert "Here are 2 promises, held by 2 tests;" in said
    assert "seen to fail: 2 times" in said
    assert "1 test was not tried so, as it needs a cluster:" in said
    tests = "`unit/test_docs.py::test_modules_that_are_named_exist`"
    named = f"{tests}, `unit/test_promises.py::test_nothing_is_amiss`"
    assert data.splitlines()[-1] == f"| 1 | It holds. [README.md](../README.md#then) | {named} |"
    assert security.splitlines()[2:4] == ["| # | promise | held by |", "| --- | --- | --- |"]
    assert security.splitlines()[4] == f"| 2 | So does that. [guide.md](guide.md#serving) | {tests} |"
    name, file = "`test_modules_that_are_named_exist`", "`tools/promises.py`"
    assert failures.splitlines()[-3:] == [
        f"| 1 | {name} | {file} | `` `a` `` → `b` | `AssertionError` |",
        "| 1 | `test_nothing_is_amiss` | | not tried: needs a cluster | |",
        f"| 2 | {name} | {file} | `` `a` `` → `b` | `AssertionError` |",
    ]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of a function and its test."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "half.py").write_text("def half(number):\n    return number / 2\n")
    (tmp_path / "tests/test_half.py").write_text("from half import half\n\n\ndef test_it():\n    assert half(4) == 2\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(promises, "ROOT", tmp_path)
    monkeypatch.setattr(promises, "SOURCE", tmp_path / "promises.yaml")
    return tmp_path


def write(checkout: Path, was: str, became: str) -> None:
    broken = {"file": "half.py", "was": was, "became": became, "said": "assert"}
    one = {"says": "It halves.", "page": "a.md#a", "tests": [{"test": "tests/test_half.py::test_it", "broken": broken}]}
    (checkout / "promises.yaml").write_text(yaml.safe_dump([{"name": "Data", "promises": [one]}]))


def test_the_code_is_broken_the_test_seen_to_fail_and_the_code_mended(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (checkout / "half.py").read_text()
    write(checkout, "/ 2", "/ 4")
    assert promises.main([]) == 0
    assert "1 tests/test_half.py::test_it\n    assert 1.0 == 2\n" in capsys.readouterr().out
    write(checkout, "number / 2", "number * 0.5")
    assert promises.main([]) == 1
    assert "NOTICED NOTHING" in capsys.readouterr().out
    assert promises.main(["test_other"]) == 0
    assert (checkout / "half.py").read_text() == whole


def test_what_cannot_be_broken_as_it_says_is_told(checkout: Path) -> None:
    write(checkout, "/ 3", "/ 4")
    with pytest.raises(SystemExit, match=r"half\.py has '/ 3' 0 times"):
        promises.main([])
    (checkout / "half.py").write_text("half = None\n")
    with pytest.raises(SystemExit, match=r"half\.py has changes that are not committed"):
        promises.main([])
