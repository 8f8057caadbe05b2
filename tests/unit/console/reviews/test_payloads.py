"""KServe's payload logger: events of either mode are paired by their id, whichever half comes first, within bounds."""

import base64
from dataclasses import replace

import numpy as np
import orjson
import pytest

from console.reviews.errors import EventUnreadable
from console.reviews.payloads import MOST_PICTURES, REQUEST, RESPONSE, Event, Pairs, answers, read_event, read_pair
from console.servers.models import Model

MODEL = Model(name="roofs", version="3", labels=("damaged", "intact"), positive=("damaged",), digest="a" * 64)
PARAMETERS = {
    "archive_digest": "a" * 64, "model_version": "3", "threshold": 0.2, "threshold_overridden": False,
    "positive": '["damaged"]', "review_from": 0.1, "review_to": 0.6, "track": "stable",
}  # fmt: skip


def request_of(*pictures: bytes) -> bytes:
    data = [base64.b64encode(one).decode() for one in pictures]
    return orjson.dumps({"id": "7", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data}]})


def response_of(*scores: float, errors: dict[int, str] | None = None) -> bytes:
    """What the edge answers about pictures of these scores."""
    n, errors = len(scores), errors or {}
    decisions = ["flag" if score >= 0.6 else "review" if score >= 0.1 else "pass" for score in scores]
    columns = {
        "label": ("BYTES", [n], ["damaged" if score > 0.5 else "intact" for score in scores]),
        "confidence": ("FP32", [n], [max(score, 1 - score) for score in scores]),
        "probabilities": ("FP32", [n, 2], [part for score in scores for part in (score, 1 - score)]),
        "decision": ("BYTES", [n], ["" if k in errors else one for k, one in enumerate(decisions)]),
        "score": ("FP32", [n], list(scores)),
        "error": ("BYTES", [n], [errors.get(k, "") for k in range(n)]),
    }
    outputs = [{"name": name, "datatype": kind, "shape": shape, "data": data} for name, (kind, shape, data) in columns.items()]
    return orjson.dumps({"model_name": "roofs", "model_version": "3", "parameters": PARAMETERS, "outputs": outputs})


def test_both_modes_of_an_event_are_read() -> None:
    binary = read_event({"ce-id": "1", "ce-type": REQUEST, "content-type": "application/json"}, b'{"inputs": []}')
    assert binary == Event("1", "request", b'{"inputs": []}')
    structured = {"specversion": "1.0", "id": "1", "type": RESPONSE, "source": "x", "data": {"outputs": []}}
    headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
    assert read_event(headers, orjson.dumps(structured)) == Event("1", "response", b'{"outputs":[]}')
    coded = {"id": "1", "type": REQUEST, "data_base64": base64.b64encode(b"\xff\xd8").decode()}
    assert read_event(headers, orjson.dumps(coded)) == Event("1", "request", b"\xff\xd8")
    assert read_event({"ce-id": "1", "ce-type": "org.kubeflow.serving.inference.outlier"}, b"{}") is None


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"{}"),
        ({"ce-id": "1"}, b"{}"),
        ({"ce-id": "x" * 201, "ce-type": REQUEST}, b"{}"),
        ({"content-type": "application/cloudevents+json"}, b"[]"),
        ({"content-type": "application/cloudevents+json"}, b"{"),
        ({"content-type": "application/cloudevents+json"}, b'{"id": "1", "type": "x"}'),
        ({"content-type": "application/cloudevents+json"}, b'{"id": "1", "type": "x", "data_base64": "%"}'),
    ],
)
def test_what_is_no_event_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(EventUnreadable):
        read_event(headers, body)


@pytest.mark.parametrize("first", ["request", "response"])
def test_halves_are_paired_whichever_comes_first(first: str) -> None:
    pairs, second = Pairs(1), {"request": "response", "response": "request"}[first]
    assert pairs.pair(Event("1", first, first.encode())) is None
    assert pairs.pair(Event("2", second, b"another's")) is None
    assert pairs.pair(Event("1", first, b"sent twice")) is None
    assert pairs.pair(Event("1", second, second.encode())) == (b"request", b"response")
    assert pairs.pair(Event("1", second, second.encode())) is None


