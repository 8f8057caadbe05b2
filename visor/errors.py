"""The errors of the commands; `handlers.errors` draws the root.

VisorError
├── ServeError          serve.failed: TorchServe ended or its worker could not load the archive
│   ├── JavaMissing     serve.java: no Java 17 to run TorchServe with
│   └── PortTaken       serve.port: another process listens there
├── ClientError         client.failed: a server that does not answer, or answers with an error
└── DemoError           demo.failed: a step of the demo
"""

from handlers.errors import VisorError


class ServeError(VisorError):
    """TorchServe ended or its worker could not load the archive."""

    code = "serve.failed"


class JavaMissing(ServeError):
    """No Java 17 to run TorchServe with."""

    code = "serve.java"


class ClientError(VisorError):
    """A server that does not answer, or answers with an error."""

    code = "client.failed"


class DemoError(VisorError):
    """A step of the demo."""

    code = "demo.failed"
