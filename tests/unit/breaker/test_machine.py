"""What only the machine in Python can be asked for: what it keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from breaker import BreakerConfig, FailureRate, Mode, Outcome, Override, State, View
from breaker._draw import drawn
from breaker._machine import acquire, control, ramp_rest_ms, refusal, report
from breaker._record import MAX_EVENTS, Record
from breaker._types import Report

_NOW_MS = 1_766_000_000_000


def _failed(record: Record, config: BreakerConfig, times: int) -> Record:
    """Fail so many times, each with a permit of its own."""
    limits = config.limits()
    for number in range(times):
        record, permitted = acquire(record, f"p{number}", limits, _NOW_MS, may_probe=True)
        told = Report(
            permit_id=f"p{number}", generation=permitted.generation, outcome=Outcome.FAILURE, replica_id="replica-1"
        )
        record, _ = report(record, told, limits, _NOW_MS)
    return record


def test_a_run_keeps_fewer_ids_than_its_threshold() -> None:
    """A replica that fails alone for long, where two are asked for, fills nothing."""
    record = _failed(Record(), BreakerConfig(minimum_reporters=2), 20)
    assert record.shown.failures == 20
    assert record.counted == {"p0": _NOW_MS, "p1": _NOW_MS}
    assert record.reporters == {"replica-1": _NOW_MS}


@pytest.mark.parametrize(("window_seconds", "kept_ms"), [(60, 3_600_000), (7_200, 7_200_000)])
def test_a_replica_that_is_gone_is_forgotten(window_seconds: float, kept_ms: int) -> None:
    """Who failed last an hour ago, or a window that is longer, is no witness for anybody, and is not kept."""
    policy = FailureRate(window_seconds=window_seconds, minimum_calls=100)
    limits = BreakerConfig(policy=policy, minimum_reporters=2).limits()
    record, permitted = acquire(Record(), "p", limits, _NOW_MS, may_probe=True)
    told = Report(permit_id="p", generation=permitted.generation, outcome=Outcome.FAILURE, replica_id="replica-1")
    record, _ = report(record, told, limits, _NOW_MS)
    for later_ms, witnesses in ((kept_ms - 1, {"replica-1", "replica-2"}), (kept_ms, {"replica-2"})):
        after, _ = report(record, replace(told, replica_id="replica-2"), limits, _NOW_MS + later_ms)
        assert set(after.reporters) == witnesses


def test_buckets_that_are_in_no_window_go_with_a_row() -> None:
    """Where nobody counts a rate any more, nothing of the last one is kept for ever."""
    config = BreakerConfig(policy=FailureRate(window_seconds=10))
    record = _failed(Record(), config, 1)
    assert record.window
    row, later_ms = BreakerConfig().limits(), _NOW_MS + 10_000
    told = Report(permit_id="p", generation=record.shown.generation, outcome=Outcome.FAILURE)
    for outcome in (Outcome.FAILURE, Outcome.SUCCESS):
        record, _ = report(record, replace(told, outcome=outcome), row, later_ms)
    assert record.window == {}


def test_an_end_without_a_mode_is_none() -> None:
    """Where a hand has spoiled the mode and left its end, who is refused is told of no mode that ends."""
    seen = View(
        generation=1, state=State.OPEN, now_ms=_NOW_MS, retry_at_ms=_NOW_MS + 1_000, mode_until_ms=_NOW_MS + 600_000
    )
    refused = refusal(seen, BreakerConfig().limits(), may_probe=True)
    assert refused is not None
    assert (refused.reason, refused.retry_after_ms, refused.mode_rest_ms) == ("open", 1_000, 0)


def test_a_trip_forgets_what_was_counted() -> None:
    """What belongs to a generation goes with it."""
    record = _failed(Record(), BreakerConfig(), 3)
    assert (record.counted, record.reporters, record.window, record.probes) == ({}, {}, {}, {})


def test_the_newest_thousand_events_are_kept() -> None:
    """One more than the most drops the oldest."""
    record = Record()
    for number in range(MAX_EVENTS + 1):
        override = Override(mode=Mode.AUTO, reason=str(number), actor="anna")
        record = control(record, override, _NOW_MS)
    assert [entry.reason for entry in record.events] == [str(number) for number in range(1, 1001)]


@pytest.mark.parametrize(
    ("permit_id", "number"),
    [
        ("", 0),
        ("a", 97 * 7919),
        ("ab", (97 * 31 + 98) * 7919),
        ("\u00e9", (195 * 31 + 169) * 7919),
        ("zzzzz", 424_862 * 7919),
    ],
)
def test_a_permit_draws_by_its_bytes(permit_id: str, number: int) -> None:
    """Every implementation, in whatever language, has to draw these."""
    assert drawn(permit_id) == number % 1000


@pytest.mark.parametrize(
    ("ramp_seconds", "closed_ms_ago", "rest_ms"),
    [
        (0, 0, 0),
        (0, -1, 0),
        (0, -(10**7), 0),
        (5, 0, 5000),
        (5, 4999, 1),
        (5, 5000, 0),
        (5, -1, 0),
        (5, -(10**7), 0),
    ],
)
def test_a_ramp_ends_where_the_clock_was_set_back(ramp_seconds: float, closed_ms_ago: int, rest_ms: int) -> None:
    """Nobody knows of how much, so nothing is left of it, as where there is no ramp; a copy may answer."""
    limits = BreakerConfig(ramp_seconds=ramp_seconds).limits()
    seen = View(generation=1, now_ms=_NOW_MS, closed_at_ms=_NOW_MS - closed_ms_ago)
    assert ramp_rest_ms(seen, limits) == rest_ms
