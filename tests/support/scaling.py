"""What the examples of scaling ask Prometheus, as the scaler of each would."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SCALING = Path(__file__).parents[2] / "examples/scaling"


@dataclass(frozen=True, slots=True)
class Scaler:
    """One of the examples: its query, how much of the answer one replica is for, and how many there are at most."""

    example: str
    query: str
    each: float
    least: int
    most: int

    def replicas(self, value: float) -> int:
        """KEDA and the HPA round up, from a figure that they read in thousandths."""
        return max(self.least, min(self.most, math.ceil(int(value * 1000 + 0.5) / 1000 / self.each)))


def documents(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SCALING / file).read_text()))


def scalers() -> list[Scaler]:
    return [*_of_keda(), _of_hpa()]


def _of_keda() -> Iterator[Scaler]:
    for file in ("keda/scaledobject.yaml", "keda/scaledjob.yaml"):
        (document,) = documents(file)
        spec = document["spec"]
        (trigger,) = spec["triggers"]
        asked = trigger["metadata"]
        least, most = spec.get("minReplicaCount", 0), spec["maxReplicaCount"]
        yield Scaler(file, asked["query"], float(asked["threshold"]), least, most)


def _of_hpa() -> Scaler:
    (values,), (hpa,) = documents("hpa/prometheus-adapter.yaml"), documents("hpa/hpa.yaml")
    spec = hpa["spec"]
    external = spec["metrics"][0]["external"]
    (rule,) = [each for each in values["rules"]["external"] if each["name"]["as"] == external["metric"]["name"]]
    series = rule["seriesQuery"].split('__name__="')[1].split('"')[0]
    query = rule["metricsQuery"].replace("<<.Series>>", series)
    return Scaler(
        "hpa/hpa.yaml", query, float(external["target"]["averageValue"]), spec["minReplicas"], spec["maxReplicas"]
    )
