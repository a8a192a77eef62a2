"""What a daemon shows to Prometheus, read by Prometheus' own parser."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class MetricsPage:
    """One answer of the endpoint."""

    text: str

    @cached_property
    def series(self) -> Mapping[Series, float]:
        """Every number by its name and labels; none may be there twice."""
        found: dict[Series, float] = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in found, f"{key} is there twice"
                found[key] = sample.value
        return found

    def value(self, metric: str, **labels: str) -> float:
        """A number that has to be there; names are without our prefix."""
        return self.series[f"virtbackupd_{metric}", frozenset(labels.items())]

    def labelled(self, metric: str, label: str) -> dict[str, float]:
        """All numbers of a metric by the value of a label that tells them apart."""
        return {
            dict(labels)[label]: value
            for (name, labels), value in self.series.items()
            if name == f"virtbackupd_{metric}"
        }
