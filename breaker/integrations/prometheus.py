"""Shows circuits to Prometheus: a collector that reads, at each scrape, what the breakers have counted anyway.

    registry.register(BreakerCollector(store, [charge, refund]))

Guarded calls do no work for it. For breakers of `breaker` and of `breaker.sync`. While Redis is away a scrape shows
what this replica knew last and the refusals since, and `switchgear_breaker_degraded` is 1. Needs the extra
`prometheus`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain
from operator import attrgetter
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from breaker import EventKind, Mode, Reason, State, Status

_TRANSITIONS = [kind for kind in EventKind if kind is not EventKind.REFUSED]


class _Breaker(Protocol):
    """What has a status: a breaker for tasks or for threads."""

    @property
    def status(self) -> Status: ...


class _Store(Protocol):
    """What knows whether it is away: a store for tasks or for threads."""

    @property
    def degraded(self) -> bool: ...


class BreakerCollector(Collector):
    """Collects what this replica knows of its circuits.

    | metric | labels | meaning |
    |---|---|---|
    | `switchgear_breaker_state` | `circuit`, `state` | 1 for the state that the circuit is in, 0 for the others |
    | `switchgear_breaker_mode` | `circuit`, `mode` | 1 for the operator's mode in force, 0 for the others |
    | `switchgear_breaker_isolated` | `circuit` | 1 while this replica stays away by itself, because it alone fails |
    | `switchgear_breaker_degraded` | | 1 while a store is away, or of no use for a circuit, and this replica guards |
    | `switchgear_breaker_refusals_total` | `circuit`, `reason` | calls of this replica that were refused |
    | `switchgear_breaker_transitions_total` | `circuit`, `transition` | what calls of this replica brought about |

    State and mode are as this replica knows them, so the replicas of a fleet may differ for a moment; a transition is
    counted by the one replica whose call brought it about, so their sum is the fleet's (`config_differs` is none, and
    counted by every replica that sees it). Every series is there from the first scrape on, with 0, so that
    `increase()` sees the first refusal as well.

    A process needs one collector, whatever stores it has: `add` shows those of a second one as well, and a registry
    refuses a second collector. Breakers of one name are shown as one circuit, as the one that heard of it last knows
    it, with what all of them have counted.

    Several worker processes are several replicas, and each counts for itself: serve the metrics of each on a port of
    its own and scrape them all, since behind one port every scrape would reach another process. The multiprocess mode
    of prometheus_client does not know collectors.

    Args:
        store: Where the circuits live.
        breakers: The breakers, one for each circuit. Each argument is iterated over at each scrape, so a list may grow;
            a `PerHost` is one too.
    """

    def __init__(self, store: _Store, *breakers: Iterable[_Breaker]) -> None:
        self._stores: list[_Store] = []
        self._breakers: list[Iterable[_Breaker]] = []
        self._looks: Counter[tuple[str, str]] = Counter()
        self.add(store, *breakers)

    def add(self, store: _Store, *breakers: Iterable[_Breaker]) -> None:
        """Show the breakers of another store too, as of `breaker.sync` in a process that has tasks and threads.

        Args:
            store: Where their circuits live.
            breakers: The breakers, iterated over at each scrape.
        """
        self._stores.append(store)
        self._breakers.extend(breakers)

    def count_refusal(self, circuit: str, reason: str) -> None:
        """Count a call that was given up after a look at its circuit, such as by `peek`; a look counts nothing itself.

        Args:
            circuit: The circuit's name; one of the breakers'.
            reason: Why the call would have been refused.
        """
        self._looks[circuit, reason] += 1

    def collect(self) -> Iterator[Metric]:
        """Read the breakers and the stores; asks neither Redis nor anybody else."""
        circuits: dict[str, list[Status]] = {}
        for breaker in chain.from_iterable(self._breakers):
            status = breaker.status
            circuits.setdefault(status.name, []).append(status)
        return self._families(circuits)

    def describe(self) -> Iterator[Metric]:
        """Name the metrics, so that a registry notices a second collector."""
        return self._families({})

    def _families(self, circuits: dict[str, list[Status]]) -> Iterator[Metric]:
        state = _gauge("state", "1 for the state that the circuit is in, as this replica knows it.", "state")
        mode = _gauge("mode", "1 for the operator's mode in force, as this replica knows it.", "mode")
        isolated = _gauge("isolated", "1 while this replica stays away by itself, because it alone fails.")
        refusals = _counter("refusals", "Calls of this replica that were refused.", "reason")
        transitions = _counter("transitions", "Transitions that calls of this replica brought about.", "transition")
        for name, statuses in circuits.items():
            newest = max(statuses, key=attrgetter("generation"))
            _one_of(state, name, State, newest.state)
            _one_of(mode, name, Mode, newest.mode)
            isolated.add_metric([name], any(status.isolated for status in statuses))
            for reason in Reason:
                refused = sum(status.refused.get(reason, 0) for status in statuses) + self._looks[name, reason]
                refusals.add_metric([name, reason.value], refused)
            for kind in _TRANSITIONS:
                transitions.add_metric([name, kind.value], sum(status.transitions.get(kind, 0) for status in statuses))
        degraded = GaugeMetricFamily(
            "switchgear_breaker_degraded",
            "1 while a store is away or of no use, and this replica guards by itself.",
            value=any(said.degraded for said in chain(self._stores, *circuits.values())),
        )
        yield from (state, mode, isolated, degraded, refusals, transitions)


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"switchgear_breaker_{name}", meaning, labels=["circuit", *labels])


def _counter(name: str, meaning: str, label: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"switchgear_breaker_{name}", meaning, labels=["circuit", label])


def _one_of(family: GaugeMetricFamily, name: str, words: type[StrEnum], current: StrEnum) -> None:
    for word in words:
        family.add_metric([name, word.value], word is current)
