"""The guarded client for threads: what its answers, errors and abandoned answers do, as those for asyncio do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    ConfigError,
    Consecutive,
    EventKind,
    Outcome,
    State,
    View,
    sync,
)
from breaker.integrations.httpx import SyncBreakerTransport, SyncPerHost, classify_error
from tests.support.stores import ManualClock
from tests.unit.breaker.sync.support import in_thread

CONFIG = BreakerConfig(policy=Consecutive(3), cooldown_seconds=30, max_cooldown_seconds=600)
URL = "https://api.example.com/v1"
NAME = "api.example.com:443"


class Body(httpx.SyncByteStream):
    """A body that gives its chunks, then raises if it was told to."""

    def __init__(self, *chunks: bytes, then: BaseException | None = None) -> None:
        self._chunks = chunks
        self._then = then
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._then is not None:
            raise self._then

    def close(self) -> None:
        self.is_closed = True


class World:
    """A guarded client, what its host answers next, and the circuit behind it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = sync.MemoryStore(self.clock)
        self.requests = 0
        self.answer: Callable[[httpx.Request], httpx.Response | BaseException] = lambda _: httpx.Response(200)
        self.per_host = SyncPerHost(self.store, CONFIG)
        self.client = self.client_with(self.per_host)

    def client_with(self, breaker_for: Callable[[httpx.Request], sync.CircuitBreaker | None]) -> httpx.Client:
        return httpx.Client(
            transport=SyncBreakerTransport(httpx.MockTransport(self._handle), breaker_for=breaker_for),
            follow_redirects=True,
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        answer = self.answer(request)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def says(self, status: int, **options: Any) -> None:
        self.answer = lambda _: httpx.Response(status, **options)

    def get(self, times: int = 1) -> None:
        for _ in range(times):
            self.client.get(URL)

    def view(self, name: str = NAME) -> View:
        view = self.store.snapshot(name)
        assert view is not None
        return view

    def half_open(self) -> None:
        """Trip the circuit and let its cooldown pass."""
        self.says(500)
        self.get(3)
        assert self.view().state is State.OPEN
        self.clock.advance(30)


@pytest.fixture
def world() -> Iterator[World]:
    """A world whose client and store are closed at the end."""
    world = World()
    with world.client:
        yield world
    world.per_host.close()
    world.store.close()


def test_a_host_that_answers_5xx_is_not_asked_any_more(world: World) -> None:
    """The caller gets each answer as it is; after the third nothing is sent, and the refusal says what the last was."""
    world.says(503, text="down")
    for _ in range(3):
        response = world.client.get(URL)
        assert (response.status_code, response.text) == (503, "down")
    with pytest.raises(CallNotPermittedError) as refused:
        world.client.get(URL)
    assert world.requests == 3
    assert (refused.value.breaker, refused.value.last_error) == (NAME, "HTTP 503")


def test_a_failure_is_told_before_the_body_is_read(world: World) -> None:
    """The status alone says enough."""
    world.answer = lambda _: httpx.Response(500, stream=Body(b"down"))
    with world.client.stream("GET", URL):
        assert world.view().failures == 1


def test_an_answer_below_500_shows_that_the_host_works(world: World) -> None:
    """A refusal of the request is an answer too, and ends a run of failures."""
    world.says(500)
    world.get(2)
    world.says(404, text="an answer")
    world.get()
    assert world.view().failures == 0


def test_a_request_without_an_answer_is_a_failure(world: World) -> None:
    """A timeout of httpx counts, and the caller gets it as it is."""
    late = httpx.ReadTimeout("late")
    world.answer = lambda _: late
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout) as raised:
            world.get()
        assert raised.value is late
    assert (world.view().state, world.view().last_error) == (State.OPEN, "ReadTimeout")


def test_faults_of_this_side_are_not_held_against_the_host(world: World) -> None:
    """A full pool says nothing of the host."""
    world.answer = lambda _: httpx.PoolTimeout("full")
    for _ in range(4):
        with pytest.raises(httpx.PoolTimeout):
            world.get()
    assert world.view().failures == 0


