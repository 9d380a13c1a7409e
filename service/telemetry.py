"""What this process counts, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Around the deadlines of a provider call: a healthy one, one attempt that timed out, a whole request that did.
_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 20.0)

router = APIRouter(tags=["operations"])


class Telemetry:
    """One process's counters, in a registry of their own; what its circuits have counted joins them there."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "switchgear_http_requests",
            "Answered requests.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._durations = Histogram(
            "switchgear_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._payments = Counter(
            "switchgear_payments",
            "Requests to create an intent, by what came of them.",
            ["outcome"],
            registry=self.registry,
        )

    def count_request(self, method: str, route: str, status_code: int, duration_seconds: float) -> None:
        """Count an answered request; its route, not its path, so that the number of series stays small."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status_code)).inc()
        self._durations.labels(method, route).observe(duration_seconds)

    def count_payment(self, outcome: str) -> None:
        """Count what came of a request to create an intent: `created`, `replayed` or an error's code."""
        self._payments.labels(outcome).inc()


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Give the counters in Prometheus' text format."""
    telemetry: Telemetry = request.state.telemetry
    return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)
