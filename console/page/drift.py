"""How far what came lately is from each archive's reference, figure by figure, by the formulas of docs/drift.md. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from handlers.drift import shares

LEAST = 30
"""Images below which nothing is said, as `visor drift` says nothing."""
ABOUT = {
    "score": "what the threshold is compared with",
    "brightness": "mean light",
    "contrast": "spread of light",
    "sharpness": "steps between neighbouring pixels",
    "saturation": "strength of colour",
    "width": "of the upright picture",
    "height": "of the upright picture",
}
"""What each figure is; the others are axes of the network's own features."""
Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]
"""A metric's name, its labels and its value."""


@dataclass(frozen=True)
class Bin:
    """A bin of a figure, in percent of the highest bar of its chart."""

    reference: float
    live: float


@dataclass(frozen=True)
class Figure:
    """A figure of a window. `psi`: its index; `limit`: the index above which it has moved."""

    name: str
    psi: float
    limit: float
    bins: tuple[Bin, ...]

    @property
    def moved(self) -> bool:
        """Whether it differs by more than chance and the least effect."""
        return self.psi > self.limit

    @property
    def about(self) -> str:
        """What it measures."""
        return ABOUT.get(self.name, "of the network's features")

    @property
    def bar(self) -> float:
        """The index as percent of a bar whose half is the limit."""
        return round(min(100.0, 50 * self.psi / self.limit), 2)


@dataclass(frozen=True)
class Window:
    """What came to one model. `decided`: pictures by decision; `figures`: the furthest above its limit first."""

    model: str
    version: str
    images: int
    decided: Mapping[str, int]
    figures: tuple[Figure, ...]

    @property
    def moved(self) -> list[str]:
        """The figures that moved."""
        return [one.name for one in self.figures if one.moved]

    @property
    def kind(self) -> str:
        """The class of its colours."""
        return "unclear" if self.images < LEAST or not self.figures else "alarm" if self.moved else "calm"

    @property
    def sentence(self) -> str:
        """What is to be said of it."""
        if not self.figures:
            return "The archive has no figures to compare with: it is of an older version."
        if self.images < LEAST:
            return f"{self.images:,} pictures are too few to say anything; it takes {LEAST}."
        if self.moved:
            named = ", ".join(self.moved)
            return (
                f"In {self.images:,} pictures {named} moved away from the calibration split: the promise on missed pictures may "
                "no longer hold. The command visor drift tells other pictures from other labels."
            )
        return f"Nothing moved: {self.images:,} pictures are like those of the calibration split."


@dataclass
class _Counts:
    """What is known of one model: by figure and bin, and for all."""

    images: defaultdict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    reference: defaultdict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    quantile: dict[str, float] = field(default_factory=dict)
    known: float = 0.0
    effect: float = 0.0
    decided: dict[str, int] = field(default_factory=dict)


def windows(samples: Iterable[Sample]) -> list[Window]:
    """Make the windows of counts, by their metrics' names; those of several servers add up."""
    found: defaultdict[tuple[str, str], _Counts] = defaultdict(_Counts)
    for name, labels, value in samples:
        if "model" not in labels:
            continue
        counts, figure, bin_ = found[labels["model"], labels.get("version", "")], labels.get("figure", ""), labels.get("bin", "")
        match name:
            case "visor_drift_images_total":
                of_figure = counts.images[figure]
                of_figure[bin_] = of_figure.get(bin_, 0.0) + value
            case "visor_drift_reference_share":
                counts.reference[figure][bin_] = value
            case "visor_drift_limit_quantile":
                counts.quantile[figure] = value
            case "visor_drift_reference_images":
                counts.known = value
            case "visor_drift_effect":
                counts.effect = value
            case "visor_decisions_total":
                decision = labels.get("decision", "")
                counts.decided[decision] = counts.decided.get(decision, 0) + round(value)
    return [_window(*model, counts) for model, counts in sorted(found.items())]


def _window(model: str, version: str, counts: _Counts) -> Window:
    figures = []
    for name, reference in counts.reference.items():
        bins = sorted(reference, key=int)
        live = np.array([counts.images[name].get(bin_, 0.0) for bin_ in bins])
        if not live.sum() or not counts.known or name not in counts.quantile:
            continue
        expected, seen = np.array([reference[bin_] for bin_ in bins]), shares(live)
        index = float(((seen - expected) * np.log(seen / expected)).sum())
        limit = counts.quantile[name] * (1 / float(live.sum()) + 1 / counts.known) + counts.effect
        highest = max(expected.max(), seen.max())
        drawn = (np.stack([expected, seen]) / highest * 100).round(1).T.tolist()
        figures.append(Figure(name, index, limit, tuple(Bin(*one) for one in drawn)))
    images = max((round(sum(one.values())) for one in counts.images.values()), default=0)
    figures.sort(key=lambda one: -one.psi / one.limit)
    return Window(model, version, images, counts.decided, tuple(figures))
