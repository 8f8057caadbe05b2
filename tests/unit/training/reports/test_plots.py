"""Each plot is a PNG, the same twice, and stands whatever the split lacks."""

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from handlers.spec import Decision
from training.decisions.calibration import reliability
from training.decisions.selective import least, risk_coverage
from training.reports import comparison, eda_plots, plots
from training.reports.drawing import FONT, SIZE, png

COST = ((0.0, 5.0), (1.0, 0.0))
RULE = Decision(positive=("bad",), threshold=0.2, review_from=0.1, review_to=0.4, cost=COST, review_cost=0.4)
SELECTIVE = Decision(threshold=0.9, cost=COST, review_cost=0.1)


HISTORY = [
    {"epoch": n, "phase": 1 + n // 3, "train_loss": 1 / n, "val_loss": 2 / n, "train_accuracy": 1 - 0.5 / n, "val_accuracy": 0.5}
    for n in range(1, 6)
]


def draws(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(k), n), rng.integers(0, k, n)


def all_plots(k: int, names: Sequence[str] | None = None) -> dict[str, bytes]:
    names = names or [f"label {i}" for i in range(k)]
    probs, truth = draws(80, k)
    counts = np.random.default_rng(1).integers(0, 30, (k, k))
    grid = np.linspace(0, 1, 11)
    curves = {name: (truth == i, probs[:, i]) for i, name in enumerate(names)}
    return {
        "confusion": plots.confusion(counts, names),
        "reliability": plots.reliability(reliability(probs, truth), reliability(probs**0.5, truth), f"$x$ or {names[0]}"),
        "one curve": plots.precision_recall({names[0]: curves[names[0]]}, 0.3),
        "curves": plots.precision_recall(curves, None),
        "cost": plots.threshold_cost(grid, {"calibration": grid**2, "test": grid}, RULE, (0.1, 0.4), 0.17),
        "roc": plots.roc({names[0]: curves[names[0]]}, 0.3),
        "rocs": plots.roc(curves, None),
        "risk": plots.risk_coverage(risk_coverage(probs[:, 0], truth == 0), least(truth == 0), 0.9, 0.1),
        "learning": plots.learning_curves(HISTORY),
        "resplits": plots.resplits(np.random.default_rng(2).binomial(60, 0.05, 200) / 60, 0.05, 40, 60),
        "selective": plots.threshold_cost(grid, {"calibration": grid**2, "test": grid}, SELECTIVE, (0.9, 0.9), 0.9),
    }


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures behind the pictures, as they are encoded."""
    figures: list[Figure] = []
    for module in (plots, eda_plots, comparison):

        def keep(figure: Figure) -> bytes:
            figures.append(figure)
            return png(figure)

        monkeypatch.setattr(module, "png", keep)
    return figures


LONG = "a label whose name is as long as those of folders that people make"


@pytest.mark.parametrize("k", [2, 10, 40])
def test_no_text_is_cut_and_all_are_of_one_size(k, drawn):
    """Of plots as wide as a page's column; a title is one point larger. Texts are measured where they are drawn."""
    all_plots(k, [f"{LONG} {i}" for i in range(k)])
    counts = {f"{LONG} {i}": Counter(train=3, val=1, calibration=1, test=1) for i in range(k)}
    eda_plots.balance(counts, split=True)
    eda_plots.sizes(np.array([100.0, 4000.0]), np.array([100.0, 3000.0]))
    eda_plots.spread("Sharpness", "variance of the Laplacian", np.geomspace(1, 5000, 50), [1.0], logarithmic=True)
    assert len(drawn) == 14
    for figure in drawn:
        whole, sizes = figure.bbox, set()
        for text in figure.findobj(Text):
            shown = text.get_visible() and text.get_text().strip()
            if not shown or not is_drawn(text, figure):
                continue
            box = text.get_window_extent()
            assert box.x0 >= -1, text.get_text()
            assert box.y0 >= -1, text.get_text()
            assert box.x1 <= whole.x1 + 1, text.get_text()
            assert box.y1 <= whole.y1 + 1, text.get_text()
            sizes.add(text.get_fontsize())
        assert sizes <= {FONT, FONT + 1}
        if figure.get_figwidth() != SIZE[0]:
            assert k > 5  # a matrix of many labels is larger


def test_ticks_of_rates_say_where_they_stand(drawn):
    plots.resplits(np.arange(20) / 120, 0.05, 120, 120)
    axis = drawn[0].axes[0].xaxis
    shown = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    assert all(float(label.get_text().strip("%").replace("\u2212", "-")) == pytest.approx(100 * at) for at, label in shown)


def is_drawn(text: Text, figure: Figure) -> bool:
    """Ticks beyond an axis' limits have texts that are never drawn."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if text in (tick.label1, tick.label2):
                    return low <= tick.get_loc() <= high
    return True


@pytest.mark.parametrize("k", [2, 45])
def test_plots_are_pngs_of_a_readable_size(k):
    for name, data in all_plots(k).items():
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert image.format == "PNG", name
            assert 400 <= min(image.size) <= max(image.size) <= 2000, name


def test_the_same_numbers_are_the_same_bytes():
    probs, truth = draws(80, 2)
    curves = {"bad": (truth == 0, probs[:, 0])}
    assert plots.precision_recall(curves, 0.3) == plots.precision_recall(curves, 0.3)


def test_a_class_without_images_and_labels_with_dollars_are_drawn():
    assert plots.confusion(np.array([[3, 1], [0, 0]]), ["$a_b^$", "none of it"])
    assert plots.precision_recall({"$x$": (np.array([True, False]), np.array([0.9, 0.1]))}, 0.95)


def test_one_sided_truth_says_so_instead_of_failing():
    for plot in (plots.precision_recall, plots.roc):
        assert plot({"bad": (np.array([True, True]), np.array([0.9, 0.1]))}, 0.5)


def test_no_answer_without_a_person_has_no_risk_to_show():
    curve = risk_coverage(np.array([0.5, 0.4]), np.array([True, False]))
    assert plots.risk_coverage(curve, curve, 0.0, None)


def test_a_label_that_the_font_has_no_letters_for_is_drawn_without_a_warning() -> None:
    """Warnings are errors here: in a command they would be lines of Python."""
    assert all(all_plots(2, ["\N{CAT}", "\N{DOG}"]).values())
