"""Metrics as Prometheus reads them, with the figures of the process beside.

Takes long enough, when there is much to tell, to be done in a thread of its own. Knows no single
metric and no source of numbers.
"""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Exposed
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from virtbackupd.server.metrics import Family, Histogram, Metric


def exposition(metrics: Sequence[Metric]) -> bytes:
    """The text format 0.0.4, which every release of Prometheus takes. Reads /proc."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gathered(metrics))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Gathered(Collector):
    """What was gathered, for a registry that is asked once."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Exposed]:
        return map(_exposed, self._metrics)


def _exposed(metric: Metric) -> Exposed:
    return _histogram(metric) if isinstance(metric, Histogram) else _plain(metric)


def _plain(family: Family) -> Exposed:
    form = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    made = form(family.name, family.about, labels=family.labels)
    for labels, value in family.rows:
        made.add_metric(labels, value)
    return made


def _histogram(found: Histogram) -> Exposed:
    made = HistogramMetricFamily(found.name, found.about, labels=found.labels)
    bounds = [*map(str, found.bounds), "+Inf"]
    for labels, counts, total in found.rows:
        made.add_metric(labels, list(zip(bounds, counts, strict=True)), total)
    return made
