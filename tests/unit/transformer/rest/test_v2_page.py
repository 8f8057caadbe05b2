"""docs/v2.md and docs/guide.md have the errors that the code has."""

import re
from pathlib import Path

from transformer.rest.openapi import ANYWHERE, FIXED, INFER, error_rows

DOCS = Path(__file__).parents[4] / "docs"


def test_the_page_has_every_error_as_the_code_has_it():
    _, section = (DOCS / "v2.md").read_text().split("\n## Errors\n")
    shown = [line for line in section.splitlines() if line.startswith("| `")]
    assert shown == error_rows((*INFER, *FIXED, *ANYWHERE))


def test_the_guide_has_every_error_at_its_status():
    section = (DOCS / "guide.md").read_text().split("### Error codes")[1].split("\n#")[0]
    shown = set()
    for codes, statuses in re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE):
        names = re.findall("`(.*?)`", codes)
        full = [names[0].split(".")[0] + name if name.startswith(".") else name for name in names]  # `request.json`, `.binary`
        each = re.findall(r"\b\d{3}\b", statuses)
        shown |= set(zip(full, map(int, each * len(full) if len(each) == 1 else each), strict=True))
    answered = {(kind.code, kind.status) for kind in (*INFER, *FIXED, *ANYWHERE)}
    assert answered - shown == set()
    assert {code for code, _ in shown - answered} == {"request.protobuf"}  # of gRPC alone
