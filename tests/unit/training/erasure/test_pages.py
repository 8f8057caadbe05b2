"""A page without one picture: by the elements around what shows or names it, and nothing of the other pictures."""

import base64
import csv
import html
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import quote, unquote

import pytest
from jinja2.utils import htmlsafe_json_dumps

from training.erasure.pages import BLANK, ERASED, clean, replace_names

ME, OTHER = b"\x89PNG me", b"\x89PNG other"
PATH = "damaged/Ann O'Hara & son.jpg"
HTML = "damaged/Ann O&#39;Hara &amp; son.jpg"


def uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def figure(data: bytes, alt: str = "a picture") -> str:
    return f'<figure><img src="{uri(data)}" alt="{alt}"></figure>'


def cleaned(text: str, *others: str) -> tuple[str, int]:
    return clean(text, [PATH], others, lambda data: data == ME)


def test_what_neither_shows_nor_names_it_stays_to_the_byte() -> None:
    page = f"<p>damaged/Ann</p>{figure(OTHER)}<!-- -- >"
    assert cleaned(page) == (page, 0)


def test_a_case_goes_with_the_heat_maps_that_do_not_look_like_it() -> None:
    case = f'<article class="case"><code>{HTML}</code><p>Is damaged.</p>{figure(ME)}{figure(OTHER, "heat map")}</article>'
    rest = f"<article><code>b.jpg</code>{figure(OTHER)}</article>"
    new, count = cleaned(f"<section>{case}{rest}</section>", "b.jpg")
    assert new == f'<section><article class="case">{ERASED}</article>{rest}</section>'
    assert count == 2


def test_a_list_of_cases_stays_but_for_the_one() -> None:
    pair = f"<article><p>{HTML} and b.jpg</p>{figure(ME)}{figure(OTHER, 'b.jpg')}</article>"
    new, _ = cleaned(pair, "b.jpg")
    assert new == f"<article><p>{ERASED} and b.jpg</p><figure>{ERASED}</figure>{figure(OTHER, 'b.jpg')}</article>"


def test_a_picture_that_looks_like_it_goes_without_its_name() -> None:
    assert cleaned(f"<div>{figure(ME)}{figure(OTHER)}</div>")[0] == f"<div><figure>{ERASED}</figure>{figure(OTHER)}</div>"
    assert cleaned(f'<p><img src="{uri(ME)}"> {uri(OTHER)}</p>')[0] == f'<p><img src="{BLANK}"> {uri(OTHER)}</p>'
    assert cleaned(f"<style>a {{ background: url({uri(ME)}) }}</style>")[0] == f"<style>a {{ background: url({BLANK}) }}</style>"


def test_a_picture_whose_own_tag_names_it_goes_though_it_looks_otherwise() -> None:
    assert cleaned(f'<p><img alt="{HTML}" src="{uri(OTHER)}"></p>')[0] == f'<p><img alt="{ERASED}" src="{BLANK}"></p>'
    assert cleaned(f'<table><tr><td><a title="{HTML}"><img src="{uri(OTHER)}"></a></td><td>1</td></tr></table>')[0] == (
        f"<table><tr><td>{ERASED}</td><td>1</td></tr></table>"
    )


def test_a_whole_page_in_one_article_is_no_case() -> None:
    many = "".join(figure(OTHER) for _ in range(9))
    new, _ = cleaned(f"<article>{many}{figure(ME)}<p>{HTML}</p></article>")
    assert new == f"<article>{many}<figure>{ERASED}</figure><p>{ERASED}</p></article>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'{{"path": "{PATH}"}}', f'{{"path": "{ERASED}"}}'),
        ("see damaged/Ann%20O%27Hara%20%26%20son.jpg.", f"see {ERASED}."),
        (f"x{PATH} more-{PATH} {PATH}.txt {PATH}-2", None),
        (f"/home/x/images/{PATH}", f"/home/x/images/{ERASED}"),
        (f"see {PATH}, and", f"see {ERASED}, and"),
        (f"a%2F{quote(PATH, safe='')}%22", f"a%2F{ERASED}%22"),
        (json.dumps({"log": f"one\n{PATH}\n"}), json.dumps({"log": f"one\n{ERASED}\n"})),
        ("another", None),
    ],
)
def test_names_are_found_as_they_are_written_and_not_within_others(text: str, expected: str | None) -> None:
    new, count = replace_names(text, [PATH])
    assert (new, count) == ((text, 0) if expected is None else (expected, 1))


ODD = 'zwölf & "x"/ä\\b.png'


@pytest.mark.parametrize("folder", ["", "data/", "/home/x/images/"])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: json.dumps({"image": path}),
        lambda path: json.dumps({"image": path}, ensure_ascii=False),
        lambda path: json.dumps({"image": path}).replace("/", "\\/"),
        lambda path: f"<p data-cell='{html.escape(json.dumps([path]))}'>",
        lambda path: f"<script>x = {htmlsafe_json_dumps([path])}</script>",
        lambda path: f"{[path]}",
        lambda path: f"<b>{html.escape(path)}</b>",
        lambda path: quote(path),
        lambda path: quote(path, safe=""),
        lambda path: written_as_csv(["1", path, "2"]),
    ],
    ids=["json", "json-unicode", "json-slashes", "attribute", "script", "repr", "html", "url", "query", "csv"],
)
def test_escaped_names_go_whatever_is_before_them(folder: str, write: Callable[[str], str]) -> None:
    """Erasing what was written gives what would have been written of the erased name."""
    assert unquote(replace_names(write(folder + ODD), [ODD])[0]) == unquote(write(folder + ERASED))
    assert replace_names(write(f"{folder}{ODD}x"), [ODD])[1] == 0


def written_as_csv(row: list[str]) -> str:
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerow(row)
    return file.getvalue()


def test_another_picture_of_the_data_set_keeps_a_longer_name() -> None:
    others = ["dog/cat/a.png", "my cat/a.png", "cat/a.png copy.png", "b.png"]
    text = "dog/cat/a.png cat/a.png; x/dog/cat/a.png x/cat/a.png; my cat/a.png; cat/a.png copy.png"
    assert replace_names(text, ["cat/a.png"], others) == (
        f"dog/cat/a.png {ERASED}; x/dog/cat/a.png x/{ERASED}; my cat/a.png; cat/a.png copy.png",
        2,
    )


def test_a_right_answer_beside_a_wrong_one_goes_with_its_heat_map() -> None:
    """As reports show them: two cases in an article, each in a <div>, and the heat map does not look like the picture."""
    mine = f"<div><h3>right</h3>{figure(ME, HTML)}{figure(OTHER, 'heat map')}</div>"
    other = f"<div><h3>wrong</h3>{figure(OTHER, 'b.jpg')}{figure(OTHER, 'heat map')}</div>"
    for pair in (other + mine, mine + other):
        page = f"<div><article>{pair}</article></div>"
        assert cleaned(page, "b.jpg")[0] == page.replace(mine, f"<div>{ERASED}</div>")


def test_the_page_is_as_well_formed_as_before() -> None:
    class Tags(HTMLParser):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.open: list[str] = []
            self.feed(text)

        def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
            self.open += [] if tag in {"img", "meta"} else [tag]

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    page = f"<html><body><ul><li>{HTML}{figure(ME)}</li><li>b{figure(OTHER)}</li></ul><p>&lt; {HTML}</p></body></html>"
    new, _ = cleaned(page, "b")
    assert Tags(new).open == []
    assert new == f"<html><body><ul><li>{ERASED}</li><li>b{figure(OTHER)}</li></ul><p>&lt; {ERASED}</p></body></html>"
