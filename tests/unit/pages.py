"""What every page must have, whatever it reports."""

import re
from html.parser import HTMLParser

VOID = {"br", "img", "meta", "link"}
LEFT_OVER = {
    "a tag or a name of the templates": r"\{[{%#]|[}%#]\}",
    "a field of a format": r"\{\w*(![rsa])?(:[^}]*)?\}|%(\(\w+\))?[sdrfg]\b",
    "a value that is none": r"\b(None(?![.:])|nan|NaN|undefined|Undefined)\b",
    "an object": r"<\w+ object at|\bEllipsis\b|\b(Floats|ndarray|np\.\w+|array)\(",
}
"""What no text of a page may hold, besides the names that a data set brings along."""


class Structure(HTMLParser):
    """A page's elements, which must be closed in order, its text, images and addresses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.links: list[str | None] = []
        self.ids: list[str | None] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.links += [given[name] for name in ("href", "src", "action", "srcset", "poster") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        self.text += "".join(f" {given[name]} " for name in ("alt", "title", "aria-label", "data-name") if given.get(name))
        if tag == "img":
            self.images.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def left_over(text: str) -> dict[str, str]:
    """What a template or a format left behind in a text, by what it is."""
    return {what: found[0] for what, form in LEFT_OVER.items() if (found := re.search(form, text))}


def check_page(page: str, links: set[str] | None = None) -> Structure:
    """The page is whole, says nothing that a template left over, and needs nothing beside it. links: to other pages."""
    structure = Structure(page)
    assert structure.open == []
    assert left_over(structure.text) == {}
    assert not re.search(LEFT_OVER["a tag or a name of the templates"], page)
    assert structure.tags.count("h1") == structure.tags.count("title") == structure.tags.count("main") == 1
    assert len(structure.ids) == len(set(structure.ids))
    assert '<html lang="en">' in page
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert {link for link in structure.links if not (link or "").startswith("data:image/")} == (links or set())
    assert not re.search(r"url\(|@import|<script", page)
    assert all(image["alt"] for image in structure.images)
    return structure


def check_style(page: str) -> None:
    """The style sheet of all pages is in it, for light and for dark screens and for paper."""
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert re.search(r"^\s*body \{ margin: 0; background: var\(--paper\);", style, re.MULTILINE)
    assert "--paper: #fbfbfa;" in style
    assert style.count("{") == style.count("}")
    for media in ("(prefers-color-scheme: dark)", "(max-width: 40rem)", "print"):
        assert f"@media {media}" in style
