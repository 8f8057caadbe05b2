"""The drift counters: images by the bin of each of their figures, beside the reference that Prometheus compares them with.

They are plain numbers, as an image is counted into a bin of each figure, and prometheus_client's own counters take a lock for
each [19 figures: 11.5 -> 1.2 us].
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import add

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from handlers.drift import Reference, shares
from transformer import declared
from transformer.declared import Declared


class DriftCounts(Collector):
    """The images of one edge by figure and bin. `bins`: how many bins each figure has. `model`: values of model and version."""

    def __init__(self, reference: Reference, model: tuple[str, str]) -> None:
        self.bins = tuple(len(counts) for counts in reference.counts)
        series = [
            (*model, figure, str(bin_)) for figure, bins in zip(reference.figures, self.bins, strict=True) for bin_ in range(bins)
        ]
        self._labels = [dict(zip(declared.DRIFT_IMAGES.label_names, one, strict=True)) for one in series]
        self._images = [0] * len(series)
        self._first = tuple(accumulate(self.bins[:-1], initial=0))  # each figure's first place in them
        smoothed = [share for counts in reference.counts for share in shares(counts).tolist()]
        limits = zip(reference.figures, reference.limit_quantiles.tolist(), strict=True)
        self._reference = (
            _gauge(declared.DRIFT_SHARE, zip(series, smoothed, strict=True)),
            _gauge(declared.DRIFT_REFERENCE, [(model, reference.images)]),
            _gauge(declared.DRIFT_LIMIT, (((*model, figure), limit) for figure, limit in limits)),
            _gauge(declared.DRIFT_EFFECT, [(model, reference.effect)]),
        )

    def count(self, drift: Sequence[int]) -> None:
        """Count one image, by the bin of each of its figures."""
        images = self._images
        for place in map(add, self._first, drift):
            images[place] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the counters, and the reference that does not change."""
        kind = declared.DRIFT_IMAGES
        family = CounterMetricFamily(kind.name, kind.about)
        family.samples.extend(Sample(kind.name, *one) for one in zip(self._labels, self._images, strict=True))
        yield family
        yield from self._reference


def _gauge(kind: Declared, values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(kind.name, kind.about, labels=kind.label_names)
    for labels, value in values:
        family.add_metric(labels, value)
    return family
