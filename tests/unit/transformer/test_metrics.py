"""What the edge counts: every metric as it is declared, promised bounds in buckets of their own, and a bound on the series."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from handlers.errors import ImageError, OptionError, VisorError
from loadtests.slo import load_slo
from tests.unit.specs import make_spec
from tests.unit.transformer.references import LARGEST, make_reference
from transformer import declared
from transformer.budget import Budget
from transformer.errors import kinds
from transformer.metrics import Metrics
from transformer.request_log import Record
from transformer.shadow_answers import Comparison
from transformer.upstream.image_answers import ImageAnswer

SPEC = make_spec(("intact", "damaged"), name="roofs", version="3", positive=("damaged",))
BINS = ([3, 1], [4], [0, 0, 4], [1, 1, 1, 1], [2, 2], [4, 0], [2, 1, 1])
"""A reference of four images and seven figures, which have two, one, three, four, two, two and three bins."""


def answer(label: str = "intact", decision: str = "pass", drift: tuple[int, ...] | None = None, **seconds: float) -> ImageAnswer:
    return ImageAnswer(
        label, 0.75, np.array([0.75, 0.25], np.float32), decision, np.zeros((1, 1), np.float32), "", seconds, drift=drift
    )


def inference(*results: ImageAnswer | VisorError, seconds: float = 0.01, error: VisorError | None = None) -> Record:
    return Record("rest", "/v2/models/roofs/infer", inference=True, results=results, seconds=seconds, error=error)


def samples(*metrics: Metrics) -> Counter[tuple[str, frozenset[tuple[str, str]]]]:
    """The sum of what some edges expose, as Prometheus reads it: name and labels → value."""
    total: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()
    for one in metrics:
        for family in text_string_to_metric_families(one.render().decode()):
            for sample in family.samples:
                total[sample.name, frozenset(sample.labels.items())] += sample.value
    return total


def by_bin(metrics: Metrics) -> dict[str, list[float]]:
    """Images by figure and bin."""
    found: dict[str, list[float]] = {}
    for (name, labels), value in sorted(samples(metrics).items(), key=lambda one: dict(one[0][1]).get("bin", "")):
        if name == "visor_drift_images_total":
            found.setdefault(dict(labels)["figure"], []).append(value)
    return found


def use_all(metrics: Metrics) -> None:
    """Have every series counted that there can be, and what a worker of another release could name."""
    ours = [kind("what") for kind in kinds(VisorError) if kind.__module__ in ("handlers.errors", "transformer.errors")]
    images = [error for error in ours if isinstance(error, ImageError | OptionError)]
    for protocol, error in itertools.product(("rest", "grpc"), (None, *ours)):
        record = replace(inference(error=error), protocol=protocol)
        metrics.end(record)
        metrics.count_error(record)
    for label, decision in itertools.product(SPEC.labels, ("pass", "flag", "review")):
        metrics.end(inference(answer(label, decision, (0,) * len(metrics.bins)), *images))
    stages = {"decode": 0.1, "infer": 0.1, "decide": 0.1, "explain": 0.1, "x": 0.1, "y": 0.1}
    metrics.end(replace(inference(), calls=[(answer(**stages), 0.1, 0.7)]))
    for hit in (True, False):
        metrics.count_lookup(hit=hit)
    metrics.shadow.compare(Comparison("agreed", 0.1, (1.0, 2.0)), 0.1, drawn=True)


def test_latencies_have_a_bucket_at_every_factor_and_at_each_promised_bound() -> None:
    slo = load_slo()
    promised_ms = (slo.latency_ms.p50, slo.latency_ms.p95, slo.latency_ms.p99, slo.overload.refused_p99_ms)
    for bounds, first in ((declared.SECONDS, 0.001), (declared.FINE_SECONDS, 0.0001)):
        assert {ms / 1000 for ms in promised_ms} <= set(bounds)
        assert (bounds[0], bounds[-1]) == (first, 10.0)
        grid = [0.001]
        while grid[-1] * 1.25 < 10:
            grid.append(grid[-1] * 1.25)
        for bound in grid:
            assert min(abs(one - bound) / bound for one in bounds) < 0.005, bound
        assert all(low < high < low * 1.26 for low, high in itertools.pairwise(bounds))


def test_what_keeps_a_promise_is_counted_exactly() -> None:
    metrics = Metrics(SPEC, "ab" * 32)
    for seconds in (0.2499, 0.25, 0.2501):
        metrics.end(inference(seconds=seconds))
    kept = ("visor_request_seconds_bucket", {"le": "0.25", "protocol": "rest", "code": "200", "model": "roofs", "version": "3"})
    assert samples(metrics)[kept[0], frozenset(kept[1].items())] == 2


def test_every_metric_is_exposed_as_it_is_declared_and_no_other() -> None:
    metrics = Metrics(SPEC, "ab" * 32, "stable", LARGEST)
    use_all(metrics)
    text = metrics.render().decode()
    families = {line.split()[2]: line.split(maxsplit=3)[3] for line in text.splitlines() if line.startswith("# HELP")}
    kinds_ = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    assert families == {one.name: one.about for one in declared.ALL}
    assert kinds_ == {one.name: one.kind.replace("info", "gauge") for one in declared.ALL}
    of = {one.name: one for one in declared.ALL}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            one = next(of[name] for name in (sample.name, sample.name.rpartition("_")[0]) if name in of)
            labels = {name: value for name, value in sample.labels.items() if (one.kind, name) != ("histogram", "le")}
            assert sorted(labels) == sorted(one.label_names)
            for label in one.labels:
                assert not isinstance(label.values, tuple) or labels[label.name] in label.values


def test_what_is_kept_between_scrapes_changes_nothing_of_what_is_read() -> None:
    """As prometheus_client itself writes it; a label's quotes, a backslash and whatever ends a line to Python too."""
    ends = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
    assert len(f"{ends}.".splitlines()) == len(ends) + 1
    labels = ('a "b"', "c\\d\ne", *(f"{end}f{end}g {end}" for end in ends))
    spec = make_spec(labels, name="roofs", version="3", positive=('a "b"',))
    metrics = Metrics(spec, "ab" * 32, reference=LARGEST)
    metrics.watch_ready(lambda: True)
    for _ in range(3):
        assert metrics.render() == generate_latest(metrics._registry)
        metrics.end(inference(*(answer(label, drift=(3,) * 19) for label in spec.labels), seconds=1e7))
        use_all(metrics)


