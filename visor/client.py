"""Ask a V2 server, or an archive directly, about images, for `visor predict`."""

import json
import ssl
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from archives.opening import opened
from handlers.arrays import Float32
from handlers.backends import load_backend
from handlers.errors import VisorError
from handlers.predictor import Item, predict
from training.evaluation.saliency import overlay
from visor.connection import Access, Address, connect
from visor.errors import AnswerInvalid, ClientError

# The edge spreads a request's images over its workers; more of them in one request only make it larger.
CHUNK = 8
# An overlay's longer side: a thumbnail is enlarged until the map on it can be seen, a 12-megapixel photo made handy.
SMALLEST_OVERLAY, LARGEST_OVERLAY = 256, 1024
REDIRECTS = ("301", "302", "307", "308")


@dataclass(frozen=True)
class Prediction:
    """Holds one image's answer, or its `error` (a stable code); `overlay` is the path of the PNG that was written."""

    image: str
    label: str = ""
    confidence: float = 0.0
    decision: str = ""
    threshold: float | None = None
    archive_digest: str = ""
    model_version: str = ""
    error: str = ""
    overlay: str | None = None

    def to_json(self) -> str:
        """Write the prediction as one line of JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Request:
    """Says what is asked about every image.

    `overlays`: the folder that heat maps are drawn into, or None for no heat maps. `headers`: sent along to a server, over
    gRPC as metadata; `host`, in small letters like all of them, names the server to a gateway that serves several. `access`:
    TLS and the token, for a server.
    """

    threshold: float | None = None
    overlays: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    access: Access = field(default_factory=Access)


def ask_server(url: str, model: str | None, images: Sequence[Path], request: Request) -> Iterator[Prediction]:
    """Ask a V2 server over REST (http, https) or gRPC (grpc, grpcs). Raises ClientError when it cannot be asked.

    Raises AnswerInvalid when what answers does not speak V2.
    """
    address = Address.parse(url)
    request.access.check(address, request.headers)
    from geventhttpclient.response import HTTPParseError
    from tritonclient.utils import InferenceServerException

    client, inputs, outputs = connect(address, request.access, request.headers)
    try:
        model = model or _only_model(client)
        for start in range(0, len(images), CHUNK):
            yield from _ask(client, inputs, outputs, model, images[start : start + CHUNK], request)
    except InferenceServerException as err:
        if err.status() in REDIRECTS:
            raise ClientError(f"{url} redirects ({err.status()}); ask the address that it leads to, often https://") from err
        raise ClientError(f"{url}: {err.message()}") from err
    except ssl.SSLCertVerificationError as err:
        sentence = f"{url} has a certificate that is not trusted: {err.verify_message}; name its authority by --cacert"
        raise ClientError(sentence) from err
    except ssl.SSLError as err:
        sentence = f"{url}: TLS failed: {err}; the server may ask for a certificate (--cert), or speak no TLS (http://)"
        raise ClientError(sentence) from err
    except HTTPParseError as err:
        raise ClientError(f"{url} answered nothing that is HTTP: {err}") from err
    except OSError as err:
        raise ClientError(f"{url} does not answer: {err}; is `visor serve` running?") from err
    finally:
        client.close()


def ask_archive(
    archive: Path, public_key: Path, images: Sequence[Path], request: Request, digest: str | None = None
) -> Iterator[Prediction]:
    """Answer from an archive in this process, by the code that also serves it. Raises what `archives.opening.opened` raises."""
    with opened(archive, public_key, digest) as verified, verified.unpacked() as folder:
        backend = load_backend(folder, verified.spec)
        for image in images:
            data = _read(image)
            item = Item(data, explain=request.overlays is not None, threshold=request.threshold)
            answer = predict([item], verified.spec, backend)[0]
            if isinstance(answer, VisorError):
                yield Prediction(str(image), error=answer.code)
                continue
            yield Prediction(
                image=str(image),
                label=answer.label,
                confidence=answer.confidence,
                decision=answer.decision,
                threshold=answer.threshold,
                archive_digest=verified.digest,
                model_version=verified.spec.version,
                overlay=_draw(image, answer.heatmap, request.overlays),
            )


@contextmanager
def _reading_answer() -> Iterator[None]:
    """Raise AnswerInvalid for what a server's answer lacks, or has in another form than V2's."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, struct.error) as err:
        raise AnswerInvalid(
            f"what answers does not speak V2 ({type(err).__name__}: {err}); is it another server's address?"
        ) from err


