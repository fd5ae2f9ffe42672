"""What a server counts and measures, as Prometheus text. The only file that imports prometheus_client."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "samvideo_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self.sessions = Gauge("samvideo_sessions", "Open sessions.", registry=registry)
        self.opened = Counter("samvideo_sessions_opened", "Sessions opened.", ("model",), registry=registry)
        self.expired = Counter(
            "samvideo_sessions_expired", "Sessions closed for want of requests.", registry=registry
        )
        self.waiting = Gauge("samvideo_steps_waiting", "Steps that wait or run.", registry=registry)
        self.step = Histogram(
            "samvideo_step_seconds",
            "Time in which a frame is tracked, without waiting.",
            ("model",),
            buckets=SECONDS,
            registry=registry,
        )
        self.queue = Histogram(
            "samvideo_queue_seconds",
            "Time for which a step waits, as for other sessions.",
            buckets=SECONDS,
            registry=registry,
        )

        self.batch = Histogram(
            "samvideo_batch_frames",
            "Frames whose stage is computed as one, of models that compute in batches.",
            ("stage",),
            buckets=BATCHES,
            registry=registry,
        )

    def observe_batch(self, stage: str, frames: int) -> None:
        """Count a batch."""
        self.batch.labels(stage).observe(frames)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