def test_the_series_of_a_pod_have_the_bound_that_is_declared() -> None:
    """However many requests there were: two rounds of all that can be counted make as many series as one."""
    metrics = Metrics(SPEC, "ab" * 32, "stable", LARGEST)
    metrics.watch_ready(lambda: True)
    metrics.watch_queue([])
    metrics.watch_budget(Budget(1))
    for _ in range(2):
        use_all(metrics)
        names = [name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name, _ in samples(metrics)]
        found = Counter(names)
        assert found == {one.name: one.series(len(SPEC.labels)) for one in declared.ALL}
    assert found.total() < 3000


def drawn(metrics: Metrics) -> dict[str, float]:
    """One image of each request, by what became of it."""
    return {dict(key)["result"]: value for (name, key), value in samples(metrics).items() if name == "visor_drawn_images_total"}


def test_of_each_request_one_image_is_counted_from_zero_on() -> None:
    metrics = Metrics(SPEC, "ab" * 32)
    assert drawn(metrics) == {"pass": 0, "flag": 0, "review": 0, "rejected": 0}
    metrics.end(inference(*[answer(decision="flag")] * 16))
    metrics.end(inference(*[ImageError("what")] * 32, error=ImageError("what")))
    metrics.end(inference(answer(decision="review")))
    metrics.end(inference(error=VisorError("what")))  # without images
    assert drawn(metrics) == {"pass": 0, "flag": 1, "review": 1, "rejected": 1}


def test_each_image_of_a_request_may_be_the_one() -> None:
    """Of 4,000 requests with three passed images, wherever the flagged one is: 1,000 give or take five standard errors of 27."""
    metrics = Metrics(SPEC, "ab" * 32)
    for place in range(4000):
        images = [answer()] * 4
        images[place % 4] = answer(decision="flag")
        metrics.end(inference(*images))
    found = drawn(metrics)
    assert found["pass"] + found["flag"] == 4000
    assert found["flag"] == pytest.approx(1000, abs=137)


