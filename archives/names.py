"""Names in Unicode's composed form, NFC; macOS and some archivers spell an accent as a character of its own."""

import unicodedata
from collections.abc import Collection


def composed(name: str) -> str:
    """Return a name in NFC."""
    return unicodedata.normalize("NFC", name)


def pair(wanted: Collection[str], there: Collection[str]) -> dict[str, str]:
    """Find wanted names among those that are there, as wanted or, where none is spelt so, with accents spelt in another way.

    Returns the name that is there by the wanted one, each at most once; what is not found is left out.
    """
    wanted, there = set(wanted), set(there)
    spare = {composed(name): name for name in sorted(there - wanted)}
    others = {name: spare.pop(composed(name), None) for name in sorted(wanted - there)}
    return {name: name for name in wanted & there} | {name: found for name, found in others.items() if found is not None}
