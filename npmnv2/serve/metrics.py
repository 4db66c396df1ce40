"""What Prometheus may read of a server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from npmnv2.serve.scheduler import Scheduler
from npmnv2.serve.uploads import Held

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one server, in a registry of its own.

    Parameters
    ----------
    scheduler : Scheduler
    held : Held
    """

    def __init__(self, scheduler: Scheduler, held: Held) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("npmnv2_requests", "Requests", ["path", "status"], registry=registry)
        self._seconds = Histogram(
            "npmnv2_request_seconds", "From headers to answer", ["path"], buckets=_SECONDS, registry=registry
        )
        self._images = Counter("npmnv2_images", "Images", ["model", "precision", "outcome"], registry=registry)
        for name, text, value in (
            ("npmnv2_images_waiting", "Images in the queue", lambda: scheduler.waiting),
            ("npmnv2_images_running", "Images at work", lambda: scheduler.running),
            ("npmnv2_held_bytes", "Bytes of requests in memory", lambda: held.bytes),
        ):
            Gauge(name, text, registry=registry).set_function(value)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count one answer; `path` is one of the server's own."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def count_image(self, model: str, precision: str, good: bool) -> None:
        """Count one image."""
        self._images.labels(model, precision, "ok" if good else "error").inc()

    def text(self) -> bytes:
        """All values in Prometheus's format."""
        return generate_latest(self._registry)
