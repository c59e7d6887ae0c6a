"""Counts what the service does, in the form that Prometheus reads."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """All figures of one service.

    Args:
        gauges: What stands at the moment it is asked for, by name: a help text, and a function.
    """

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        disable_created_metrics()  # a second figure for each
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tagger_requests", "Requests.", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "tagger_request_seconds",
            "Time to the answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.items = Counter(
            "tagger_items", "Items submitted, by decision.", ["decision"], registry=self.registry
        )
        for name, (text, function) in gauges.items():
            Gauge(f"tagger_{name}", text, registry=self.registry).set_function(function)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> str:
        """Return all figures."""
        return str(generate_latest(self.registry).decode())
