"""HTML pages without one picture: what shows it or names it is taken out, by the elements around it, whatever page it is.

A page embeds its pictures as data URIs. One is taken for the picture where it looks like it, or where its element names the
picture's path; then all that the element shows goes, as heat maps over a picture do not look like it.
"""

import base64
import binascii
import html
import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import quote

from markupsafe import escape

CONTAINERS = frozenset({"article", "figure", "td", "li", "dd", "a", "button"})
"""Elements that show one case. One that shows more than MOST pictures, or names another picture, is a list of cases; a <div>
within one, such as a wrong answer's beside a right one's, may be a case of its own."""
MOST = 8
BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
ERASED = "(erased)"
BEFORE = r"(?<![\w.-])|(?<=\\[nrtbf])|(?<=\\u00[0-7][0-9a-fA-F])|(?<=%[0-7][0-9a-fA-F])"
"""What a path may follow: no part of a name, or an escaped character, though that ends in a letter or digit."""
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
        if tag in CONTAINERS or (tag == "div" and self._open):
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
    places = _names(text, paths, others)
    shown = [(match.span(), _decoded(match[1])) for match in _PICTURE.finditer(text)]
    bad = [span for span, data in shown if data is not None and is_alike(data)]
    if not bad and not places:
        return text, 0
    elements = sorted(_Elements(text).found, key=lambda element: element.begin - element.end)  # the largest first
    hidden = _cut(text, [(begin, end, " " * (end - begin)) for begin, end in (*places, *(span for span, _ in shown))])
    other, starts = _pattern(others), [span for span, _ in shown]
    cuts: list[tuple[int, int, str]] = []
    for begin, end in (*bad, *places):
        around = (element for element in elements if element.begin <= begin and end <= element.end)
        case = next((element for element in around if _is_case(hidden, element, other, starts)), None)
        # A name in an <img> without a case of its own: that picture.
        tag = _tag_around(text, begin)
        if case:
            cuts.append((case.begin, case.end, ERASED))
        else:
            cuts.append((begin, end, BLANK if (begin, end) in bad else ERASED))
            cuts += [(*span, BLANK) for span in starts if tag and tag[0] <= span[0] and span[1] <= tag[1]]
    return _cut(text, cuts), len({*bad, *places})


def replace_names(text: str, paths: Collection[str], others: Collection[str] = ()) -> tuple[str, int]:
    """Take the picture's paths out of a text that is no page; returns the text, and how many there were."""
    places = _names(text, paths, others)
    return _cut(text, [(*place, ERASED) for place in places]), len(places)


def _names(text: str, paths: Collection[str], others: Collection[str]) -> list[tuple[int, int]]:
    """Find where a text names the picture, alone or behind folders; not as a part of the paths of `others`."""
    longer = [other for other in others if any(path in other for path in paths)]
    mine = _pattern(paths)
    if mine is None:
        return []
    theirs = _pattern(longer)
    kept = [match.span() for match in theirs.finditer(text)] if theirs else []
    at, found = 0, []
    for begin, end in (match.span() for match in mine.finditer(text)):
        while at < len(kept) and kept[at][1] < end:
            at += 1
        if at == len(kept) or kept[at][0] > begin:
            found.append((begin, end))
    return found


def _is_case(text: str, element: _Element, others: "re.Pattern[str] | None", pictures: Iterable[tuple[int, int]]) -> bool:
    """`text`: the page with the picture's own names and all embedded pictures blanked; `pictures`: where those are."""
    inside = sum(element.begin <= begin and end <= element.end for begin, end in pictures)
    if not 0 < inside <= MOST:
        return False
    return others is None or others.search(text[element.begin : element.end]) is None


def _tag_around(text: str, place: int) -> tuple[int, int] | None:
    """The <img> whose attributes hold a place."""
    begin, closed = text.rfind("<img", 0, place), text.rfind(">", 0, place)
    end = text.find(">", place)
    return (begin, end) if begin > closed and end >= 0 else None


def _pattern(paths: Collection[str]) -> "re.Pattern[str] | None":
    """What finds paths as HTML, URLs, JSON, CSV and texts write them, folders before them or not, and not within longer names."""
    if not paths:
        return None
    forms = {form for path in paths for form in _forms(path)}
    return re.compile(rf"(?:{BEFORE})(?:{'|'.join(map(re.escape, sorted(forms, key=len, reverse=True)))})(?![\w-]|\.\w)")


def _forms(path: str) -> set[str]:
    """A path as it is, and as each kind of text writes it."""
    written = {path, path.replace('"', '""'), repr(path)[1:-1]}
    written |= {json.dumps(path, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)}
    written |= {form.replace("/", "\\/") for form in written}
    written |= {_script(form) for form in written}
    in_pages = {form for one in written for form in (str(escape(one)), html.escape(one))}
    return written | in_pages | {quote(path, safe, errors="surrogateescape") for safe in ("/", "")}


def _script(text: str) -> str:
    """As templates write JSON into pages."""
    return "".join(f"\\u{ord(char):04x}" if char in "<>&'" else char for char in text)


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
