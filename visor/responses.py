"""What a V2 server answers, as tritonclient has it from either protocol, made into visor's answers."""

import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from drawing.heatmap import HeatMap
from handlers import errors
from handlers.errors import ImageError
from handlers.spec import WHOLE
from visor.answers import Answer
from visor.errors import AnswerInvalid, ClientError

IMAGE_ERRORS = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ImageError)}


@contextmanager
def reading_answer() -> Iterator[None]:
    """Raise AnswerInvalid for what a server's answer lacks, or has in another form than V2's."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, struct.error) as err:
        raise AnswerInvalid(
            f"what answers does not speak V2 ({type(err).__name__}: {err}); is it another server's address?"
        ) from err


def only_model(client: Any) -> str:
    """The name of a server's only model. Raises ClientError where there are others, AnswerInvalid."""
    with reading_answer():
        index = client.get_model_repository_index()
        names = [str(model.name) for model in index.models] if hasattr(index, "models") else [str(one["name"]) for one in index]
    if len(names) != 1:
        raise ClientError(f"the server has {len(names)} models ({', '.join(names)}); name one with --model")
    return names[0]


def labels_of(client: Any, model: str) -> tuple[str, ...]:
    """The model's labels in their order, which both protocols have in its configuration alone."""
    config = client.get_model_config(model)
    if isinstance(config, dict):
        said = config["parameters"]["labels"]["string_value"]
    else:
        said = config.config.parameters["labels"].string_value
    return tuple(str(label) for label in json.loads(said))


def answer_of(result: Any, n: int, labels: Sequence[str], model: str) -> Answer:
    """The n-th picture's answer."""
    facts = _parameters(result.get_response())
    code, sentence = _element(result, "error", n), _element(result, "error_message", n)
    answer = Answer(
        decision=_element(result, "decision", n),  # type: ignore[arg-type]  # one of the protocol's
        threshold=facts.get("threshold"),
        review_from=facts.get("review_from"),
        review_to=facts.get("review_to"),
        group=str(facts.get("group", "")),
        promise=str(facts.get("promise", "")),
        digest=str(facts.get("archive_digest", "")),
        model=model,
        version=str(facts.get("model_version", "")),
    )
    if code:
        return replace(answer, error=image_error(sentence or f"{code}: ") or ClientError(sentence or code))
    scores, sets, probabilities = (result.as_numpy(name) for name in ("score", "prediction_set", "probabilities"))
    return replace(
        answer,
        label=_element(result, "label", n),
        confidence=float(result.as_numpy("confidence")[n]),
        probabilities={} if probabilities is None else dict(zip(labels, probabilities[n].tolist(), strict=True)),
        score=None if scores is None else float(scores[n]),
        prediction_set=None if sets is None else tuple(labels[k] for k in np.flatnonzero(sets[n]).tolist()),
        heatmap=None if result.as_numpy("heatmap") is None else _heatmap(result, n),
    )


def _heatmap(result: Any, n: int) -> HeatMap:
    """The n-th picture's heat map, of which an older server says neither box nor peak."""
    boxes, peaks = result.as_numpy("heatmap_box"), result.as_numpy("heatmap_peak")
    left, top, width, height = WHOLE if boxes is None else (float(share) for share in boxes[n])
    return HeatMap(
        values=result.as_numpy("heatmap")[n],
        label=_element(result, "heatmap_label", n),
        box=(left, top, width, height),
        peak=None if peaks is None else float(peaks[n]),
    )


def image_error(sentence: str) -> ImageError | None:
    """The error of a picture that a server's `CODE: sentence` tells; None for an error of another kind."""
    code, _, rest = sentence.partition(": ")
    kind = IMAGE_ERRORS.get(code)
    return kind(rest) if kind else None


def _element(result: Any, name: str, n: int) -> str:
    """An element of a BYTES tensor as text, which tritonclient has as a str where it came in JSON; "" without the tensor."""
    tensor = result.as_numpy(name)
    if tensor is None:
        return ""
    element = tensor[n]
    return element if isinstance(element, str) else str(element, "utf-8")


def _parameters(response: Any) -> dict[str, Any]:
    if isinstance(response, dict):
        return dict(response.get("parameters", {}))
    return {key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in response.parameters.items()}
