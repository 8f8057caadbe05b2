"""What KServe's payload logger tells of traffic that passes the console by: CloudEvents of V2 requests and of their answers.

The logger (`spec.predictor.logger` of an InferenceService, or the transformer's) posts two events of one id, the request's body
and the answer's, in either order. The first one waits in memory for the other; pictures of requests that are never answered go
with it. Bodies are V2 JSON with pictures in base64, or a request's picture as it is.
"""

import base64
import binascii
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson

from console.errors import ServerFailed
from console.reviews.errors import EventUnreadable
from console.servers.models import Answer, Model
from console.servers.v2 import answer_from
from console.settings import MIB

REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
"""The types of KServe's events."""
STRUCTURED = "application/cloudevents+json"
"""The content type of an event that is one JSON object (structured mode); KServe's have their attributes in headers (binary)."""
PAIR_S = 120.0
"""How long one half waits for the other: longer than a server may take."""
MOST_PICTURES = 1000
"""Pictures of a request that are read: each takes kilobytes of memory, however small it is."""


@dataclass(frozen=True)
class Event:
    """One half of a request. `body`: as the client sent or got it."""

    id: str
    kind: Literal["request", "response"]
    body: bytes


@dataclass(frozen=True)
class Told:
    """A request with its answer: pictures, and for each the outputs by name. `facts`: the answer's parameters."""

    model: str
    pictures: tuple[bytes, ...]
    outputs: tuple[Mapping[str, Any], ...]
    facts: Mapping[str, Any]


def read_event(headers: Mapping[str, str], body: bytes) -> Event | None:
    """Read a CloudEvent of either mode; None for one of another type. Raises EventUnreadable."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() == STRUCTURED:
        try:
            event = orjson.loads(body)
            name, kind = event["id"], event["type"]
            coded = event.get("data_base64")
            data = orjson.dumps(event["data"]) if coded is None else base64.b64decode(coded, validate=True)
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise EventUnreadable("the body is no CloudEvent with id, type and data") from err
    else:
        name, kind, data = headers.get("ce-id"), headers.get("ce-type"), body
    if not isinstance(name, str) or not name or len(name) > 200 or not isinstance(kind, str):
        raise EventUnreadable("the request is no CloudEvent: its headers ce-id and ce-type are missing or too long")
    if kind not in (REQUEST, RESPONSE):
        return None
    return Event(name, "request" if kind == REQUEST else "response", data)


class Pairs:
    """Halves that wait for their other one: of `most_mib` MiB at most, the oldest of which give way, and for PAIR_S."""

    def __init__(self, most_mib: int) -> None:
        self._most_bytes = most_mib * MIB
        self._waiting: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._bytes = 0
        self.lost = 0
        """Halves that gave way, or that waited in vain."""

    def pair(self, event: Event, now: float | None = None) -> tuple[bytes, bytes] | None:
        """The bodies of request and answer, once both are there; else None."""
        now = time.monotonic() if now is None else now
        other = (event.id, "response" if event.kind == "request" else "request")
        if other in self._waiting:
            _, body = self._take(other)
            return (event.body, body) if event.kind == "request" else (body, event.body)
        if (event.id, event.kind) not in self._waiting:  # one that was sent twice waits once
            self._waiting[event.id, event.kind] = now, event.body
            self._bytes += len(event.body)
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._bytes <= self._most_bytes and self._waiting[oldest][0] > now - PAIR_S:
                break
            self._take(oldest)
            self.lost += 1
        return None

    def _take(self, key: tuple[str, str]) -> tuple[float, bytes]:
        taken = self._waiting.pop(key)
        self._bytes -= len(taken[1])
        return taken


def read_pair(request: bytes, response: bytes) -> Told:
    """Read a request and its answer. Raises EventUnreadable where either is none of V2 that has pictures in it."""
    try:
        answered = orjson.loads(response)
        outputs = {one["name"]: _rows(one) for one in answered["outputs"]}
        pictures = _pictures(request)
        rows = tuple({name: values[n] for name, values in outputs.items()} for n in range(len(pictures)))
        return Told(str(answered["model_name"]), pictures, rows, answered.get("parameters") or {})
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as err:
        raise EventUnreadable("the events are no V2 request of pictures with its answer in JSON") from err


def answers(told: Told, model: Model) -> list[Answer]:
    """The answers about a request's pictures. `model`: what its server says of it. Raises EventUnreadable."""
    try:
        return [_checked(answer_from(told.facts, outputs, model)) for outputs in told.outputs]
    except (ServerFailed, ValueError, KeyError, TypeError, AttributeError) as err:
        raise EventUnreadable(f"the answer is none of the model {model.name} that the console knows") from err


def _checked(answer: Answer) -> Answer:
    """The answer, if it has nothing that none has: a database would not take it, or an export be no JSON. Raises ValueError."""
    shares = (answer.confidence, answer.score, answer.threshold, answer.review_from, answer.review_to)
    if not all(0 <= share <= 1 for share in (*shares, *answer.probabilities.values()) if share is not None):
        raise ValueError("a share that is not between 0 and 1")
    texts = {answer.version: 40, answer.track: 40, answer.digest: 64, answer.label: 200}
    if any(len(text) > most or "\0" in text for text, most in texts.items()):
        raise ValueError("a text that is too long")
    return answer


def _rows(output: Mapping[str, Any]) -> Any:
    """An output's values, a row for each picture."""
    shape, values = output["shape"], output["data"]
    if output["datatype"] == "BYTES":
        return values
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
        return np.asarray(values, dtype=np.bool_ if output["datatype"] == "BOOL" else np.float32).reshape(shape)


def _pictures(request: bytes) -> tuple[bytes, ...]:
    """The pictures of a request: of its input `image` in base64, or the body itself where that is no JSON."""
    if request.lstrip()[:1] != b"{":
        return (request,)
    [image] = [one for one in orjson.loads(request)["inputs"] if one["name"] == "image"]
    data = image["data"]
    texts = [text for part in data for text in (part if isinstance(part, list) else [part])]
    if len(texts) > MOST_PICTURES:
        raise ValueError("too many pictures")
    try:
        return tuple(base64.b64decode(text, validate=True) for text in texts)
    except binascii.Error as err:
        raise ValueError("a picture is no base64") from err
