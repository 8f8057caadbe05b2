"""Drift of the canary alone: its images are not like those of its archive's calibration split, and the stable release's are.

Both tracks get images of one kind, so a canary that sees drift where the stable release sees none does not look at them as it
was calibrated. The index and its limit are those of `visor drift`: docs/drift.md. It is asked for at 500 images of the canary and
then each time that they have doubled, as a fixed test that is asked at each look is wrong a little more often with each.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rollout.plan import Pod
from rollout.prometheus import ask

FIRST = 500
"""Images of the canary, from which on it is judged."""
AWAY = 2.0
SMOOTHING = 0.5
GAUGES = "visor_drift_(reference_share|limit_quantile|reference_images|effect)"

Series = Iterable[tuple[Mapping[str, str], float]]


@dataclass(frozen=True)
class Reference:
    """What an archive's pods say of its reference. `shares`: by figure and bin; `quantiles`: of the null law, by figure."""

    images: float = 0.0
    effect: float = 0.0
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    quantiles: Mapping[str, float] = field(default_factory=dict)


def look(url: str, namespace: str, pods: Mapping[str, Pod], window_s: float) -> str:
    """Say which figure of the canary alone has drifted in the window, "" for none. Raises PrometheusUnreachable."""
    found = {}
    for track in ("canary", "stable"):
        names = sorted(name for name, pod in pods.items() if pod.track == track)
        if not names:
            return ""
        chosen = f'namespace="{namespace}",pod=~"{"|".join(names)}"'
        window = f"[{math.ceil(window_s)}s]"
        counts = by_figure(ask(url, f"sum by (figure, bin) (increase(visor_drift_images_total{{{chosen}}}{window}))"))
        drawn = ask(url, f'sum(increase(visor_drawn_images_total{{result=~"pass|flag|review",{chosen}}}{window}))')
        reference = reference_of(ask(url, f'{{__name__=~"{GAUGES}",{chosen}}}'))
        found[track] = ratios(counts, reference, drawn[0][1] if drawn else math.inf)
    own = alone(found["canary"], found["stable"])
    if not own:
        return ""
    figure = max(own, key=lambda name: own[name])
    return (
        f"drift of the canary alone: {figure} is at {own[figure]:.1f} of its limit, the stable release's at "
        f"{found['stable'][figure]:.1f} of its own"
    )


def alone(canary: Mapping[str, float], stable: Mapping[str, float]) -> dict[str, float]:
    """The canary's figures that are above their limit while the stable release's are not, nor half as near to it.

    Where all images have moved by about the limit, one index is above it by chance, and the other one below.
    """
    return {
        figure: ratio for figure, ratio in canary.items() if ratio > 1 and stable.get(figure, math.inf) <= min(1.0, ratio / AWAY)
    }


def by_figure(series: Series) -> dict[str, dict[str, float]]:
    """Values by figure and bin."""
    found: dict[str, dict[str, float]] = {}
    for labels, value in series:
        found.setdefault(labels["figure"], {})[labels["bin"]] = value
    return found


def reference_of(series: Series) -> Reference:
    """A reference, of which all pods of an archive say the same."""
    named: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for labels, value in series:
        named.setdefault(labels["__name__"].removeprefix("visor_drift_"), []).append((labels, value))
    return Reference(
        images=max((value for _, value in named.get("reference_images", [])), default=0.0),
        effect=max((value for _, value in named.get("effect", [])), default=0.0),
        shares=by_figure(named.get("reference_share", [])),
        quantiles={labels["figure"]: value for labels, value in named.get("limit_quantile", [])},
    )


def ratios(counts: Mapping[str, Mapping[str, float]], reference: Reference, requests: float = math.inf) -> dict[str, float]:
    """Each figure's population stability index as a multiple of its limit, quantile * (1/N + 1/M) + effect.

    The index of N images in B bins is sum (q - r) ln(q / r), with q = (n + 0.5) / (N + 0.5 B) and r the reference's share. Of
    fewer `requests` than images all counts are made smaller until N is their number: a request's images may be alike, and then
    tell no more than one.
    """
    found = {}
    for figure, shares in reference.shares.items():
        images = sum(counts.get(figure, {}).get(name, 0.0) for name in shares)
        part = min(1.0, requests / images) if images else 0.0
        live, total = {name: part * count for name, count in counts.get(figure, {}).items()}, part * images
        if total and reference.images and figure in reference.quantiles:
            index = 0.0
            for name, share in shares.items():
                q = (live.get(name, 0.0) + SMOOTHING) / (total + SMOOTHING * len(shares))
                index += (q - share) * math.log(q / share)
            found[figure] = index / (reference.quantiles[figure] * (1 / total + 1 / reference.images) + reference.effect)
    return found
