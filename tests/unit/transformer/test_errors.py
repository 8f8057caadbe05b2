"""Each error that a call may end with has a status over gRPC too, and a row in the user guide."""

import re
from pathlib import Path

import grpc
import pytest

from handlers.errors import VisorError
from transformer.errors import grpc_code
from transformer.rest.openapi import ANYWHERE, FIXED, INFER

GUIDE = Path(__file__).parents[3] / "docs/guide.md"
# What only HTTP knows: a content type, a method of a path, a head, its own syntax, browsers.
OF_HTTP = {"request.content", "request.method", "request.head", "request.http", "request.transfer", "request.cross_site"}
KINDS = (*INFER, *FIXED, *ANYWHERE)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.code not in OF_HTTP], ids=lambda kind: kind.code)
def test_it_has_a_status_over_grpc(kind: type[VisorError]) -> None:
    assert isinstance(grpc_code(kind("sentence")), grpc.StatusCode)


def test_the_guide_names_every_code() -> None:
    table = GUIDE.read_text().split("### Error codes")[1].split("###")[0]
    told = set[str]()
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        codes = re.findall(r"`([a-z_.]+)`", row)
        told |= {code if not code.startswith(".") else codes[0].split(".")[0] + code for code in codes}
    assert {kind.code for kind in KINDS} - told == set()
