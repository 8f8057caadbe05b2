"""Names that differ only in how Unicode spells an accent."""

import unicodedata

import pytest

from archives.names import close_to, composed, pair

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_an_accent_of_its_own_is_composed():
    assert NFC != NFD
    assert composed(NFD) == composed(NFC) == NFC


def test_a_name_is_found_as_it_is_spelt_or_else_in_another_spelling():
    assert pair({NFC, "tea"}, {NFD, "milk"}) == {NFC: NFD}
    assert pair({NFD}, {NFC}) == {NFD: NFC}
    assert pair({NFC, NFD}, {NFC, NFD}) == {NFC: NFC, NFD: NFD}


def test_one_name_that_is_there_stands_for_one_that_is_wanted():
    assert pair({NFC, NFD}, {NFD}) == {NFD: NFD}
    assert pair({NFC}, {NFC, NFD}) == {NFC: NFC}


@pytest.mark.parametrize(
    ("name", "meant"), [("Schaden", "schaden"), (" heil", "heil"), ("schadn", "schaden"), ("x", None), ("HEIL", "heil")]
)
def test_the_name_that_is_meant_differs_by_case_blanks_or_a_letter(name: str, meant: str | None) -> None:
    assert close_to(name, ["heil", "schaden"]) == meant
