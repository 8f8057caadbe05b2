"""Ask a V2 server, or an archive directly, about images, for `visor predict`."""

import json
import ssl
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archives.opening import opened
from handlers import decision
from handlers.backends import load_backend
from handlers.errors import VisorError
from handlers.predictor import Answer, Item, predict
from handlers.spec import DECODING, WHOLE, DecodingRule, Limits, Spec
from visor.connection import Access, Address, connect
from visor.errors import AnswerInvalid, ClientError

if TYPE_CHECKING:
    from visor.drawing import HeatMap

# The edge spreads a request's images over its workers; more of them in one request only make it larger.
CHUNK = 8
# Of a picture that a server has answered: its limits were the server's.
ANSWERED = Limits(max_bytes=1 << 40, max_pixels=1 << 30)
REDIRECTS = ("301", "302", "307", "308")


@dataclass(frozen=True)
class Prediction:
    """Holds one image's answer, or its `error` (a stable code), beside which an archive's `on_error` may have a decision.

    `score` was compared with the rule: `threshold`, and the band from `review_from` up to `review_to`. `promise`: "held" or
    "overridden", "" of an archive without a bound. `prediction_set`: its labels, None of an archive without sets. `overlay`:
    path of the PNG that was written. Of a server older than these, they are None or "".
    """

    image: str
    label: str = ""
    confidence: float = 0.0
    score: float | None = None
    decision: str = ""
    threshold: float | None = None
    review_from: float | None = None
    review_to: float | None = None
    group: str = ""
    promise: str = ""
    prediction_set: tuple[str, ...] | None = None
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

    `threshold`: in place of the archive's. `group`: the archive's group of images whose threshold decides.
    `overlays`: the folder that heat maps are drawn into, or None for no heat maps. `headers`: sent along to a server, over
    gRPC as metadata; `host`, in small letters like all of them, names the server to a gateway that serves several. `access`:
    TLS and the token, for a server.
    """

    threshold: float | None = None
    group: str | None = None
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

    client, inputs = connect(address, request.access, request.headers)
    try:
        model = model or _only_model(client)
        for start in range(0, len(images), CHUNK):
            yield from _ask(client, inputs, model, images[start : start + CHUNK], request)
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
        spec = verified.spec
        backend = load_backend(folder, spec)
        rule = decision.rule_of(spec, request.threshold, request.group)
        decided = Prediction(
            image="",
            threshold=rule.threshold,
            review_from=rule.review_from,
            review_to=rule.review_to,
            group=request.group or "",
            promise=rule.promise or "",
            archive_digest=verified.digest,
            model_version=spec.version,
        )
        for image in images:
            data = _read(image)
            item = Item(data, request.overlays is not None, request.threshold, request.group)
            answer = predict([item], spec, backend)[0]
            if isinstance(answer, VisorError):
                yield Prediction(str(image), decision=spec.decision.on_error or "", error=answer.code)
                continue
            told = replace(
                decided,
                image=str(image),
                label=answer.label,
                confidence=answer.confidence,
                score=float(decision.scores(answer.probabilities[None], spec)[0]),
                decision=answer.decision,
                prediction_set=set_of(answer, spec),
            )
            if request.overlays is None or (heatmap := heatmap_of(answer)) is None:
                yield told
            else:
                yield _drawn(told, data, heatmap, request.overlays, spec.limits, spec.preprocessing.decoding)


def set_of(answer: Answer, spec: Spec) -> tuple[str, ...] | None:
    """Return the labels of an answer's prediction set, None in an archive without sets."""
    if spec.prediction_sets is None:
        return None
    [inside] = decision.prediction_sets(answer.probabilities[None], spec.prediction_sets)
    return tuple(label for label, holds in zip(spec.labels, inside, strict=True) if holds)


def heatmap_of(answer: Answer) -> "HeatMap | None":
    """Return an answer's heat map as it is drawn, None where none was asked for."""
    from visor.drawing import HeatMap  # imports matplotlib, which answers without heat maps do without

    if answer.heatmap is None:
        return None
    return HeatMap(answer.heatmap, answer.heatmap_label or "", answer.heatmap_box or WHOLE, answer.heatmap_peak)


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


