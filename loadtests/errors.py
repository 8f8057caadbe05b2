"""The errors of a load test itself, each with a stable code; what goes wrong in a request is a `Sample`'s failure instead.

LoadTestError
├── FlagsWrong           loadtest.flags: command-line options that are mistyped, out of bounds or contradict each other
├── DocumentInvalid      loadtest.document: a YAML file that cannot be read as what it should be
│   ├── SloInvalid       loadtest.slo
│   └── ShapeInvalid     loadtest.shape
├── PicturesMissing      loadtest.pictures: no folder of readable pictures
├── TargetUnready        loadtest.target: nothing ready at the address, or not one model to choose
├── ServerFailed         loadtest.server: the server that the test starts by itself did not start
└── ProgramMissing       loadtest.program: another program, or what it needs to run here, cannot be had

The tree has a root of its own: load tests speak to the wire only and import no other package of the project.
"""

from typing import ClassVar


class LoadTestError(Exception):
    """Says what went wrong, the value seen and what to do next; `code` is stable, the sentence is not."""

    code: ClassVar[str] = "loadtest"

    def __str__(self) -> str:
        return f"{self.code}: {super().__str__()}"


class FlagsWrong(LoadTestError):
    """The command line cannot be followed."""

    code = "loadtest.flags"


class DocumentInvalid(LoadTestError):
    """A YAML file is missing, no YAML, or breaks its schema; the sentence names each key."""

    code = "loadtest.document"


class SloInvalid(DocumentInvalid):
    """The SLO's file is missing or invalid."""

    code = "loadtest.slo"


class ShapeInvalid(DocumentInvalid):
    """A traffic shape's file is missing or invalid."""

    code = "loadtest.shape"


class PicturesMissing(LoadTestError):
    """There is nothing to send."""

    code = "loadtest.pictures"


class TargetUnready(LoadTestError):
    """There is no ready server to send to."""

    code = "loadtest.target"


class ServerFailed(LoadTestError):
    """A visor command failed; the message ends with its last output."""

    code = "loadtest.server"


class ProgramMissing(LoadTestError):
    """A load generator of others, or what it needs to run here, cannot be had."""

    code = "loadtest.program"
