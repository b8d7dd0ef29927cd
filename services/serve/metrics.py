"""What Prometheus can read at `/metrics`."""

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class ServerMetrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        """Register the metrics, each with the prefix `tuneproof_`."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        to: dict[str, Any] = {"registry": self.registry, "namespace": "tuneproof"}
        self.requests = Counter(
            "requests", "Requests by route and HTTP status.", ["route", "status"], **to
        )
        self.seconds = Histogram(
            "request_seconds",
            "Seconds of a request, to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            **to,
        )
        self.first_token = Histogram(
            "first_token_seconds", "Seconds to the first token.", buckets=SECONDS, **to
        )
        self.prompt_tokens = Counter("prompt_tokens", "Tokens of prompts and texts.", **to)
        self.completion_tokens = Counter("completion_tokens", "Tokens of answers.", **to)
        self.cancelled = Counter("cancelled", "Requests whose client left.", **to)
        self.running = Gauge("running", "Answers that are computed or wait.", **to)
        self.ready = Gauge("ready", "1 if requests are answered, else 0.", **to)
        self.version = Gauge("version", "The version that is served.", **to)
        self.refused_version = Gauge(
            "refused_version", "The version that was not taken, 0 if there is none.", **to
        )
        self.moves = Counter("moves", "How often the alias was followed to another version.", **to)
        self.log_errors = Counter("log_errors", "Chats that log_requests could not keep.", **to)
        self.registry_errors = Counter("registry_errors", "Failed looks at the registry.", **to)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)
