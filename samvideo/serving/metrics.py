"""What a server counts and measures, as Prometheus text. The only file that imports prometheus_client."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

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


class _Families:
    """Metrics that were collected elsewhere."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._families


def join_metrics(texts: Mapping[str, str]) -> bytes:
    """The metrics of several replicas as one text, whose samples have the label `replica`."""
    families: dict[str, Metric] = {}
    for replica, text in texts.items():
        for family in text_string_to_metric_families(text):
            joined = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                joined.add_sample(sample.name, {**sample.labels, "replica": replica}, sample.value)
    registry = CollectorRegistry()
    registry.register(_Families(families.values()))
    return generate_latest(registry)
