"""The errors of archives, each with a stable code; `handlers.errors` draws the root.

VisorError
├── KeyFileError          key.invalid: a signing key that is missing or not one
│   ├── KeyLocked         key.passphrase: a signing key whose passphrase is missing or wrong
│   └── KeyUnsuitable     key.kind: a key of a kind that archives are not signed by, such as RSA
├── ArchiveRefused        archive.refused: an archive whose signature does not hold
│   └── ProvenanceRefused provenance.refused: a provenance statement that is not signed, or is about another archive
├── ArchiveUnexpected     archive.unexpected: a signed archive, but another one than its place or the caller says
├── ArchiveAmbiguous      archive.ambiguous: several archives lie where a pod looks for the one to serve
└── StoreError            store.missing: a name or version that the model store does not hold
"""

from handlers.errors import VisorError


class KeyFileError(VisorError):
    """A signing key that is missing or not one."""

    code = "key.invalid"


class KeyLocked(KeyFileError):
    """A signing key whose passphrase is missing or wrong."""

    code = "key.passphrase"


class KeyUnsuitable(KeyFileError):
    """A key of a kind that archives are not signed by, such as RSA."""

    code = "key.kind"


class ArchiveRefused(VisorError):
    """An archive whose signature does not hold."""

    code = "archive.refused"


class ProvenanceRefused(ArchiveRefused):
    """A provenance statement that is not signed by the archive's signer, or is about another archive."""

    code = "provenance.refused"


class ArchiveUnexpected(VisorError):
    """A signed archive, but another one than its place or the caller says: renamed, rolled back or exchanged."""

    code = "archive.unexpected"


class ArchiveAmbiguous(VisorError):
    """Several archives lie where a pod looks for the one to serve."""

    code = "archive.ambiguous"


class StoreError(VisorError):
    """A name or version that the model store does not hold."""

    code = "store.missing"
