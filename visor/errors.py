"""The errors of the commands; `handlers.errors` draws the root.

VisorError
├── ServeError            serve.failed: TorchServe ended or its worker could not load the archive
│   ├── JavaMissing       serve.java: no Java 17 to run TorchServe with
│   ├── ArchiveMissing    archive.missing: nothing to serve lies where a pod's storage should have put it
│   └── ArchiveAmbiguous  archive.ambiguous: more than one archive lies there
├── ScoreError            score.failed: a scoring that cannot begin or go on
├── ImageUnreadable       image.unreadable: a file that is listed and cannot be read; a row's error
├── ImageChanged          image.changed: a file whose bytes are not the manifest's; a row's error
├── ClientError           client.failed: a server that does not answer, or answers with an error
└── DemoError             demo.failed: a step of the demo
"""

from handlers.errors import VisorError


class ServeError(VisorError):
    """TorchServe ended or its worker could not load the archive."""

    code = "serve.failed"


class JavaMissing(ServeError):
    """No Java 17 to run TorchServe with."""

    code = "serve.java"


class ArchiveMissing(ServeError):
    """Nothing to serve lies where a pod's storage should have put it."""

    code = "archive.missing"


class ArchiveAmbiguous(ServeError):
    """More than one archive lies where a pod's storage puts the one to serve."""

    code = "archive.ambiguous"


class ScoreError(VisorError):
    """A scoring that cannot begin or go on."""

    code = "score.failed"


class ImageUnreadable(VisorError):
    """A file that is listed and cannot be read."""

    code = "image.unreadable"


class ImageChanged(VisorError):
    """A file whose bytes are not those that its manifest names."""

    code = "image.changed"


class ClientError(VisorError):
    """A server that does not answer, or answers with an error."""

    code = "client.failed"


class DemoError(VisorError):
    """A step of the demo."""

    code = "demo.failed"
