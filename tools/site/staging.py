"""The pages of the documentation's site, gathered out of the repository: names, and links that lead to each other.

A page's place in the site is its place in the repository, but that docs/ is the root, and that a README.md is named as its
folder, or index in docs/. What is no page and is linked all the same (a sample, a test, a folder) gets a page that shows it,
below source/, which search leaves out.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

PAGES = (
    "docs/**/*.md", "charts/*/README.md", "k8s/README.md", "loadtests/README.md", "loadtests/bench/README.md",
    "tests/conformance/README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
)  # fmt: skip
"""What becomes a page, as patterns of paths in the repository."""
NAMES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "reporting.md"}
"""Pages that are named otherwise in the site: no two may differ by their letters' case alone."""
PICTURES = (".jpg", ".png", ".svg", ".webp")
LANGUAGES = {".json": "json", ".py": "python", ".sh": "sh", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
HIDDEN = "---\nsearch:\n  exclude: true\n---\n"

_FENCE = re.compile(r"^ *(`{3,}|~{3,})[^\n]*\n.*?^ *\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\n).)+?(?<!`)\1(?!`)", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# An inline link's or picture's target, a reference's, and that of a picture written as HTML.
_LINK = re.compile(
    r"""(\]\(\s*<?)([^)\s>]+) | (^\[[^\]\n]+\]:\s+<?)([^\s>]+) | (<(?:img|source)\b[^>]*?\bsrc(?:set)?=")([^"]+)""",
    re.MULTILINE | re.VERBOSE,
)


class LinkBroken(Exception):
    """A page has links that lead nowhere; the message names each."""


def tracked(root: Path) -> list[str]:
    """The files of a checkout that git knows, or would on `git add`, as paths below its root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in said.splitlines() if (root / name).is_file())


def name_of(path: str) -> str:
    """Name the page, or the picture, that a file of the repository is in the site."""
    if path.startswith("docs/"):
        return re.sub(r"(^|/)README\.md$", r"\1index.md", path.removeprefix("docs/"))
    return NAMES.get(path) or path.replace("/README.md", ".md")


@dataclass
class Site:
    """What is staged of a checkout. `files`: its paths that count; `staged`: contents by the name in the site."""

    root: Path
    files: list[str]
    staged: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pages = {path for pattern in PAGES for path in self.files if _matches(path, pattern)}
        self.broken: list[str] = []

    def gather(self) -> dict[str, bytes]:
        """Stage all pages, and what they link. Raises LinkBroken."""
        for path in sorted(self.pages):
            text = (self.root / path).read_text()
            name = name_of(path)
            self.staged[name] = rewrite(text, partial(self._target, path)).encode()
        if self.broken:
            raise LinkBroken("links that lead nowhere:\n" + "\n".join(f"  {one}" for one in self.broken))
        return self.staged

    def _target(self, page: str, target: str) -> str:
        """What a page's link is in the site. Anchors of pages are left to the build, which knows them all."""
        path, hash_, anchor = target.partition("#")
        if not path or re.match(r"[a-z][a-z+.-]*:", target):
            return target
        wanted = os.path.normpath(PurePosixPath(page).parent / path)
        found = self._place(wanted)
        if found is None:
            self.broken.append(f"{page}: {target}")
            return target
        return os.path.relpath(found, PurePosixPath(name_of(page)).parent) + hash_ + anchor

    def _place(self, path: str) -> str | None:
        """Find, or make, the place in the site of a file or folder of the repository; None if there is none."""
        if path == "README.md":
            return "index.md"
        if path in self.pages:
            return name_of(path)
        if path in self.files:
            return self._picture(path) if path.endswith(PICTURES) else self._file(path)
        below = [file for file in self.files if file.startswith(f"{path}/")]
        if f"{path}/README.md" in self.pages:
            return name_of(f"{path}/README.md")
        return self._folder(path, below) if below else None

    def _picture(self, path: str) -> str:
        name = name_of(path)
        self.staged[name] = (self.root / path).read_bytes()
        return name

    def _file(self, path: str) -> str:
        """Show a file of text as a page; hand on any other."""
        language = LANGUAGES.get(Path(path).suffix)
        name = f"source/{_undotted(path)}" + (".md" if language else "")
        content = (self.root / path).read_bytes()
        if language:
            content = f"{HIDDEN}# {path}\n\n{fenced(content.decode(), language)}\n".encode()
        self.staged[name] = content
        return name

    def _folder(self, path: str, below: Iterable[str]) -> str:
        """Show a folder as a list of its files, each of which is staged, too."""
        name = f"source/{_undotted(path)}/index.md"
        self.staged.setdefault(name, b"")  # before its files, which may be pages that link it
        places = [(file.removeprefix(f"{path}/"), self._place(file)) for file in below]
        rows = "".join(f"- [{file}]({os.path.relpath(place, PurePosixPath(name).parent)})\n" for file, place in places if place)
        self.staged[name] = f"{HIDDEN}# {path}\n\n{rows}".encode()
        return name


def rewrite(text: str, replace: Callable[[str], str]) -> str:
    """Replace the targets of a Markdown text's links and pictures, none of which is in code or in a comment."""
    kept = sorted((match.span() for pattern in (_FENCE, _COMMENT) for match in pattern.finditer(text)), key=lambda span: span[0])
    pieces, end = [], 0
    for start, stop in kept:
        if start < end:
            continue
        pieces += [_rewritten(text[end:start], replace), text[start:stop]]
        end = stop
    return "".join([*pieces, _rewritten(text[end:], replace)])


def fenced(content: str, language: str) -> str:
    """Write a file's text as a block of code, whose fence is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{content.rstrip()}\n{fence}"


def _rewritten(text: str, replace: Callable[[str], str]) -> str:
    code = [match.span() for match in _CODE.finditer(text)]

    def replaced(match: re.Match[str]) -> str:
        if any(start <= match.start() < stop for start, stop in code):
            return match[0]
        before, target = (part for part in match.groups() if part is not None)
        return before + replace(target)

    return _LINK.sub(replaced, text)


def _undotted(path: str) -> str:
    """Name a path without the dots that hide a file or a folder, which the generator leaves out."""
    return re.sub(r"(^|/)\.", r"\1", path)


def _matches(path: str, pattern: str) -> bool:
    written = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(written, path) is not None
