"""The errors that an image or an archive can cause, each with a stable code and an HTTP status on its class.

    VisorError                     every error that visor raises on purpose
    ├── ImageError                 400, of one image: the other items of a request are answered all the same
    │   ├── ImageEmpty             image.empty
    │   ├── ImageTooLarge          image.too_large
    │   ├── ImageUnsupported       image.unsupported
    │   ├── ImageUndecodable       image.undecodable
    │   └── ImageUnanswerable      image.unanswerable
    ├── OptionError                request.parameter, 400
    │   └── GroupUnknown           request.group
    └── ArchiveBroken              archive.broken, 500: what the archive holds cannot be served

Other packages grow their own branches from `VisorError`; the place that answers a client maps `code` and `status` once.
"""

from typing import ClassVar, TypeVar

Error = TypeVar("Error", bound="VisorError")


class VisorError(Exception):
    """What went wrong, the value seen and what to do next; `code` is stable, the sentence is not."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __str__(self) -> str:
        return f"{self.code}: {super().__str__()}"


def without_traceback(err: Error) -> Error:
    """Take traceback and causes off an error that is to be kept: their frames hold the picture, and what it was decoded to."""
    err.__traceback__ = err.__cause__ = err.__context__ = None
    return err


class ImageError(VisorError):
    """One image cannot be answered."""

    code = "image"
    status = 400


class ImageEmpty(ImageError):
    """No bytes at all."""

    code = "image.empty"


class ImageTooLarge(ImageError):
    """More bytes, pixels or memory than the archive's limits; mostly refused from the header, before anything is decoded."""

    code = "image.too_large"


class ImageUnsupported(ImageError):
    """An image of a kind that is not read: another format, several frames, floating-point pixels, too many tags or parts."""

    code = "image.unsupported"


class ImageUndecodable(ImageError):
    """Not an image, or a damaged one."""

    code = "image.undecodable"


class ImageUnanswerable(ImageError):
    """An image for which the network computes no numbers (NaN or infinity), so that nothing can be decided about it."""

    code = "image.unanswerable"


class OptionError(VisorError):
    """A request's option has a value that it cannot have."""

    code = "request.parameter"
    status = 400


class GroupUnknown(OptionError):
    """A group of images for which the archive has no threshold."""

    code = "request.group"


class ArchiveBroken(VisorError):
    """The archive cannot be read, or its files are missing or contradict each other."""

    code = "archive.broken"


def unread(err: OSError) -> str:
    """Say of a file, behind its name, why it was not read: that it is not there, or what the system says."""
    return "is not there" if isinstance(err, FileNotFoundError) else f"cannot be read: {err.strerror or err}"


def undecoded(err: UnicodeDecodeError) -> str:
    """Say of a file that is to be text in UTF-8, behind its name, what it is: text in another encoding, or no text at all.

    Text has no NUL but in UTF-16, and of 20 bytes at most one is another control character.
    """
    content = err.object
    controls = sum(byte < 0x20 and byte not in b"\t\n\v\f\r" for byte in content)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or (0 not in content and 20 * controls <= len(content)):
        return "is not UTF-8; save it as UTF-8"
    return "holds bytes that are no text, as of a picture or an archive; name a file of text in UTF-8"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write how many there are, for a sentence: "1 file", "2 files". `many`: of more than one, by default `one` with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
