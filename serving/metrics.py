"""Metrics: what the service counts, for Prometheus; routes are templates, never a caller's text."""

import threading
from bisect import bisect_left
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from training.bundle import Bundle

NAMESPACE = "ethogram"
BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Tally(Collector):
    """What every request adds to: plain numbers, made into series when Prometheus asks."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._requests: Counts[tuple[str, int]] = Counts()
        self._places: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._seconds: dict[str, float] = defaultdict(float)
        self._answers: Counts[str] = Counts()

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        with self._turn:
            self._requests[route, status] += 1
            self._places[route][bisect_left(BUCKETS, seconds)] += 1
            self._seconds[route] += seconds

    def answer(self, source: str, n: int = 1) -> None:
        """Count answers about users."""
        with self._turn:
            self._answers[source] += n

    def collect(self) -> Iterator[Metric]:
        """Requests by route and status, their seconds by route, answers by source."""
        requests = CounterMetricFamily("ethogram_requests", "Requests answered.", labels=("route", "status"))
        seconds = HistogramMetricFamily("ethogram_request_seconds", "Time to answer.", labels=("route",))
        answers = CounterMetricFamily("ethogram_answers", "Answers by where they came from.", labels=("source",))
        with self._turn:
            for (route, status), n in self._requests.items():
                requests.add_metric((route, str(status)), n)
            for route, places in self._places.items():
                edges = (*map(str, BUCKETS), "+Inf")
                seconds.add_metric((route,), list(zip(edges, accumulate(places), strict=True)), self._seconds[route])
            for source, n in self._answers.items():
                answers.add_metric((source,), n)
        yield from (requests, seconds, answers)


class Metrics:
    """One registry per service, so that two services in a process do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, namespace=NAMESPACE, registry=registry)

        def histogram(name: str, meaning: str, *labels: str, buckets: Sequence[float] = BUCKETS) -> Histogram:
            return Histogram(name, meaning, labels, namespace=NAMESPACE, registry=registry, buckets=buckets)

        self.events = counter("events", "Events received.", "outcome")
        self.skew = histogram("skew_seconds", "Newest known event ahead of the clock.", buckets=(0.001, 0.1, 1, 2, 10))
        self.commit_seconds = histogram("commit_seconds", "Time of a group commit.")
        self.rolled = counter("rolled_events", "Events moved from the journal into the event log.")
        self.roll_failures = counter("roll_failures", "Moves into the event log that failed.")
        self.state_failures = counter("state_failures", "Readings of the state, and turns of catching up, that failed.")
        self.swaps = counter("bundle_swaps", "Bundles taken into service.")
        self.swap_failures = counter("bundle_failures", "Bundles refused; the one before stayed in service.")
        self.challengers = counter("challengers", "Challengers taken into the shadow.")
        self.shadow = counter("shadow", "Answers that the challenger was to give as well.", "outcome")
        self.prediction_failures = counter(
            "prediction_failures", "Writings of the prediction log that failed; rows wait."
        )
        self.predictions = counter("predictions", "Rows of the prediction log.", "outcome")
        self.unpublished = Gauge(
            "bundle_unpublished", "1 while a version of the registry cannot be published.", namespace=NAMESPACE,
            registry=registry,
        )  # fmt: skip
        about = ("name", "version", "digest")
        self.bundle = Gauge("bundle_info", "The bundle in service.", about, namespace=NAMESPACE, registry=registry)
        self._tally = Tally()
        self.request, self.answer = self._tally.request, self._tally.answer
        registry.register(self._tally)

    def swapped(self, bundle: Bundle) -> None:
        """A bundle was taken into service."""
        self.swaps.inc()
        self.bundle.clear()
        self.bundle.labels(bundle.name, str(bundle.version), bundle.digest).set(1)

    def text(self) -> bytes:
        """The exposition that Prometheus reads."""
        return bytes(generate_latest(self.registry))
