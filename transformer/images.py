"""A request's input tensors become single images; a request brings `image`, which metadata lists, or `pixels` in its place."""

from dataclasses import dataclass

from handlers.errors import ImageEmpty, ImageTooLarge, VisorError
from handlers.spec import Limits
from transformer.errors import DatatypeInvalid, InputInvalid, RequestTooLarge, ShapeInvalid, show
from transformer.tensors import BYTES, Buffer, InputTensor, read_bytes, read_uint8

CHANNELS = 3


@dataclass(frozen=True)
class Picture:
    """One image. `body`: an encoded image, or where `size` (height, width) is given its RGB pixels, row by row."""

    body: Buffer
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Input:
    """An input as metadata declares it; -1 is any side."""

    name: str
    datatype: str
    shape: tuple[int, ...]


IMAGE = Input("image", BYTES, (-1,))
PIXELS = Input("pixels", "UINT8", (-1, -1, -1, CHANNELS))
INPUTS = {IMAGE.name: IMAGE, PIXELS.name: PIXELS}


def read_images(inputs: tuple[InputTensor, ...], limits: Limits, max_images: int) -> list[Picture | VisorError]:
    """Read the images of a request, in order; an image that cannot be sent on is replaced by its error.

    Raises InputInvalid, DatatypeInvalid, ShapeInvalid, BinaryInvalid, RequestTooLarge where the request cannot be read.
    """
    tensor = _only(inputs)
    declared = INPUTS[tensor.name]
    if tensor.datatype != declared.datatype:
        raise DatatypeInvalid(f"input {tensor.name} has datatype {show(tensor.datatype)}, it must be {declared.datatype}")
    _check_rank(tensor)
    if tensor.shape[0] > max_images:
        raise RequestTooLarge(f"{show(tensor.shape[0])} images in one request, at most {max_images}; send several requests")
    if declared is IMAGE:
        return [element if isinstance(element, VisorError) else _encoded(element, limits) for element in read_bytes(tensor)]
    height, width = tensor.shape[1:3]
    return [_pixels(image.ravel().data, (height, width), limits) for image in read_uint8(tensor)]


def _only(inputs: tuple[InputTensor, ...]) -> InputTensor:
    if len(inputs) == 1 and inputs[0].name in INPUTS:
        return inputs[0]
    names = [tensor.name for tensor in inputs]
    if unknown := [name for name in names if name not in INPUTS]:
        raise InputInvalid(f"the model has no input {show(unknown[0])}; it has {' and '.join(INPUTS)}")
    raise InputInvalid(f"a request brings one input, {' or '.join(INPUTS)}; got {show(names)}")


def _check_rank(tensor: InputTensor) -> None:
    shape = tensor.shape
    if tensor.name == IMAGE.name:
        if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
            raise ShapeInvalid(f"input image must have shape [N] or [N, 1], got {show(list(shape))}")
    elif len(shape) != len(PIXELS.shape) or shape[-1] != CHANNELS:
        raise ShapeInvalid(f"input pixels must have shape [N, height, width, {CHANNELS}], got {show(list(shape))}")
    if shape[0] == 0:
        raise ShapeInvalid(f"input {tensor.name} has no image, shape {show(list(shape))}; send at least one")


def _encoded(body: Buffer, limits: Limits) -> Picture | VisorError:
    # The handler would say the same, after the bytes have travelled to it.
    if len(body) == 0:
        return ImageEmpty("the image has 0 bytes; send an encoded picture, such as a JPEG")
    if len(body) > limits.max_bytes:
        return ImageTooLarge(f"the image has {len(body)} bytes, more than the limit of {limits.max_bytes}; send a smaller one")
    return Picture(body)


def _pixels(body: Buffer, size: tuple[int, int], limits: Limits) -> Picture | VisorError:
    height, width = size
    if height * width == 0:
        return ImageEmpty(f"the image has {height} x {width} pixels")
    if height * width > limits.max_pixels:
        return ImageTooLarge(f"the image is {width} x {height}, more than the limit of {limits.max_pixels} pixels")
    return Picture(body, size)
