"""Ask a V2 server, or an archive directly, about images, for `visor predict`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image, ImageOps

from archives.opening import opened
from handlers.arrays import Float32
from handlers.backends import load_backend
from handlers.errors import VisorError
from handlers.predictor import Item, predict
from training.evaluation.saliency import overlay
from visor.errors import ClientError

# The edge spreads a request's images over its workers; more of them in one request only make it larger.
CHUNK = 8
# An overlay's longer side: a thumbnail is enlarged until the map on it can be seen, a 12-megapixel photo made handy.
SMALLEST_OVERLAY, LARGEST_OVERLAY = 256, 1024
TIMEOUT_S = 60.0


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
    gRPC as metadata; `host`, in small letters like all of them, names the server to a gateway that serves several.
    """

    threshold: float | None = None
    overlays: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def ask_server(url: str, model: str | None, images: Sequence[Path], request: Request) -> Iterator[Prediction]:
    """Ask a V2 server over REST (http://, https://) or gRPC (grpc://). Raises ClientError when it cannot be asked."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "grpc") or not parts.hostname:
        raise ClientError(f"--url {url!r} is not http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT")
    from tritonclient.utils import InferenceServerException

    try:
        client, inputs, outputs = _connect(parts.scheme, parts.netloc, request.headers)
        model = model or _only_model(client)
        for start in range(0, len(images), CHUNK):
            yield from _ask(client, inputs, outputs, model, images[start : start + CHUNK], request)
    except InferenceServerException as err:
        raise ClientError(f"{url}: {err.message()}") from err
    except OSError as err:
        raise ClientError(f"{url} does not answer: {err}; is `visor serve` running?") from err


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


def _connect(scheme: str, netloc: str, headers: Mapping[str, str]) -> tuple[Any, Any, Any]:
    if scheme == "grpc":
        from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

        # gRPC's Host is the channel's authority. These options replace tritonclient's own: sizes without a limit, as there.
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        authority = [("grpc.default_authority", headers["host"])] if "host" in headers else []
        client = InferenceServerClient(netloc, channel_args=options + authority)
        headers = {name: value for name, value in headers.items() if name != "host"}
    else:
        from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

        client = InferenceServerClient(netloc, ssl=scheme == "https", connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S)

    def add_headers(call: Any) -> None:
        call.headers = {**(call.headers or {}), **headers}

    client.register_plugin(add_headers)
    return client, InferInput, InferRequestedOutput


def _only_model(client: Any) -> str:
    index = client.get_model_repository_index()
    names = [model.name for model in index.models] if hasattr(index, "models") else [model["name"] for model in index]
    if len(names) != 1:
        raise ClientError(f"the server has {len(names)} models ({', '.join(names)}); name one with --model")
    return str(names[0])


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
        result = client.infer(model, [tensor], outputs=[make_output(name) for name in names], parameters=parameters)
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
    facts = _parameters(result.get_response())
    arrays = {name: result.as_numpy(name) for name in names}
    for n, image in enumerate(images):
        text = {name: arrays[name][n].decode() for name in ("label", "decision", "error")}
        heatmap = arrays["heatmap"][n] if request.overlays and not text["error"] else None
        yield Prediction(
            image=str(image),
            confidence=float(arrays["confidence"][n]),
            threshold=facts.get("threshold"),
            archive_digest=str(facts.get("archive_digest", "")),
            model_version=str(facts.get("model_version", "")),
            overlay=_draw(image, heatmap, request.overlays),
            **text,
        )


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
