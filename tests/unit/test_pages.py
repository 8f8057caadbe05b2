"""Every page that visor writes, of the smallest and the largest things it reports: nothing of a template is left in any."""

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.predictor import Answer
from handlers.spec import Limits
from loadtests.overload import judge_overload, measure
from loadtests.report import Run, to_html
from tests.unit import specs
from tests.unit.configs import make_config
from tests.unit.loadtests.test_report import RUN, SAMPLES, SLO
from tests.unit.pages import Structure, check_page, left_over
from tests.unit.references import make_reference
from tests.unit.training.reports.test_evaluation import GALLERIES, PLOTS, make_metrics, make_spec
from tests.unit.training.reports.test_model_card import card
from tests.unit.training.selection.test_comparison import compared, make
from training.data.eda import explore
from training.data.manifest import Sample
from training.reports import comparison, data_set, drift, model_card
from training.reports.evaluation import Shown, render
from training.reports.galleries import show
from training.reports.notes import steps
from watch.verdict import count, judge

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
LINEAGE = {"dataset digest": "ab12" * 16, "weights digest": "cd34" * 16}


def evaluation(folder: Path, labels: int, positive: bool) -> str:
    """The report of a run over pictures in a folder, a third of them answered wrong."""
    names = tuple(f"label {k}" for k in range(labels))
    rule = {"positive": names[:1]} if positive else {"positive": (), "review_cost": 0.1}
    spec = specs.make_spec(names, name="roofs", **rule)
    truth = np.arange(4 * labels) % labels
    samples, answers = [], []
    for n, k in enumerate(truth):
        path = f"{n:03}.png"
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / path)
        samples.append(Sample(path, 1, "0" * 64, names[k], "test"))
        probs = np.full(labels, 0.1 / labels, dtype=np.float32)
        probs[(k + (n % 3 == 0)) % labels] += 0.9
        best = names[int(probs.argmax())]
        outcome = "flag" if positive and probs[0] >= 0.5 else "pass"
        answers.append(Answer(best, float(probs.max()), probs, outcome, 0.5, np.ones((2, 2), np.float32), best, heatmap_peak=3.0))
    metrics = make_metrics()
    row = metrics["per_class"]["damaged"]
    metrics |= {"per_class": dict.fromkeys(names, row)}
    shown = show(samples, answers, truth, spec, folder)
    return render(spec, metrics, PLOTS, shown, LINEAGE, ["Look twice."], steps(make_config(), metrics))


def everything() -> dict:
    """Metrics with every table that a report can have."""
    cost = {"cost": 100.0, "reviews": 50.0, "reviews_low": 31.0, "reviews_high": 79.0}
    cost |= {"difference": -3.25, "difference_low": -5.0, "difference_high": -1.5}
    group = {"images": 9, "accuracy": None, "accuracy_interval": None, "positives": 0, "fnr": None, "fnr_interval": None}
    group |= {"ece": None, "review_share": None, "review_share_interval": None, "breaks_bound": "no", "threshold": None}
    rule = {"threshold": 0.25, "review_from": None, "review_to": None, "expected_cost": 0.3, "expected_cost_with_review": None}
    rule |= {"mean_score": 0.125, "outcomes": {"pass": 0.5, "flag": 0.25, "review": 0.25}}
    area = {"deletion_auc": None, "insertion_auc": 0.75}
    maps = {"images": 7, "served": area, "shuffled": area, "rank_correlation_head": None, "rank_correlation_all": None}
    sets = {"method": "lac", "coverage": 0.9, "images": 99, "test_coverage": 0.91, "test_coverage_interval": [0.7, 0.98]}
    return make_metrics(
        impact={"the rule": cost, "flag all": cost},
        selective={"aurc": 0.0125, "excess_aurc": 0.0025},
        prediction_sets=sets | {"mean_size": 1.5, "sizes": {"1": 10, "2": 10}},
        subgroups={"site": {"north": group}},
        explanations=maps,
        prevalence={"shares": {"damaged": 0.02, "intact": 0.98}, "rules": {"stated": rule}},
    )


def data(folder: Path, name: str, count: int) -> str:
    """The report of a data set with `count` pictures of each of two labels, one file that is none, and a copy."""
    for label in ("a", "b"):
        (folder / name / label).mkdir(parents=True)
        for n in range(count):
            Image.fromarray(RNG.integers(0, 256, (24, 24 + n, 3), dtype=np.uint8)).save(folder / name / label / f"{n}.png")
    (folder / name / "a/broken.png").write_bytes(b"\x89PNG none")
    Image.open(folder / name / "a/0.png").resize((48, 48)).save(folder / name / "b/again.png")
    return data_set.render(explore(folder / name, [], folder / "home"))