def test_images_are_counted_by_figure_and_bin_from_zero_on() -> None:
    metrics = Metrics(SPEC, "ab" * 32, reference=make_reference(BINS))
    names = ("score", "brightness", "contrast", "sharpness", "saturation", "width", "height")
    assert metrics.bins == (2, 1, 3, 4, 2, 2, 3)
    assert by_bin(metrics) == {name: [0] * bins for name, bins in zip(names, metrics.bins, strict=True)}
    first, second = (1, 0, 2, 3, 0, 1, 0), (0, 0, 2, 1, 1, 1, 2)
    metrics.end(inference(answer(drift=first), ImageError("what"), answer(drift=second)))
    metrics.end(inference(answer(drift=first)))
    assert by_bin(metrics) == dict(zip(names, ([1, 2], [3], [0, 0, 3], [0, 1, 0, 2], [2, 1], [0, 3], [2, 0, 1]), strict=True))


def test_what_prometheus_compares_them_with_is_the_reference() -> None:
    """Shares by hand: (count + 0.5) / (4 + 0.5 bins)."""
    found = {
        (name.removeprefix("visor_drift_"), *(dict(labels).get(one, "") for one in ("figure", "bin"))): value
        for (name, labels), value in samples(Metrics(SPEC, "ab" * 32, reference=make_reference(BINS, effect=0.25))).items()
    }
    assert found["reference_share", "score", "0"] == pytest.approx(3.5 / 5)
    assert found["reference_share", "score", "1"] == pytest.approx(1.5 / 5)
    assert found["reference_share", "brightness", "0"] == 1
    assert found["reference_share", "contrast", "0"] == pytest.approx(0.5 / 5.5)
    assert found["reference_share", "contrast", "2"] == pytest.approx(4.5 / 5.5)
    assert sum(value for (name, _, _), value in found.items() if name == "reference_share") == pytest.approx(7)
    assert (found["reference_images", "", ""], found["effect", "", ""]) == (4, 0.25)
    assert (found["limit_quantile", "score", ""], found["limit_quantile", "height", ""]) == (20, 26)


def test_an_archive_without_a_reference_has_no_drift_metrics() -> None:
    metrics = Metrics(SPEC, "ab" * 32)
    metrics.end(inference(answer()))
    assert metrics.bins == ()
    assert b"visor_drift" not in metrics.render()


def test_replicas_add_up() -> None:
    """Images told out to two edges in any way are counted as one edge counts them; gauges of the reference stay as they are."""
    rng = np.random.default_rng(1)
    alone, *pair = (Metrics(SPEC, "ab" * 32, reference=make_reference(BINS)) for _ in range(3))
    for _ in range(200):
        drift = tuple(int(rng.integers(bins)) for bins in alone.bins)
        seconds = float(rng.exponential(0.1))
        record = inference(answer(str(rng.choice(SPEC.labels)), drift=drift), seconds=seconds)
        for metrics in (alone, pair[rng.integers(2)]):
            metrics.end(record)
    counted = ("visor_drift_images_total", "visor_decisions_total", "visor_request_seconds_bucket", "visor_request_seconds_count")
    together = {key: value for key, value in samples(*pair).items() if key[0] in counted}
    assert together == {key: value for key, value in samples(alone).items() if key[0] in counted}
    assert sum(value for (name, _), value in together.items() if name == "visor_drift_images_total") == 200 * len(BINS)


def test_a_restart_loses_no_image() -> None:
    """Prometheus' rule: a counter that is less than before has begun again at 0. Each series is there from the start, so that the
    first image after it is an increase, too."""
    reference = make_reference(BINS)
    increase: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()
    images = 0
    for count in (3, 5, 1):  # an edge that begins with none, answers so many images, is read after each, and ends
        edge = Metrics(SPEC, "ab" * 32, reference=reference)
        before = samples(edge)
        for n in range(count):
            edge.end(inference(answer(drift=(n % 2, 0, n % 3, n % 4, 1, 0, 2))))
            now = samples(edge)
            assert before.keys() >= {key for key in now if key[0] == "visor_drift_images_total"}
            increase += now - before
            before, images = now, images + 1
    for figure in reference.figures:
        counted = [
            value
            for (name, labels), value in increase.items()
            if name == "visor_drift_images_total" and ("figure", figure) in labels
        ]
        assert sum(counted) == images == 9
