"""Metrics: what the service counts, for Prometheus; routes are templates, never a caller's text."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from training.bundle import Bundle

NAMESPACE = "ethogram"
BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """One registry per service, so that two services in a process do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, namespace=NAMESPACE, registry=registry)

        def histogram(name: str, meaning: str, *labels: str, buckets: Sequence[float] = BUCKETS) -> Histogram:
            return Histogram(name, meaning, labels, namespace=NAMESPACE, registry=registry, buckets=buckets)

        self.requests = counter("requests", "Requests answered.", "route", "status")
        self.seconds = histogram("request_seconds", "Time to answer.", "route")
        self.events = counter("events", "Events received.", "outcome")
        self.answers = counter("answers", "Answers by where they came from.", "source")
        self.skew = histogram("skew_seconds", "Newest known event ahead of the clock.", buckets=(0.001, 0.1, 1, 2, 10))
        self.commit_seconds = histogram("commit_seconds", "Time of a group commit.")
        self.rolled = counter("rolled_events", "Events moved from the journal into the event log.")
        self.roll_failures = counter("roll_failures", "Moves into the event log that failed.")
        self.state_failures = counter("state_failures", "Readings of the state, and turns of catching up, that failed.")
        self.swaps = counter("bundle_swaps", "Bundles taken into service.")
        self.swap_failures = counter("bundle_failures", "Bundles refused; the one before stayed in service.")
        self.challengers = counter("challengers", "Challengers taken into the shadow.")
        self.shadow = counter("shadow", "Answers that the challenger was to give as well.", "outcome")
        self.predictions = counter("predictions", "Rows of the prediction log.", "outcome")
        about = ("name", "version", "digest")
        self.bundle = Gauge("bundle_info", "The bundle in service.", about, namespace=NAMESPACE, registry=registry)
        self._routes: dict[tuple[str, int], Counter] = {}
        self._seconds: dict[str, Histogram] = {}
        self._sources: dict[str, Counter] = {}
        self._bundle: Gauge | None = None

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (route, status)
        counter = self._routes.get(key)
        if counter is None:
            counter = self._routes[key] = self.requests.labels(route, str(status))
            self._seconds.setdefault(route, self.seconds.labels(route))
        counter.inc()
        self._seconds[route].observe(seconds)

    def answer(self, source: str, n: int) -> None:
        """Count answers about users."""
        counter = self._sources.get(source)
        if counter is None:
            counter = self._sources[source] = self.answers.labels(source)
        counter.inc(n)

    def swapped(self, bundle: Bundle) -> None:
        """A bundle was taken into service."""
        self.swaps.inc()
        if self._bundle is not None:
            self._bundle.set(0)
        self._bundle = self.bundle.labels(bundle.name, str(bundle.version), bundle.digest)
        self._bundle.set(1)

    def text(self) -> bytes:
        """The exposition that Prometheus reads."""
        return bytes(generate_latest(self.registry))
