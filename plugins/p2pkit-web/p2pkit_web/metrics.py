"""What the server counts and measures, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0)

__all__ = ["CONTENT_TYPE", "Metrics"]


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "p2pkit_requests", "Requests by path and status.", ["path", "status"], registry=self._registry
        )
        self.translations = Histogram(
            "p2pkit_translation_seconds", "From the whole body to the encoded output, by model.", ["model"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self.network = Histogram(
            "p2pkit_network_seconds", "Of the network alone, by batch.", buckets=SECONDS, registry=self._registry
        )
        self.images = Counter("p2pkit_images", "Images that went through the network.", registry=self._registry)
        self.waiting = Gauge(
            "p2pkit_waiting", "Requests that are decoded, wait for the network or are encoded.", registry=self._registry
        )
        self.models = Gauge("p2pkit_loaded_models", "Models in memory.", registry=self._registry)

    def text(self) -> bytes:
        """All of them in Prometheus' format."""
        return generate_latest(self._registry)
