"""HTML pages without one picture: what shows it or names it is taken out, by the elements around it, whatever page it is.

A page embeds its pictures as data URIs. One is taken for the picture where it looks like it, or where its element names the
picture's path; then all that the element shows goes, as heat maps over a picture do not look like it.
"""

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import quote

from markupsafe import escape

CONTAINERS = frozenset({"article", "figure", "td", "li", "dd", "a", "button"})
"""Elements that show one case. One that shows more than MOST pictures, or names another picture, is a list of cases."""
MOST = 8
BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
ERASED = "(erased)"
_PICTURE = re.compile(r"data:image/[\w.+-]+;base64,([A-Za-z0-9+/=\s]+)")


@dataclass
class _Element:
    """An element by the places in the text between its tags."""

    tag: str
    begin: int
    end: int = -1


class _Elements(HTMLParser):
    """Finds the containers of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._open: list[_Element] = []
        self.found: list[_Element] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's own
        if tag in CONTAINERS:
            self._open.append(_Element(tag, self._here() + len(self.get_starttag_text() or "")))

    def handle_endtag(self, tag: str) -> None:
        if any(one.tag == tag for one in self._open):
            while self._open:
                element = self._open.pop()
                if element.tag == tag:
                    element.end = self._here()
                    self.found.append(element)
                    return

    def _here(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column


def clean(text: str, paths: Collection[str], others: Collection[str], is_alike: Callable[[bytes], bool]) -> tuple[str, int]:
    """Take a picture out of a page; returns the page, and how many pictures and names were taken out, 0 for an unchanged one.

    `paths`: the picture's, in data sets; `others`: those of other pictures, which tell a case from a list of cases; `is_alike`
    is asked about each embedded picture.
    """
    named = _pattern(paths)
    shown = [(match.span(), _decoded(match[1])) for match in _PICTURE.finditer(text)]
    bad = [span for span, data in shown if data is not None and is_alike(data)]
    places = [match.span() for match in named.finditer(text)] if named else []
    if not bad and not places:
        return text, 0
    elements = sorted(_Elements(text).found, key=lambda element: element.begin - element.end)  # the largest first
    other, starts = _pattern(others), [span for span, _ in shown]
    cuts: list[tuple[int, int, str]] = []
    for begin, end in (*bad, *places):
        around = (element for element in elements if element.begin <= begin and end <= element.end)
        case = next((element for element in around if _is_case(text, element, other, starts)), None)
        # A name in an <img> without a case of its own: that picture.
        tag = _tag_around(text, begin)
        if case:
            cuts.append((case.begin, case.end, ERASED))
        else:
            cuts.append((begin, end, BLANK if (begin, end) in bad else ERASED))
            cuts += [(*span, BLANK) for span in starts if tag and tag[0] <= span[0] and span[1] <= tag[1]]
    return _cut(text, cuts), len({*bad, *places})


def replace_names(text: str, paths: Collection[str]) -> tuple[str, int]:
    """Take the picture's paths out of a text that is no page; returns the text, and how many there were."""
    named = _pattern(paths)
    return named.subn(ERASED, text) if named else (text, 0)


def _is_case(text: str, element: _Element, others: "re.Pattern[str] | None", pictures: Iterable[tuple[int, int]]) -> bool:
    inside = sum(element.begin <= begin and end <= element.end for begin, end in pictures)
    if not 0 < inside <= MOST:
        return False
    return others is None or others.search(_PICTURE.sub("", text[element.begin : element.end])) is None


def _tag_around(text: str, place: int) -> tuple[int, int] | None:
    """The <img> whose attributes hold a place."""
    begin, closed = text.rfind("<img", 0, place), text.rfind(">", 0, place)
    end = text.find(">", place)
    return (begin, end) if begin > closed and end >= 0 else None


def _pattern(paths: Collection[str]) -> "re.Pattern[str] | None":
    """What finds paths as HTML, URLs, JSON and texts write them, and not as a part of longer ones."""
    if not paths:
        return None
    forms = {form for path in paths for form in (path, str(escape(path)), quote(path), path.replace("/", "\\/"))}
    return re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, sorted(forms, key=len, reverse=True)))})(?![\w-]|\.\w)")


def _decoded(encoded: str) -> bytes | None:
    try:
        return base64.b64decode(encoded)
    except binascii.Error:
        return None


def _cut(text: str, cuts: Iterable[tuple[int, int, str]]) -> str:
    """Replace the outermost of the pieces, each once."""
    parts, at = [], 0
    for begin, end, word in sorted(set(cuts), key=lambda cut: (cut[0], -cut[1])):
        if begin >= at:
            parts += [text[at:begin], word]
            at = end
    return "".join([*parts, text[at:]])