def runs(positive: bool, champion: bool = True) -> str:
    """The comparison of two runs, without archives."""
    spec = None if positive else specs.make_spec(("a", "b", "c"), positive=(), review_cost=0.1)
    found = compared(make("one", spec=spec), make("two", seed=1, spec=spec))
    rows = found.rows if champion else [replace(row, versus=None) for row in found.rows]
    return comparison.html(found if champion else replace(found, champion=None, chosen=None, rows=rows))


def drifted(folder: Path, moved: bool) -> str:
    """The page of a window of images that are as the reference's, or all darker; some have no answer."""
    reference = make_reference()
    rows = np.array([[1 if counts[1] == counts.sum() else n % counts.size for counts in reference.counts] for n in range(60)])
    if moved:
        rows[:, reference.figures.index("brightness")] = 0
    verdict = judge(reference, count(rows, reference))
    for n in range(3):
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    errors = Counter({"image.undecodable": 2, "image.empty": 1})
    paths = tuple(f"{n}.png" for n in range(4))  # of which the last is gone
    preprocessing = specs.make_spec(("a", "b")).preprocessing
    limits = Limits()
    window = drift.Window(
        "roofs.mar", "ab12" * 16, ("a", "b"), 12, verdict, errors, paths, folder, preprocessing, limits, bounded=True
    )
    drift.write(window, folder / "drift.html")
    return (folder / "drift.html").read_text()


def overloaded() -> str:
    figures = measure(SAMPLES, capacity_per_s=20.0, overload_s=5.0, slo=SLO)
    return to_html(Run({"target": "here"}, SAMPLES, SLO, judge_overload(figures, SLO), figures))


PAGES: dict[str, Callable[[Path], str]] = {
    "evaluation with a positive label": lambda folder: evaluation(folder, 2, positive=True),
    "evaluation without": lambda folder: evaluation(folder, 3, positive=False),
    "evaluation of many labels": lambda folder: evaluation(folder, 12, positive=False),
    "evaluation with every table": lambda _: render(
        make_spec(fnr_bound={"level": 0.05, "threshold": 0.25, "positives": 40}),
        everything(),
        PLOTS,
        Shown(GALLERIES),
        LINEAGE,
    ),
    "model card": lambda _: model_card.html("roofs", card(everything()), "ab12" * 16),
    "comparison": lambda _: runs(positive=True),
    "comparison without a positive label": lambda _: runs(positive=False),
    "comparison without a champion": lambda _: runs(positive=True, champion=False),
    "data set": lambda folder: data(folder, "set", 12),
    "data set that is too small": lambda folder: data(folder, "set", 1),
    "drift": lambda folder: drifted(folder, moved=True),
    "no drift": lambda folder: drifted(folder, moved=False),
    "load test": lambda _: to_html(RUN),
    "overload": lambda _: overloaded(),
}
TEMPLATES = {
    "training/reports/templates/report.html.j2",
    "training/reports/templates/model_card.html.j2",
    "training/reports/templates/comparison.html.j2",
    "training/reports/templates/eda.html.j2",
    "training/reports/templates/drift.html.j2",
    "loadtests/templates/report.html.j2",
}
"""Which PAGES are of; the others are parts of these."""
PARTS = {"training/reports/templates/page.html.j2", "training/reports/templates/macros.html.j2"}


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_anything_of_a_template_left(name: str, tmp_path: Path) -> None:
    check_page(PAGES[name](tmp_path))


def test_no_markdown_has_anything_of_a_template_left() -> None:
    found = compared(make("one"), make("two", seed=1))
    for text in (model_card.markdown("roofs", card(everything())), comparison.markdown(found)):
        assert left_over(text) == {}
        assert not re.search(r"<\w+[ >]", text)


def test_these_are_all_pages_that_there_are() -> None:
    """A new template joins PAGES; others are looked at in a browser, in tests/integration."""
    listed = subprocess.run(["git", "ls-files", "*.html.j2", "*.html"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {
        name
        for name in listed.stdout.split()
        if not name.startswith(("console/", "docker/prometheus/", "tests/", "transformer/", "watch/"))
    }
    assert tracked == TEMPLATES | PARTS


def test_the_page_of_the_edge_asks_nobody_else() -> None:
    structure = Structure((ROOT / "transformer/rest/docs.html").read_text())
    assert structure.open == []
    assert left_over(structure.text) == {}
    assert all(link and not re.match(r"(\w+:)?//", link) for link in structure.links)


@pytest.mark.parametrize("text", ["{% include 'x' %}", "{{ name }}", "of {count} images", "%s images", "nan %", "None"])
def test_what_is_left_over_is_seen(text: str) -> None:
    assert left_over(text)


def test_what_a_page_says_is_not_taken_for_a_leftover() -> None:
    assert left_over("95 % of 12 dogs; None: all reach it. 100 % sure. A nandu. f(x) = 5 %") == {}
