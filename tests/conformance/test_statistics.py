"""The statistics extension: counts that rise by what was asked, and durations."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from tritonclient.grpc import service_pb2 as messages

from tests.conformance.rest import read_answer, read_error, read_object, request_fields
from tests.conformance.rpc import TIMEOUT_S, check_refused, infer_request
from tests.conformance.subject import UNKNOWN, Subject

CITES = "extension_statistics.md"
pytestmark = [pytest.mark.group("Statistics"), pytest.mark.extension("statistics", CITES)]

REQUESTS = 5
SETTLE_S = 5.0
Counts = TypeVar("Counts")
DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit")


def _stats(subject: Subject, path: str | None = None) -> dict[str, Any]:
    """The model's entry; a model with several versions has several, and the one asked for is meant."""
    fields = read_object(subject.http.get(path or f"{subject.model_path}/stats"))
    entries = [entry for entry in fields["model_stats"] if entry["name"] == subject.options.model]
    return next(entry for entry in entries if subject.version in ("", entry.get("version", "")))


def _infer(subject: Subject) -> None:
    read_answer(subject.infer(request_fields(subject.sample(0))))


def _settled(ask: Callable[[], Counts], wanted: Callable[[Counts], bool]) -> Counts:
    """What is told once it is as wanted, or else SETTLE_S later: no sentence says that a count is there with its answer."""
    deadline = time.monotonic() + SETTLE_S
    while not wanted(told := ask()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return told


def _successes(stats: dict[str, Any]) -> int:
    return int(stats["inference_stats"]["success"]["count"])


def _settle(ask: Callable[[], Counts]) -> Counts:
    """What is told twice alike, 0.1 s apart: what earlier checks have asked is counted by then."""
    told, again = None, ask()
    while told != again:
        told = again
        time.sleep(0.1)
        again = ask()
    return again


def _quiet(subject: Subject) -> dict[str, Any]:
    return _settle(lambda: _stats(subject))


@pytest.mark.over("rest")
@pytest.mark.parametrize("path", ["/v2/models/stats", "/v2/models/{model}/stats", "/v2/models/{model}/versions/{version}/stats"])
def test_the_model_has_an_entry_in_the_documents_form(subject: Subject, path: str) -> None:
    _infer(subject)
    if not subject.version:
        path = path.replace("/versions/{version}", "")
    stats = _stats(subject, path.format(model=subject.options.model, version=subject.version))
    assert all(type(stats[key]) is int for key in ("last_inference", "inference_count", "execution_count"))
    for name in DURATIONS:
        assert {key: type(stats["inference_stats"][name][key]) for key in ("count", "ns")} == {"count": int, "ns": int}
    assert isinstance(stats["response_stats"], dict)
    assert isinstance(stats["memory_usage"], list)
    for entry in stats["batch_stats"]:
        assert entry["batch_size"] >= 1
        assert all(type(entry[name]["count"]) is int for name in ("compute_input", "compute_infer", "compute_output"))


@pytest.mark.over("rest")
def test_counts_rise_by_the_requests_that_were_answered(subject: Subject) -> None:
    before = _quiet(subject)
    for _ in range(REQUESTS):
        _infer(subject)
    after = _settled(lambda: _stats(subject), lambda stats: _successes(stats) - _successes(before) >= REQUESTS)
    assert _successes(after) - _successes(before) == REQUESTS
    assert after["inference_count"] - before["inference_count"] == REQUESTS
    assert 1 <= after["execution_count"] - before["execution_count"] <= REQUESTS
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]


@pytest.mark.over("rest")
def test_each_inference_of_a_batch_counts(subject: Subject) -> None:
    size = 3 if subject.claims("batch") else 1
    tensors = subject.batch(size) if size > 1 else subject.sample(0)
    before = _quiet(subject)
    read_answer(subject.infer(request_fields(tensors)))
    after = _settled(lambda: _stats(subject), lambda stats: _successes(stats) > _successes(before))
    # Where the model's configuration says that it does not batch, a request may be one inference whatever its shape.
    assert after["inference_count"] - before["inference_count"] in ({size} if subject.batches else {1, size})
    assert _successes(after) - _successes(before) == 1


@pytest.mark.over("rest")
def test_the_last_inference_is_told_in_milliseconds_since_the_epoch(subject: Subject) -> None:
    start = time.time() * 1000
    _infer(subject)
    # A clock of another machine may differ; seconds or nanoseconds differ by a factor of a thousand.
    assert abs(_stats(subject)["last_inference"] - start) < 3_600_000


@pytest.mark.over("rest")
def test_the_parts_are_no_longer_than_the_whole(subject: Subject) -> None:
    stats = _stats(subject)["inference_stats"]
    assert stats["compute_infer"]["ns"] <= stats["success"]["ns"] + stats["fail"]["ns"]


@pytest.mark.over("rest")
def test_an_unknown_model_is_refused(subject: Subject) -> None:
    read_error(subject.http.get(f"/v2/models/{UNKNOWN}/stats"))


@pytest.mark.over("rest", "grpc")
def test_grpc_says_what_rest_says(subject: Subject) -> None:
    _infer(subject)
    stats = _quiet(subject)
    request = messages.ModelStatisticsRequest(name=subject.options.model, version=subject.version)
    (answered,) = subject.stub.ModelStatistics(request, timeout=TIMEOUT_S).model_stats
    assert (answered.name, answered.version) == (stats["name"], stats.get("version", ""))
    for key in ("last_inference", "inference_count", "execution_count"):
        assert getattr(answered, key) == stats[key]
    for name in DURATIONS:
        duration = getattr(answered.inference_stats, name)
        assert {"count": duration.count, "ns": duration.ns} == stats["inference_stats"][name]


@pytest.mark.over("grpc")
def test_counts_rise_over_grpc(subject: Subject) -> None:
    def count() -> int:
        request = messages.ModelStatisticsRequest(name=subject.options.model)
        return sum(x.inference_stats.success.count for x in subject.stub.ModelStatistics(request, timeout=TIMEOUT_S).model_stats)

    before = _settle(count)
    for _ in range(REQUESTS):
        subject.stub.ModelInfer(infer_request(subject.options.model, subject.sample(0)), timeout=TIMEOUT_S)
    assert _settled(count, lambda told: told - before >= REQUESTS) - before == REQUESTS


@pytest.mark.over("grpc")
def test_an_unknown_model_is_refused_over_grpc(subject: Subject) -> None:
    check_refused(subject.stub.ModelStatistics, messages.ModelStatisticsRequest(name=UNKNOWN))
