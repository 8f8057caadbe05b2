"""The blocks of commands in the documents, and what the comment before each says of it.

A block of ```sh, ```python, or of ```console that shows a command (`$ `) may have a line `<!-- needs: WHAT -->` before it, of
what is not everywhere (`NEEDS`), or `<!-- run by: FILE::TEST -->`. `tests/integration/test_doc_blocks.py` runs those that
have neither.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools import pages

ROOT = Path(__file__).parents[2]
NEEDS = frozenset({"apt as root", "cluster", "docker", "internet", "registry", "time"})
START = frozenset({"README.md", "docs/quick-start.md", "docs/tutorial.md"})
"""Pages that `tests/integration/test_tutorial.py` walks through whole, and whose text says what needs Docker or a cluster."""
BLOCK = re.compile(
    r"^(?P<mark> *<!-- [^\n]* -->\n)?(?P<indent> *)```(?P<language>sh|python|console)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"<!-- (?:needs: (?P<needs>.+)|run by: (?P<run_by>\S+::\w+)) -->")


@dataclass(frozen=True)
class Block:
    """A block. `line`: of its first command, from 1; `mark`: the comment before it; `needs` and `run_by`: what that says."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    needs: str = ""
    run_by: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages_of_the_site() -> list[str]:
    """The pages with commands for people: those that are written by hand, and the charts' own, without those of `START`."""
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    made = {f"docs/{name}" for name in pages.make_all()}
    others = made | START
    return [name for name in tracked if re.match(r"docs/|charts/[\w-]+/README|README", name) and name not in others]


def blocks_of(page: str, run_by: str | None = None) -> list[Block]:
    """The blocks of a page; those that this test runs, where one is named."""
    text, found = (ROOT / page).read_text(), []
    for block in BLOCK.finditer(text):
        lines = re.sub(rf"^{block['indent']}", "", block["text"], flags=re.MULTILINE)
        if block["language"] == "console" and not lines.startswith("$ "):
            continue
        mark = (block["mark"] or "").strip()
        said = MARK.fullmatch(mark)
        needs, test = (said["needs"] or "", said["run_by"] or "") if said else ("", "")
        line = text.count("\n", 0, block.start("text")) + 1
        found.append(Block(page, line, block["language"], lines, mark, needs, test))
    return [block for block in found if run_by in (None, block.run_by)]


def commands(block: str) -> list[str]:
    """The commands of a block of shell, each whole with all its lines."""
    found, lines = [], ""
    for line in block.splitlines():
        lines += line + "\n"
        whole = subprocess.run(["bash", "-n"], input=lines, capture_output=True, text=True, check=False)
        if whole.returncode == 0 and not line.endswith(("\\", "|")):
            found.append(lines)
            lines = ""
    assert not lines, block
    return found