def _only_model(client: Any) -> str:
    with _reading_answer():
        index = client.get_model_repository_index()
        names = [str(model.name) for model in index.models] if hasattr(index, "models") else [str(one["name"]) for one in index]
    if len(names) != 1:
        raise ClientError(f"the server has {len(names)} models ({', '.join(names)}); name one with --model")
    return names[0]


def _ask(
    client: Any, make_input: Any, make_output: Any, model: str, images: Sequence[Path], request: Request
) -> Iterator[Prediction]:
    from tritonclient.utils import InferenceServerException

    tensor = make_input("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array([_read(image) for image in images], dtype=np.object_))
    parameters: dict[str, Any] = {"explain": request.overlays is not None}
    if request.threshold is not None:
        parameters["threshold"] = request.threshold
    names = ["label", "confidence", "decision", "error", *(["heatmap"] if request.overlays else [])]
    try:
        with _reading_answer():
            result = client.infer(model, [tensor], outputs=[make_output(name) for name in names], parameters=parameters)
            answers = [_prediction(result, n, image) for n, image in enumerate(images)]
            heatmaps = result.as_numpy("heatmap") if request.overlays else None
    except InferenceServerException as err:
        # Every image of this request is bad: the server says so as one error. Ask for each, so that each gets its own.
        code = (err.message() or "").split(":", 1)[0]
        if not code.startswith("image."):
            raise
        if len(images) == 1:
            yield Prediction(str(images[0]), error=code)
            return
        for image in images:
            yield from _ask(client, make_input, make_output, model, [image], request)
        return
    for n, (image, answer) in enumerate(zip(images, answers, strict=True)):
        if heatmaps is None or answer.error:
            yield answer
        else:
            yield replace(answer, overlay=_draw(image, heatmaps[n], request.overlays))


def _prediction(result: Any, n: int, image: Path) -> Prediction:
    """The n-th image's answer, but for its heat map."""
    facts = _parameters(result.get_response())
    text = {name: _text(result.as_numpy(name)[n]) for name in ("label", "decision", "error")}
    return Prediction(
        image=str(image),
        confidence=float(result.as_numpy("confidence")[n]),
        threshold=facts.get("threshold"),
        archive_digest=str(facts.get("archive_digest", "")),
        model_version=str(facts.get("model_version", "")),
        **text,
    )


def _text(element: Any) -> str:
    """An element of a BYTES tensor as text, which tritonclient has as a str where it came in JSON."""
    return element if isinstance(element, str) else element.decode()


def _parameters(response: Any) -> dict[str, Any]:
    if isinstance(response, dict):
        return dict(response.get("parameters", {}))
    return {key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in response.parameters.items()}


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as err:
        raise ClientError(f"{image} cannot be read: {err.strerror}") from err


def _draw(image: Path, heatmap: Float32 | None, folder: Path | None) -> str | None:
    if heatmap is None or folder is None:
        return None
    path = folder / f"{image.resolve().parent.name}-{image.name}-heatmap.png"
    draw(image, heatmap, path)
    return str(path)


def draw(image: Path, heatmap: Float32, path: Path) -> None:
    """Write the image with its heat map over it as a PNG. heatmap: (h, w), in [0, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(image) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    side = min(max(max(picture.size), SMALLEST_OVERLAY), LARGEST_OVERLAY)
    ratio = side / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))))
    Image.fromarray(overlay(np.asarray(picture), heatmap)).save(path)
