"""Windows of counts, held against `watch.psi` and `Reference.limits`, which compute the same from images' counts by bin."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from console.page import counts, drift
from handlers.drift import Reference
from tests.unit.watch.test_queries import faults, series
from transformer import declared
from transformer.drift_counts import DriftCounts
from watch.psi import psi

COUNTED = (np.array([40, 30, 20, 10]), np.array([0, 100, 0]))
REFERENCE = Reference(
    ("score", "width"),
    (np.array([0.1, 0.2, 0.3], np.float32), np.array([1.0, 2.0], np.float32)),
    COUNTED,
    tuple(one[None] for one in COUNTED),
    100,
    np.array([20.0, 10.0]),
    0.025,
    np.zeros(1, np.float32),
    np.zeros((0, 1), np.float32),
)


def exposed(*images: tuple[int, int], version: str = "1") -> str:
    """What an edge exposes that has counted these images, by the bin of each figure."""
    registry, counter = CollectorRegistry(), DriftCounts(REFERENCE, ("roofs", version))
    for image in images:
        counter.count(image)
    registry.register(counter)
    return generate_latest(registry).decode()


MOVED = [(3, 1)] * 40 + [(0, 1)] * 20
AS_EVER = [(0, 1)] * 16 + [(1, 1)] * 12 + [(2, 1)] * 8 + [(3, 1)] * 4


def test_the_index_and_its_limit_are_those_of_visor_drift() -> None:
    [window] = drift.windows(counts.parsed(exposed(*MOVED)))
    assert (window.model, window.version, window.images) == ("roofs", "1", 60)
    found = {figure.name: figure for figure in window.figures}
    live = (np.array([20, 0, 0, 40]), np.array([0, 60, 0]))
    for name, of_reference, of_live, limit in zip(REFERENCE.figures, COUNTED, live, REFERENCE.limits(60), strict=True):
        assert found[name].psi == pytest.approx(psi(of_reference, of_live))
        assert found[name].limit == pytest.approx(limit)
    assert window.moved == ["score"]
    assert (window.kind, window.figures[0].name) == ("alarm", "score")
    assert "score moved away" in window.sentence


def test_nothing_moved_is_said_so() -> None:
    [window] = drift.windows(counts.parsed(exposed(*AS_EVER)))
    assert (window.kind, window.moved) == ("calm", [])
    assert window.sentence.startswith("Nothing moved: 40 pictures")


def test_few_pictures_and_no_reference_say_nothing() -> None:
    [few] = drift.windows(counts.parsed(exposed(*AS_EVER[:29])))
    assert (few.kind, few.sentence) == ("unclear", "29 pictures are too few to say anything; it takes 30.")
    [none] = drift.windows(counts.parsed(exposed()))
    assert (none.kind, none.images, none.figures) == ("unclear", 0, ())
    [old] = drift.windows([("visor_decisions_total", {"model": "a", "version": "1", "decision": "flag"}, 3.0)])
    assert "older version" in old.sentence
    assert drift.windows([]) == []


def test_servers_of_one_model_add_up_and_versions_do_not() -> None:
    samples = [*counts.parsed(exposed(*MOVED)), *counts.parsed(exposed(*AS_EVER)), *counts.parsed(exposed(version="2"))]
    assert [(window.version, window.images) for window in drift.windows(samples)] == [("1", 100), ("2", 0)]


def test_bars_are_drawn_by_the_highest() -> None:
    [window] = drift.windows(counts.parsed(exposed(*MOVED)))
    score = next(figure for figure in window.figures if figure.name == "score")
    seen, expected = (40 + 0.5) / 62, (10 + 0.5) / 102  # of the last bin, which is the highest
    assert score.bins[3] == drift.Bin(round(100 * expected / seen, 1), 100.0)
    assert 0 < score.bar <= 100


@pytest.mark.parametrize("window", counts.WINDOWS)
def test_prometheus_is_asked_for_what_the_edge_declares(window: str) -> None:
    known = series(declared.ALL)
    asked = counts.asked(window)
    assert set(asked) == set(counts.NEEDED)
    for text in asked.values():
        assert faults(text, known) == []
        assert "$" not in text


def test_what_is_no_metrics_page_is_told() -> None:
    with pytest.raises(ValueError, match=r"."):
        list(counts.parsed("<html>not metrics"))