def test_retry_after_opens_the_circuit_for_that_time(world: World) -> None:
    """One answer is enough."""
    world.says(429, headers={"Retry-After": "120"})
    world.get()
    with pytest.raises(CallNotPermittedError) as refused:
        world.get()
    assert (refused.value.retry_after_seconds, refused.value.last_error) == (120, "HTTP 429")


def test_the_end_of_the_body_settles(world: World) -> None:
    """A probe holds its place for as long as its body arrives, and closes the circuit at the end."""
    world.half_open()
    world.answer = lambda _: httpx.Response(200, stream=Body(b"one", b"two"))
    with world.client.stream("GET", URL) as response:
        chunks = []
        for chunk in response.iter_raw():
            chunks.append(chunk)
            view = world.view()
            assert (view.state, view.probes_out) == (State.HALF_OPEN, 1)
    assert chunks == [b"one", b"two"]
    assert world.view().state is State.CLOSED


def test_an_error_in_the_body_is_a_failure(world: World) -> None:
    """A host that breaks off has not recovered, whatever its status said; the caller gets the error."""
    world.half_open()
    broken = httpx.ReadError("broken")
    body = Body(b"one", then=broken)
    world.answer = lambda _: httpx.Response(200, stream=body)
    with pytest.raises(httpx.ReadError) as raised:
        world.get()
    view = world.view()
    assert raised.value is broken
    assert body.is_closed
    assert (view.state, view.reopens, view.last_error) == (State.OPEN, 1, "ReadError")


@pytest.mark.parametrize("status", [200, 302, 404])
def test_an_answer_that_is_closed_unread_shows_that_the_host_works(world: World, status: int) -> None:
    """Who looks at the status alone has an answer."""
    world.half_open()
    body = Body(b"one")
    world.answer = lambda _: httpx.Response(status, stream=body)
    with world.client.stream("GET", URL, follow_redirects=False):
        assert world.view().probes_out == 1
    assert (world.view().state, body.is_closed) == (State.CLOSED, True)


def test_closed_after_the_first_byte_is_an_answer(world: World) -> None:
    """Who has read enough has seen that the host works."""
    world.half_open()
    world.answer = lambda _: httpx.Response(200, stream=Body(b"one", b"two"))
    with world.client.stream("GET", URL) as response:
        for _ in response.iter_raw():
            break
    assert world.view().state is State.CLOSED


def test_an_answer_without_a_body_is_complete(world: World) -> None:
    """Where no body follows there is no end to wait for."""
    world.half_open()
    world.answer = lambda _: httpx.Response(204, stream=Body())
    with world.client.stream("GET", URL):
        assert world.view().state is State.CLOSED


def test_an_error_of_closing_leaves_no_permit_behind(world: World) -> None:
    """The probe is settled although the connection could not be closed, and the caller sees why."""

    class Stubborn(Body):
        def close(self) -> None:
            raise httpx.CloseError("stubborn")

    world.half_open()
    world.answer = lambda _: httpx.Response(200, stream=Stubborn(b"one"))
    with pytest.raises(httpx.CloseError), world.client.stream("GET", URL):
        pass
    assert world.view().probes_out == 0


@pytest.mark.parametrize("reads", [False, True], ids=["waiting for the answer", "reading it"])
def test_an_interrupted_request_counts_as_nothing(world: World, *, reads: bool) -> None:
    """Whoever is stopped while it waits for the host leaves the circuit as it was, a probe's place free."""
    world.half_open()
    stopped = KeyboardInterrupt()
    body = Body(b"one", then=stopped)
    world.answer = lambda _: httpx.Response(200, stream=body) if reads else stopped
    with pytest.raises(KeyboardInterrupt):
        world.get()
    view = world.view()
    assert (view.state, view.probes_out, body.is_closed) == (State.HALF_OPEN, 0, reads)


