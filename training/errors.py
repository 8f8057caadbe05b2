"""The errors of training, each with a stable code; `handlers.errors` draws the root.

VisorError
├── ConfigError        config.invalid: a key or value of a config
├── DataError          data.invalid: a data set that cannot be trained on
│   ├── DataUnreadable data.unreadable: files that are not whole images, all of them named
│   └── DataChanged    data.changed: files that differ from the manifest, all of them named
├── RunError           run.invalid: a run's folder that does not fit what was asked
├── KeyFileError       key.invalid: a signing key that is missing or not one
├── ArchiveRefused     archive.refused: an archive whose signature does not hold
└── StoreError         store.missing: a name or version that the model store does not hold
"""

from handlers.errors import VisorError


class ConfigError(VisorError):
    """A key or value of a config."""

    code = "config.invalid"


class DataError(VisorError):
    """A data set that cannot be trained on."""

    code = "data.invalid"


class DataUnreadable(DataError):
    """Files that are not whole images."""

    code = "data.unreadable"


class DataChanged(DataError):
    """Files that differ from the manifest."""

    code = "data.changed"


class RunError(VisorError):
    """A run's folder that does not fit what was asked."""

    code = "run.invalid"


class KeyFileError(VisorError):
    """A signing key that is missing or not one."""

    code = "key.invalid"


class ArchiveRefused(VisorError):
    """An archive whose signature does not hold."""

    code = "archive.refused"


class StoreError(VisorError):
    """A name or version that the model store does not hold."""

    code = "store.missing"
