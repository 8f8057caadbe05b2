"""What an Accept header prefers, and the headers of a drawn answer."""

import pytest

from console.api import items
from console.api.overlays import HEADERS, MEDIA, headers_of, wanted
from console.errors import NotAcceptable
from console.servers.models import Answer


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("application/*", "json"),
        ("image/png", "png"),
        ("image/jpeg, */*;q=0.1", "jpeg"),
        ("image/*", "png"),
        ("image/avif,image/webp,image/*;q=0.8,*/*;q=0.5", "webp"),
        ("application/json;q=0.1, image/webp;q=0.2", "webp"),
        ("*/*, application/json;q=0", "png"),
        ("IMAGE/PNG", "png"),
        ("text/html, image/jpeg;q=0.9", "jpeg"),
    ],
)
def test_what_is_preferred_is_answered(accept: str, kind: str) -> None:
    assert wanted(accept, MEDIA) == kind


@pytest.mark.parametrize("accept", ["text/html", "image/avif", "application/json;q=0", "image/png;q=x", ";"])
def test_what_cannot_be_answered_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json, image/png"):
        wanted(accept, MEDIA)


def test_a_batch_is_lines_of_json_unless_it_is_to_be_something_else() -> None:
    accepts = ("*/*", "application/json", "text/csv", "application/x-ndjson")
    assert [wanted(accept, items.MEDIA) for accept in accepts] == ["ndjson", "json", "csv", "ndjson"]


def test_the_headers_have_the_answer_and_no_second_line() -> None:
    answer = Answer(model="roofs", label="schäden\r\nX: <script>", decision="flag", confidence=0.5, group="a=b", score=0.0)
    assert headers_of(answer) == {
        "Visor-Model": "roofs",
        "Visor-Label": "sch%C3%A4den%0D%0AX: %3Cscript%3E",
        "Visor-Confidence": "0.5",
        "Visor-Decision": "flag",
        "Visor-Score": "0.0",
        "Visor-Group": "a=b",
    }
    assert set(headers_of(answer)) <= set(HEADERS)