def _ask(client: Any, make_input: Any, model: str, images: Sequence[Path], request: Request) -> Iterator[Prediction]:
    from tritonclient.utils import InferenceServerException

    contents = [_read(image) for image in images]
    tensor = make_input("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(contents, dtype=np.object_))
    parameters: dict[str, Any] = {"explain": request.overlays is not None}
    if request.threshold is not None:
        parameters["threshold"] = request.threshold
    if request.group is not None:
        parameters["group"] = request.group
    try:
        with _reading_answer():
            # No output is named, so that a server older than some of them answers with those that it has.
            result = client.infer(model, [tensor], parameters=parameters)
            labels = _labels(client, model) if result.as_numpy("prediction_set") is not None else ()
            answers = [_prediction(result, n, image, labels) for n, image in enumerate(images)]
            heatmaps = [_heatmap(result, n) for n in range(len(images))] if request.overlays else []
    except InferenceServerException as err:
        # Every image of this request is bad: the server says so as one error. Ask for each, so that each gets its own.
        code = (err.message() or "").split(":", 1)[0]
        if not code.startswith("image."):
            raise
        if len(images) == 1:
            yield Prediction(str(images[0]), error=code)
            return
        for image in images:
            yield from _ask(client, make_input, model, [image], request)
        return
    for n, answer in enumerate(answers):
        if request.overlays is None or answer.error:
            yield answer
        else:
            yield _drawn(answer, contents[n], heatmaps[n], request.overlays, ANSWERED)


def _prediction(result: Any, n: int, image: Path, labels: Sequence[str]) -> Prediction:
    """The n-th image's answer, but for its heat map."""
    facts = _parameters(result.get_response())
    text = {name: _text(result.as_numpy(name)[n]) for name in ("label", "decision", "error")}
    scores, sets = result.as_numpy("score"), result.as_numpy("prediction_set")
    return Prediction(
        image=str(image),
        confidence=float(result.as_numpy("confidence")[n]),
        score=None if scores is None or text["error"] else float(scores[n]),
        threshold=facts.get("threshold"),
        review_from=facts.get("review_from"),
        review_to=facts.get("review_to"),
        group=str(facts.get("group", "")),
        promise=str(facts.get("promise", "")),
        prediction_set=None if sets is None or text["error"] else tuple(labels[k] for k in np.flatnonzero(sets[n]).tolist()),
        archive_digest=str(facts.get("archive_digest", "")),
        model_version=str(facts.get("model_version", "")),
        **text,
    )


def _heatmap(result: Any, n: int) -> "HeatMap":
    """The n-th image's heat map, of which an older server says neither box nor peak."""
    from visor.drawing import HeatMap

    boxes, peaks = result.as_numpy("heatmap_box"), result.as_numpy("heatmap_peak")
    left, top, width, height = WHOLE if boxes is None else (float(share) for share in boxes[n])
    return HeatMap(
        values=result.as_numpy("heatmap")[n],
        label=_text(result.as_numpy("heatmap_label")[n]),
        box=(left, top, width, height),
        peak=None if peaks is None else float(peaks[n]),
    )


def _labels(client: Any, model: str) -> list[str]:
    """The model's labels in their order, which both protocols have in its configuration alone."""
    config = client.get_model_config(model)
    if isinstance(config, dict):
        said = config["parameters"]["labels"]["string_value"]
    else:
        said = config.config.parameters["labels"].string_value
    labels: list[str] = json.loads(said)
    return labels


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


def _drawn(
    told: Prediction, data: bytes, heatmap: "HeatMap", folder: Path, limits: Limits, rule: DecodingRule = DECODING
) -> Prediction:
    """Draw a picture's heat map into the folder, and name the file in its prediction."""
    from visor.drawing import draw, place

    path = place(folder, Path(told.image))
    draw(data, heatmap, f"{told.label} {told.confidence:.3f}  {told.decision}", path, limits, rule)
    return replace(told, overlay=str(path))
