"""The errors of the commands; `handlers.errors` draws the root.

VisorError
├── ServeError            serve.failed: TorchServe could not start, or its worker could not load the archive
│   ├── ServerEnded       serve.ended: TorchServe ended while it served; its status or signal, and the kernel's reason where known
│   ├── MemoryShort       serve.memory: the memory limit is too little to start with
│   ├── JavaMissing       serve.java: there is no Java 17 to run TorchServe with
│   └── ArchiveMissing    archive.missing: nothing to serve lies where a pod's storage should have put it
├── ScoreError            score.failed: a batch scoring cannot begin or continue
├── ImageUnreadable       image.unreadable: a listed image file cannot be read; the error of its row
├── ImageChanged          image.changed: an image file's bytes do not have the manifest's digest; the error of its row
├── AuditError            audit.failed: labels and answers cannot be held against a promise
│   ├── AnswersUnreadable audit.answers: no answers of the archive where they should be
│   ├── LabelsUnreadable  audit.labels: a table of labels that cannot be read, lacks a column, or has no label of the archive
│   ├── LabelsSelected    audit.selection: labels came for images that were chosen by their decision
│   └── PromiseMissing    audit.promise: an archive that makes no promise on missed images
├── OutputRefused         output.refused: writing would replace what is no output, or put files among images
├── NoHeatMap             answer.heatmap: an answer without a heat map is to be drawn
├── ClientError           client.failed: a server does not answer, or answers with an error
│   └── AnswerInvalid     client.answer: what answers does not speak V2
├── DriftError            drift.failed: a window of images cannot be compared with an archive
│   ├── ReferenceMissing  drift.reference: the archive has nothing to compare with
│   └── WindowTooSmall    drift.images: there are too few images to say anything
└── DemoError             demo.failed: a step of the demo failed
"""

from handlers.errors import VisorError


class ServeError(VisorError):
    """TorchServe could not start, or its worker could not load the archive."""

    code = "serve.failed"


class ServerEnded(ServeError):
    """TorchServe ended by itself, or something ended it."""

    code = "serve.ended"


class MemoryShort(ServeError):
    """The memory limit is too little to start with."""

    code = "serve.memory"


class JavaMissing(ServeError):
    """There is no Java 17 to run TorchServe with."""

    code = "serve.java"


class ArchiveMissing(ServeError):
    """Nothing to serve lies where a pod's storage should have put it."""

    code = "archive.missing"


class ScoreError(VisorError):
    """A batch scoring cannot begin or continue."""

    code = "score.failed"


class ImageUnreadable(VisorError):
    """An image file that is listed cannot be read."""

    code = "image.unreadable"


class ImageChanged(VisorError):
    """An image file's bytes do not have the digest in the manifest."""

    code = "image.changed"


class AuditError(VisorError):
    """Labels and answers cannot be held against a promise."""

    code = "audit.failed"


class AnswersUnreadable(AuditError):
    """There are no answers of the archive where they should be."""

    code = "audit.answers"


class LabelsUnreadable(AuditError):
    """A table of labels cannot be read, lacks a column, or has no label of the archive."""

    code = "audit.labels"


class LabelsSelected(AuditError):
    """Labels came for images that were chosen by their decision."""

    code = "audit.selection"


class PromiseMissing(AuditError):
    """The archive makes no promise on missed images."""

    code = "audit.promise"


class OutputRefused(VisorError):
    """Writing would replace what is no output, or put files among images."""

    code = "output.refused"


class NoHeatMap(VisorError):
    """An answer has no heat map, as none was asked for."""

    code = "answer.heatmap"


class ClientError(VisorError):
    """A server does not answer, or answers with an error."""

    code = "client.failed"


class AnswerInvalid(ClientError):
    """A server's answer is not of the form that V2 gives it."""

    code = "client.answer"


class DriftError(VisorError):
    """A window of images cannot be compared with an archive."""

    code = "drift.failed"


class ReferenceMissing(DriftError):
    """The archive was built before its images' figures were counted, or with figures of another rule."""

    code = "drift.reference"


class WindowTooSmall(DriftError):
    """There are too few images to say anything about."""

    code = "drift.images"


class DemoError(VisorError):
    """A step of the demo failed."""

    code = "demo.failed"
