"""Names in Unicode's composed form, NFC; macOS and some archivers spell an accent as a character of its own."""

import difflib
import unicodedata
from collections.abc import Collection


def composed(name: str) -> str:
    """Return a name in NFC."""
    return unicodedata.normalize("NFC", name)


def close_to(name: str, known: Collection[str]) -> str | None:
    """Find the known name that a name may be a slip of: one that differs by case and blanks, else the one most alike."""
    folded = {one.strip().casefold(): one for one in sorted(known, reverse=True)}
    found = difflib.get_close_matches(name.strip().casefold(), folded, 1)
    return folded[found[0]] if found else None


def pair(wanted: Collection[str], there: Collection[str]) -> dict[str, str]:
    """Find wanted names among those that are there, as wanted or, where none is spelt so, with accents spelt in another way.

    Returns the name that is there by the wanted one, each at most once; what is not found is left out.
    """
    wanted, there = set(wanted), set(there)
    spare = {composed(name): name for name in sorted(there - wanted)}
    others = {name: spare.pop(composed(name), None) for name in sorted(wanted - there)}
    return {name: name for name in wanted & there} | {name: found for name, found in others.items() if found is not None}
