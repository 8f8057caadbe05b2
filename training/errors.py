"""The errors of training, each with a stable code; `handlers.errors` draws the root.

VisorError
├── ConfigError           config.invalid: a key or value of a config
│   └── BatchTooSmall     config.batch: batches of one image where BatchNorm needs more
├── DataError             data.invalid: a data set that cannot be trained on
│   ├── DataUnreadable    data.unreadable: files that are not whole images, all of them named
│   ├── DataChanged       data.changed: files that differ from the manifest, all of them named
│   ├── DataMissing       data.missing: a published set that is not where the config says, or not in its published form
│   ├── DataUnpulled      data.unpulled: files that DVC knows and that are not there
│   ├── DataLeak          data.leak: near-duplicates in two splits, or pretrained weights that have seen what judges them
│   ├── ReviewsInvalid    data.reviews: an export of reviews that cannot be read, or that a data set cannot take
│   └── DownloadFailed    data.download: a published set that could not be fetched
├── RunError              run.invalid: a run's folder that does not fit what was asked
├── CompareError          compare.invalid: runs that did not answer the same question on the same images
├── StudyError            study.invalid: a search's study that is another's, or a storage that does not answer
├── ParityFailed          archive.parity: a backend that was asked for and does not answer as the reference does
├── FolderError           folder.unwritable: a folder that has to be written to and cannot be
│   └── DiskFull          disk.full: too little space for what has to be written
├── TrackingUnreachable   tracking.unreachable: an MLflow server that does not answer
├── TrackingOutdated      tracking.version: an MLflow database of another version than the MLflow installed here
├── TrackingForeign       tracking.foreign: a file or database that is not MLflow's
├── TrackingUnsupported   tracking.address: a tracking address that MLflow does not take
├── TrackingDeleted       tracking.deleted: an experiment that was deleted, whose name nothing else can have
└── RemoteError           remote.failed: S3 says no for a reason of its own
    ├── RemoteInvalid     remote.invalid: an address or a key that cannot be used
    ├── RemoteMissing     remote.missing: no such bucket, or nothing in it
    ├── RemoteDenied      remote.denied: credentials that are missing, wrong or not enough
    ├── RemoteUnreachable remote.unreachable: no connection to the server
    └── RemoteConflict    remote.conflict: another file has the name already
"""

from handlers.errors import VisorError


class ConfigError(VisorError):
    """A key or value of a config."""

    code = "config.invalid"


class BatchTooSmall(ConfigError):
    """Batches of one image where BatchNorm needs more."""

    code = "config.batch"


class DataError(VisorError):
    """A data set that cannot be trained on."""

    code = "data.invalid"


class DataUnreadable(DataError):
    """Files that are not whole images."""

    code = "data.unreadable"


class DataChanged(DataError):
    """Files that differ from the manifest."""

    code = "data.changed"


class DataMissing(DataError):
    """A published set that is not where the config says, or not in its published form."""

    code = "data.missing"


class DataUnpulled(DataError):
    """Files that DVC knows and that are not there."""

    code = "data.unpulled"


class DataLeak(DataError):
    """Near-duplicates in two splits, or pretrained weights that have seen what judges them."""

    code = "data.leak"


class ReviewsInvalid(DataError):
    """An export of reviews that is not in the form of docs/reviews-export.md, or that a parent cannot take."""

    code = "data.reviews"


class DownloadFailed(DataError):
    """A published set that could not be fetched."""

    code = "data.download"


class RunError(VisorError):
    """A run's folder that does not fit what was asked."""

    code = "run.invalid"


class CompareError(VisorError):
    """Runs that did not answer the same question on the same images."""

    code = "compare.invalid"


class StudyError(VisorError):
    """A search's study that is another's, or a storage that does not answer."""

    code = "study.invalid"


class ParityFailed(VisorError):
    """A backend that was asked for and does not answer as the reference does."""

    code = "archive.parity"


class FolderError(VisorError):
    """A folder that has to be written to and cannot be."""

    code = "folder.unwritable"


class DiskFull(FolderError):
    """Too little space for what has to be written."""

    code = "disk.full"


class TrackingUnreachable(VisorError):
    """An MLflow server that does not answer."""

    code = "tracking.unreachable"


class TrackingOutdated(VisorError):
    """An MLflow database of another version than the MLflow installed here."""

    code = "tracking.version"


class TrackingForeign(VisorError):
    """A file or database that is not MLflow's."""

    code = "tracking.foreign"


class TrackingUnsupported(VisorError):
    """A tracking address that MLflow does not take."""

    code = "tracking.address"


class TrackingDeleted(VisorError):
    """An experiment that was deleted, whose name nothing else can have."""

    code = "tracking.deleted"


class RemoteError(VisorError):
    """S3 says no for a reason of its own."""

    code = "remote.failed"


class RemoteInvalid(RemoteError):
    """An address or a key that cannot be used."""

    code = "remote.invalid"


class RemoteMissing(RemoteError):
    """No such bucket, or nothing in it."""

    code = "remote.missing"


class RemoteDenied(RemoteError):
    """Credentials that are missing, wrong or not enough."""

    code = "remote.denied"


class RemoteUnreachable(RemoteError):
    """No connection to the server."""

    code = "remote.unreachable"


class RemoteConflict(RemoteError):
    """Another file has the name already."""

    code = "remote.conflict"