def test_a_response_that_the_caller_never_gets_is_closed() -> None:
    """Interrupted while its failure is reported: the connection goes back all the same."""

    class Interrupted(sync.MemoryStore):
        interrupted = False

        def record(self, *args: Any) -> Any:
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt
            return super().record(*args)

    store, body = Interrupted(), Body(b"down")
    transport = httpx.MockTransport(lambda _: httpx.Response(500, stream=body))
    guarded = SyncBreakerTransport(transport, breaker_for=SyncPerHost(store, CONFIG))
    with pytest.raises(KeyboardInterrupt):
        guarded.handle_request(httpx.Request("GET", URL))
    assert body.is_closed
    store.close()


def test_each_host_has_a_circuit_of_its_own(world: World) -> None:
    """It has the name that it has for asyncio, so that both kinds of a fleet share it."""
    for url in ("https://me:secret@A.example.com/x", "http://b.example.com", "http://[::1]:8080/"):
        world.client.get(url)
    assert world.store.names() == sorted(["a.example.com:443", "b.example.com:80", "[::1]:8080"])
    assert {breaker.name for breaker in world.per_host} == set(world.store.names())


def test_circuits_are_made_as_configured() -> None:
    """Prefix, hosts, limit, replica and listeners are those that were given."""
    world, events = World(), list[BreakerEvent]()
    world.says(500)
    per_host = SyncPerHost(
        world.store,
        CONFIG,
        prefix="http:",
        hosts={"api.example.com"},
        limit=1,
        replica_id="worker-1",
        listeners=[events.append],
    )
    with world.client_with(per_host) as client:
        for _ in range(3):
            client.get(URL)
        for url in ("https://stranger.example.com", "https://api.example.com:8443", "https://stranger.example.com"):
            assert client.get(url).status_code == 500
    assert world.store.names() == [f"http:{NAME}"]
    assert world.view(f"http:{NAME}").tripped_by == "worker-1"
    assert [(event.kind, event.name) for event in events] == [(EventKind.TRIPPED, f"http:{NAME}")]
    with pytest.raises(ConfigError):
        SyncPerHost(world.store, CONFIG, prefix="a b")
    world.store.close()


def test_threads_that_ask_for_a_new_host_at_once_get_one_breaker() -> None:
    """Or each of them would count for itself what happens to it."""

    class Both:
        """Lets two threads in when both have asked."""

        def __init__(self) -> None:
            self._barrier = threading.Barrier(2)

        def __contains__(self, _: object) -> bool:
            self._barrier.wait(timeout=30)
            return True

    store = sync.MemoryStore()
    per_host = SyncPerHost(store, CONFIG, hosts=Both())
    got: list[sync.CircuitBreaker | None] = []
    threads = [in_thread(lambda: got.append(per_host(httpx.Request("GET", URL)))) for _ in range(2)]
    for thread in threads:
        thread.join()
    (made,) = per_host
    assert got == [made, made]
    store.close()


def test_a_breaker_of_your_own_is_asked_with_its_own_classifiers(world: World) -> None:
    """What is a failure is then yours to say; a request without a breaker goes through."""

    def classify(result: httpx.Response) -> Outcome:
        return Outcome.FAILURE if result.status_code == 404 else Outcome.SUCCESS

    own = sync.CircuitBreaker("own", world.store, CONFIG, classify_result=classify, classify_error=classify_error)
    world.says(404, text="gone")
    with world.client_with(lambda request: own if request.url.path == "/v1" else None) as client:
        assert client.get(URL).text == "gone"
        assert client.get(f"{URL}/unguarded").text == "gone"
    assert world.view("own").failures == 1


@pytest.mark.parametrize(("then", "asked"), [(None, [200]), (httpx.ReadError("broken"), [])])
def test_a_classifier_is_asked_about_an_answer_once(world: World, then: Exception | None, asked: list[int]) -> None:
    """At the end of its body, and not again when it is closed; not at all where it broke off, which says enough."""
    seen: list[int] = []

    def classify(result: httpx.Response) -> Outcome:
        seen.append(result.status_code)
        return Outcome.SUCCESS

    own = sync.CircuitBreaker("own", world.store, CONFIG, classify_result=classify, classify_error=classify_error)
    world.says(200, stream=Body(b"charged", then=then))
    with world.client_with(lambda _: own) as client, contextlib.suppress(httpx.ReadError):
        client.get(URL)
    assert seen == asked