def test_halves_that_wait_are_bounded_in_bytes_and_time() -> None:
    pairs = Pairs(1)
    for n in range(5):
        pairs.pair(Event(str(n), "request", b"x" * 300_000), now=0)
    assert pairs.lost == 2
    assert pairs.pair(Event("4", "response", b""), now=1) is not None
    assert pairs.pair(Event("0", "response", b""), now=1) is None  # its request gave way
    pairs.pair(Event("9", "request", b""), now=121)
    assert pairs.lost == 5
    assert pairs.pair(Event("2", "response", b""), now=121) is None


def test_each_picture_of_a_request_gets_its_own_answer() -> None:
    told = read_pair(request_of(b"one", b"two", b"three"), response_of(0.05, 0.3, 0.0, errors={2: "image.undecodable"}))
    assert told.pictures == (b"one", b"two", b"three")
    one, two, three = answers(told, MODEL)
    assert (one.decision, one.label, one.score, one.threshold) == ("pass", "intact", pytest.approx(0.05), 0.2)
    assert two.probabilities == {"damaged": pytest.approx(0.3), "intact": pytest.approx(0.7)}
    assert (two.decision, two.digest, two.positive) == ("review", "a" * 64, ("damaged",))
    assert (three.error.code, three.decision) == ("image.undecodable", "")


def test_a_picture_as_it_is_is_read_too() -> None:
    assert read_pair(b"\xff\xd8\xff a JPEG", response_of(0.3)).pictures == (b"\xff\xd8\xff a JPEG",)


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (b"{}", response_of(0.3)),
        (request_of(b"one"), b"{}"),
        (request_of(b"one"), b"not JSON"),
        (request_of(b"one", b"two"), response_of(0.3)),
        (b'{"inputs": [{"name": "image", "data": ["%%%"]}]}', response_of(0.3)),
        (b'{"inputs": [{"name": "pixels", "data": [1]}]}', response_of(0.3)),
        (b'{"inputs": 3}', response_of(0.3)),
    ],
)
def test_what_is_no_request_of_pictures_is_told(request_: bytes, response: bytes) -> None:
    with pytest.raises(EventUnreadable):
        read_pair(request_, response)


def test_an_answer_of_other_labels_is_refused() -> None:
    told = read_pair(request_of(b"one"), response_of(0.3))
    with pytest.raises(EventUnreadable):
        answers(told, MODEL.model_copy(update={"labels": ("a", "b", "c")}))
    assert np.allclose(list(answers(told, MODEL)[0].probabilities.values()), [0.3, 0.7])


def test_a_request_of_too_many_pictures_is_not_read() -> None:
    most = read_pair(request_of(*[b""] * MOST_PICTURES), response_of(*[0.3] * MOST_PICTURES))
    assert len(most.pictures) == MOST_PICTURES
    with pytest.raises(EventUnreadable):
        read_pair(request_of(*[b""] * (MOST_PICTURES + 1)), response_of(*[0.3] * (MOST_PICTURES + 1)))


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 7},
        {"review_from": -0.1},
        {"model_version": "x" * 41},
        {"archive_digest": "a" * 65},
        {"track": "a\0"},
    ],
)
def test_an_answer_that_no_server_gives_is_refused(changes: dict[str, object]) -> None:
    told = read_pair(request_of(b"x"), response_of(0.3))
    with pytest.raises(EventUnreadable):
        answers(replace(told, facts={**told.facts, **changes}), MODEL)


@pytest.mark.parametrize("score", [1e39, -0.5, 1.5])
def test_a_score_that_is_none_is_refused(score: float) -> None:
    with pytest.raises(EventUnreadable):
        answers(read_pair(request_of(b"x"), response_of(score)), MODEL)
