"""What is wrong with the sandbox at the moment, and how often each route was called.

Where a fault strikes decides what it means for the caller, so it is written down here:

| mode | strikes | effect | stored under the idempotency key |
|---|---|---|---|
| `hang`, `reset`, `error_503`, `rate_limited`, `garbage` | at the edge, before anything is looked at | no | no |
| `error_500`, `declined` | in place of the execution | no | yes |
| `error_after_effect` | after the execution, before its answer is stored | yes | yes, the 500 |
| `slow` | before the execution, while the key is in use; replays and reads wait as well | yes | yes |
| `slow_drip`, `lose_response` | on the way back, replays and refusals too | yes | yes, the right answer |

So a key that already has an answer keeps it: `error_500`, `declined` and `error_after_effect` do not touch replays, as
Stripe's executor would not run again. A decline is about a payer's money, so `declined` leaves reads (GET) alone.
`delay_ms` is how long any mode waits before it shows; for `slow_drip` it is the time between two bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Mode(StrEnum):
    """How the sandbox behaves."""

    NONE = "none"
    SLOW = "slow"
    HANG = "hang"
    SLOW_DRIP = "slow_drip"
    RESET = "reset"
    ERROR_500 = "error_500"
    ERROR_503 = "error_503"
    RATE_LIMITED = "rate_limited"
    DECLINED = "declined"
    GARBAGE = "garbage"
    LOSE_RESPONSE = "lose_response"
    ERROR_AFTER_EFFECT = "error_after_effect"


_DEFAULT_DELAY_MS = {Mode.SLOW: 3_000, Mode.SLOW_DRIP: 500}


class Fault(BaseModel):
    """One fault, as `PUT /_sandbox/faults` takes it and `GET /_sandbox` shows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode
    path: str | None = Field(default=None, description="A route, with its method before it or without.")
    delay_ms: Annotated[int, Field(strict=True, ge=0, le=600_000)] | None = None
    times: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None

    @property
    def delay_seconds(self) -> float:
        """How long to wait before the fault shows, or between two bytes."""
        delay_ms = _DEFAULT_DELAY_MS.get(self.mode, 0) if self.delay_ms is None else self.delay_ms
        return delay_ms / 1_000


HEALTHY = Fault(mode=Mode.NONE)


class UnknownRouteError(Exception):
    """A fault names a path that no route has."""


class FaultBoard:
    """The faults that are switched on, and the count of requests.

    Args:
        routes: Every route there is, such as `POST /v1/payment_intents`.
    """

    def __init__(self, routes: Collection[str]) -> None:
        self._paths = {*routes, *(route.partition(" ")[2] for route in routes)}
        self._faults: dict[str | None, Fault] = {}
        self.requests: Counter[str] = Counter()

    @property
    def faults(self) -> list[Fault]:
        """The faults that are switched on, `times` being what is left of them."""
        return list(self._faults.values())

    def put(self, fault: Fault) -> None:
        """Switch a fault on, in place of the one with the same path; without a path, in place of all.

        Mode `none` switches off. With a path it also shields that route from a fault of wider reach.

        Raises:
            UnknownRouteError: There is no such route.
        """
        if fault.path is None:
            self._faults.clear()
        elif fault.path not in self._paths:
            msg = f"path: {fault.path!r} is no route; use one of {', '.join(sorted(self._paths))}"
            raise UnknownRouteError(msg)
        self._faults.pop(fault.path, None)
        wider = {None, (fault.path or "").partition(" ")[2] or None} & self._faults.keys()
        if fault.mode is not Mode.NONE or wider:
            self._faults[fault.path] = fault

    def clear(self) -> None:
        """Switch every fault off and count from zero."""
        self._faults.clear()
        self.requests.clear()

    def arrive(self, route: str) -> Fault:
        """Count a request and return the fault it meets; the narrowest one that names its route wins."""
        self.requests[route] += 1
        for path in (route, route.partition(" ")[2], None):
            fault = self._faults.get(path)
            if fault is None or (fault.mode is Mode.DECLINED and route.startswith("GET ")):
                continue
            if fault.times == 1:
                del self._faults[path]
            elif fault.times is not None:
                self._faults[path] = fault.model_copy(update={"times": fault.times - 1})
            return fault
        return HEALTHY
