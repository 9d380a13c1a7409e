"""What answers, errors and abandoned answers of a host do to its circuit, and what they leave alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breaker import (
    BreakerConfig,
    BreakerEvent,
    CallNotPermittedError,
    CircuitBreaker,
    ConfigError,
    Consecutive,
    EventKind,
    MemoryStore,
    OpenFor,
    Outcome,
    State,
    View,
)
from breaker.integrations.httpx import BreakerTransport, PerHost, classify_error, describe_error
from tests.support.stores import ManualClock

CONFIG = BreakerConfig(policy=Consecutive(3), cooldown_seconds=30, max_cooldown_seconds=600)
URL = "https://api.example.com/v1"
NAME = "api.example.com:443"
YEAR_SECONDS = 365 * 24 * 3600.0
# Whatever a header can hold; digits and dates alike are more likely to be understood.
HEADERS = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"])) | st.from_regex(
    r"[-0-9:, GMT]{1,400}", fullmatch=True
)

Answer = Callable[[httpx.Request], Any]


class Body(httpx.AsyncByteStream):
    """A body that gives its chunks, then waits or raises if it was told to."""

    def __init__(self, *chunks: bytes, then: BaseException | asyncio.Event | None = None) -> None:
        self._chunks = chunks
        self._then = then
        self.waits = asyncio.Event()
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if isinstance(self._then, asyncio.Event):
            self.waits.set()
            await self._then.wait()
        elif self._then is not None:
            raise self._then

    async def aclose(self) -> None:
        self.is_closed = True


class World:
    """A guarded client, what its host answers next, and the circuit behind it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.requests = 0
        self.answer: Answer = lambda _: httpx.Response(200)
        self.per_host = PerHost(self.store, CONFIG)
        self.client = self.client_with(self.per_host)

    def client_with(self, breaker_for: Callable[[httpx.Request], CircuitBreaker | None]) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=BreakerTransport(httpx.MockTransport(self._handle), breaker_for=breaker_for),
            follow_redirects=True,
        )

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        answer = self.answer(request)
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, httpx.Response)
        return answer

    def says(self, status: int, **options: Any) -> None:
        self.answer = lambda _: httpx.Response(status, **options)

    async def get(self, times: int = 1) -> None:
        for _ in range(times):
            await self.client.get(URL)

    async def view(self, name: str = NAME) -> View:
        view = await self.store.snapshot(name)
        assert view is not None
        return view

    async def half_open(self) -> None:
        """Trip the circuit and let its cooldown pass."""
        self.says(500)
        await self.get(3)
        assert (await self.view()).state is State.OPEN
        self.clock.advance(30)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A world whose client is closed at the end."""
    world = World()
    async with world.client:
        yield world
    await world.per_host.aclose()


async def test_a_host_that_answers_5xx_is_not_asked_any_more(world: World) -> None:
    """The caller gets each answer as it is; after the third nothing is sent, and the refusal says what the last was."""
    world.says(503, text="down")
    for _ in range(3):
        response = await world.client.get(URL)
        assert (response.status_code, response.text) == (503, "down")
    with pytest.raises(CallNotPermittedError) as refused:
        await world.client.get(URL)
    assert world.requests == 3
    assert (refused.value.breaker, refused.value.last_error) == (NAME, "HTTP 503")


async def test_a_failure_is_told_before_the_body_is_read(world: World) -> None:
    """The status alone says enough: a body that drips for minutes does not keep the fleet from knowing."""
    never = asyncio.Event()
    world.answer = lambda _: httpx.Response(500, stream=Body(b"o", then=never))
    async with world.client.stream("GET", URL):
        assert (await world.view()).failures == 1


@pytest.mark.parametrize("status", [200, 301, 304, 400, 401, 404, 409, 422])
async def test_any_other_answer_shows_that_the_host_works(world: World, status: int) -> None:
    """A refusal of the request is an answer too, and ends a run of failures."""
    world.says(500)
    await world.get(2)
    world.says(status, text="an answer")
    await world.get()
    assert (await world.view()).failures == 0


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("late"),
        httpx.ReadTimeout("late"),
        httpx.ReadError("broken"),
        httpx.RemoteProtocolError("nonsense"),
    ],
)
async def test_a_request_without_an_answer_is_a_failure(world: World, error: httpx.TransportError) -> None:
    """Timeouts and broken connections count, and the caller gets them as they are."""
    world.answer = lambda _: error
    for _ in range(3):
        with pytest.raises(type(error)) as raised:
            await world.get()
        assert raised.value is error
    view = await world.view()
    assert (view.state, view.last_error) == (State.OPEN, type(error).__name__)


@pytest.mark.parametrize(
    "error",
    [
        httpx.PoolTimeout("full"),
        httpx.LocalProtocolError("bad header"),
        httpx.UnsupportedProtocol("ftp"),
        OSError("own"),
    ],
)
async def test_faults_of_this_side_are_not_held_against_the_host(world: World, error: Exception) -> None:
    """What was never sent, or could not be, says nothing of the host."""
    world.answer = lambda _: error
    for _ in range(4):
        with pytest.raises(type(error)):
            await world.get()
    assert (await world.view()).failures == 0


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_opens_the_circuit_for_that_time(world: World, status: int) -> None:
    """One answer is enough, and the circuit is open for as long as it says."""
    world.says(status, headers={"Retry-After": "120"})
    await world.get()
    with pytest.raises(CallNotPermittedError) as refused:
        await world.get()
    assert (refused.value.retry_after_seconds, refused.value.last_error) == (120, f"HTTP {status}")


async def test_a_long_retry_after_is_believed_up_to_the_longest_cooldown(world: World) -> None:
    """No host can send the whole fleet away for years."""
    world.says(503, headers={"Retry-After": "9" * 30})
    await world.get()
    assert (await world.view()).retry_after_seconds == 600


async def test_a_429_without_a_time_is_neither_a_failure_nor_a_recovery(world: World) -> None:
    """It trips nothing while closed, and a probe that meets it closes nothing and gives its place back."""
    world.says(429)
    await world.get(5)
    assert (await world.view()).failures == 0
    await world.half_open()
    world.says(429)
    await world.get(2)
    view = await world.view()
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)


async def test_the_end_of_the_body_settles(world: World) -> None:
    """A probe holds its place for as long as its body arrives, and closes the circuit at the end."""
    await world.half_open()
    world.answer = lambda _: httpx.Response(200, stream=Body(b"one", b"two"))
    async with world.client.stream("GET", URL) as response:
        chunks = []
        async for chunk in response.aiter_raw():
            chunks.append(chunk)
            view = await world.view()
            assert (view.state, view.probes_out) == (State.HALF_OPEN, 1)
    assert chunks == [b"one", b"two"]
    assert (await world.view()).state is State.CLOSED


async def test_an_error_in_the_body_is_a_failure(world: World) -> None:
    """A host that breaks off has not recovered, whatever its status said; the caller gets the error."""
    await world.half_open()
    broken = httpx.ReadError("broken")
    body = Body(b"one", then=broken)
    world.answer = lambda _: httpx.Response(200, stream=body)
    with pytest.raises(httpx.ReadError) as raised:
        await world.get()
    view = await world.view()
    assert raised.value is broken
    assert body.is_closed
    assert (view.state, view.reopens, view.last_error) == (State.OPEN, 1, "ReadError")


@pytest.mark.parametrize("status", [200, 302, 404])
async def test_an_answer_that_is_closed_unread_shows_that_the_host_works(world: World, status: int) -> None:
    """Who looks at the status alone has an answer, or such a host would stay half-open for ever."""
    await world.half_open()
    body = Body(b"one")
    world.answer = lambda _: httpx.Response(status, stream=body)
    async with world.client.stream("GET", URL, follow_redirects=False):
        view = await world.view()
        assert (view.state, view.probes_out) == (State.HALF_OPEN, 1)
    assert ((await world.view()).state, body.is_closed) == (State.CLOSED, True)


async def test_a_429_that_is_closed_unread_closes_nothing(world: World) -> None:
    """Its head says that it tells nothing of the host's health, and nobody's reading changes that."""
    await world.half_open()
    world.answer = lambda _: httpx.Response(429, stream=Body(b"one"))
    async with world.client.stream("GET", URL):
        pass
    view = await world.view()
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)


async def test_an_answer_whose_reader_is_cancelled_elsewhere_is_an_answer(world: World) -> None:
    """Cancelled while it did not wait for the host: the host has answered, and nothing was asked of it since."""
    await world.half_open()
    world.answer = lambda _: httpx.Response(200, stream=Body(b"one"))
    begun = asyncio.Event()

    async def look_and_wait() -> None:
        async with world.client.stream("GET", URL):
            begun.set()
            await asyncio.Event().wait()

    request = asyncio.create_task(look_and_wait())
    await begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (await world.view()).state is State.CLOSED


async def test_closed_after_the_first_byte_is_an_answer(world: World) -> None:
    """Who has read enough has seen that the host works."""
    await world.half_open()
    world.answer = lambda _: httpx.Response(200, stream=Body(b"one", b"two"))
    async with world.client.stream("GET", URL) as response:
        async for _ in response.aiter_raw():
            break
    assert (await world.view()).state is State.CLOSED


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [("HEAD", 200, {}), ("GET", 101, {}), ("GET", 204, {}), ("GET", 200, {"Content-Length": "0"})],
)
async def test_an_answer_without_a_body_is_complete(
    world: World, method: str, status: int, headers: dict[str, str]
) -> None:
    """Where no body follows there is no end to wait for: a probe that opens a web socket does not last as long."""
    await world.half_open()
    world.answer = lambda _: httpx.Response(status, headers=headers, stream=Body())
    async with world.client.stream(method, URL):
        assert (await world.view()).state is State.CLOSED


async def test_an_error_of_closing_leaves_no_permit_behind(world: World) -> None:
    """The probe is settled although the connection could not be closed, and the caller sees why."""

    class Stubborn(Body):
        async def aclose(self) -> None:
            raise httpx.CloseError("stubborn")

    await world.half_open()
    world.answer = lambda _: httpx.Response(200, stream=Stubborn(b"one"))
    with pytest.raises(httpx.CloseError):
        async with world.client.stream("GET", URL):
            pass
    assert (await world.view()).probes_out == 0


async def test_a_cancelled_request_counts_as_nothing(world: World) -> None:
    """Whoever goes away while the host is silent leaves the circuit as it was, a probe's place free."""
    await world.half_open()
    world.answer = lambda _: asyncio.Event()
    request = asyncio.create_task(world.get())
    while world.requests < 4:  # noqa: ASYNC110 - ends when the request has been sent
        await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    view = await world.view()
    assert (view.state, view.probes_out) == (State.HALF_OPEN, 0)


@pytest.mark.parametrize("chunks", [[], [b"one"]], ids=["not begun", "begun"])
async def test_a_cancelled_reader_counts_as_nothing(world: World, chunks: list[bytes]) -> None:
    """The same while a body does not begin or does not go on."""
    await world.half_open()
    body = Body(*chunks, then=asyncio.Event())
    world.answer = lambda _: httpx.Response(200, stream=body)
    request = asyncio.create_task(world.get())
    await body.waits.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    view = await world.view()
    assert (view.state, view.probes_out, body.is_closed) == (State.HALF_OPEN, 0, True)


async def test_a_response_that_the_caller_never_gets_is_closed() -> None:
    """Cancelled while its failure is reported: the connection goes back all the same."""
    reporting = asyncio.Event()

    class SlowStore(MemoryStore):
        async def record(self, *_: Any) -> Any:
            reporting.set()
            await asyncio.Event().wait()

    body = Body(b"down")
    transport = httpx.MockTransport(lambda _: httpx.Response(500, stream=body))
    guarded = BreakerTransport(transport, breaker_for=PerHost(SlowStore(), CONFIG))
    request = asyncio.create_task(guarded.handle_async_request(httpx.Request("GET", URL)))
    await reporting.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert body.is_closed
    (stuck,) = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    stuck.cancel()
    await asyncio.wait([stuck])


async def test_each_host_has_a_circuit_of_its_own(world: World) -> None:
    """The name is host and port, whatever the path, whoever the user; a redirect is a request to another host."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/moved":
            return httpx.Response(307, headers={"Location": "http://b.example.com/"}, text="there")
        return httpx.Response(200)

    world.answer = answer
    for url in (
        "https://me:secret@A.example.com/x",
        "https://a.example.com/moved",
        "http://[::1]:8080/",
        "http://ü.example",
    ):
        await world.client.get(url)
    assert await world.store.names() == sorted(
        ["a.example.com:443", "b.example.com:80", "[::1]:8080", "xn--tda.example:80"]
    )
    assert {breaker.name for breaker in world.per_host} == set(await world.store.names())


async def test_circuits_are_made_as_configured() -> None:
    """Prefix, replica and listeners are those that were given."""
    world, events = World(), list[BreakerEvent]()
    world.says(500)
    per_host = PerHost(world.store, CONFIG, prefix="http:", replica_id="api-1", listeners=[events.append])
    async with world.client_with(per_host) as client:
        for _ in range(3):
            await client.get(URL)
    view = await world.view(f"http:{NAME}")
    assert view.tripped_by == "api-1"
    assert [(event.kind, event.name) for event in events] == [(EventKind.TRIPPED, f"http:{NAME}")]


async def test_hosts_beyond_the_limit_are_not_guarded(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever can choose hosts can fill neither this process nor the store; one line says that it happens."""
    world = World()
    per_host = PerHost(world.store, CONFIG, limit=2)
    world.says(500)
    async with world.client_with(per_host) as client:
        with caplog.at_level(logging.WARNING, logger="breaker"):
            for number in range(50):
                assert (await client.get(f"https://host-{number}.example.com")).status_code == 500
        for _ in range(5):
            assert (await client.get("https://host-49.example.com")).status_code == 500
    assert await world.store.names() == ["host-0.example.com:443", "host-1.example.com:443"]
    assert len(caplog.records) == 1


async def test_only_the_hosts_that_were_named_are_guarded() -> None:
    """Strangers take no places."""
    world = World()
    per_host = PerHost(world.store, CONFIG, hosts={"api.example.com"})
    async with world.client_with(per_host) as client:
        await client.get("https://stranger.example.com")
        await client.get(URL)
        await client.get("https://api.example.com:8443")
    assert await world.store.names() == ["api.example.com:443", "api.example.com:8443"]


async def test_a_host_whose_name_is_too_long_for_a_circuit_is_not_guarded(world: World) -> None:
    """Its requests go through."""
    host = ".".join(["h" * 60] * 4)
    assert (await world.client.get(f"https://{host}")).status_code == 200
    assert await world.store.names() == []


@pytest.mark.parametrize("url", ["ftp://evil", "ftp://evil:443/", "ws://evil", "custom:evil"])
def test_what_is_not_http_takes_no_place(url: str) -> None:
    """Only `http` and `https` are guarded: a circuit counts what an HTTP host answers."""
    per_host = PerHost(MemoryStore(), CONFIG)
    assert per_host(httpx.Request("GET", url)) is None
    assert list(per_host) == []


@pytest.mark.parametrize("options", [{"prefix": "a b"}, {"prefix": "{"}, {"limit": 0}])
def test_nonsense_is_refused_at_construction(options: dict[str, Any]) -> None:
    """A prefix that no name can begin with must not leave every request unguarded in silence."""
    with pytest.raises(ConfigError):
        PerHost(MemoryStore(), CONFIG, **options)


async def test_a_breaker_of_your_own_is_asked_with_its_own_classifiers(world: World) -> None:
    """What is a failure is then yours to say, of answers and of errors, and the caller gets what it gets."""
    seen: list[Any] = []

    def classify(result: httpx.Response) -> Outcome:
        seen.append(result.status_code)
        return Outcome.FAILURE if result.status_code == 404 else Outcome.SUCCESS

    def forgive(error: Exception) -> Outcome:
        assert isinstance(error, httpx.HTTPStatusError)
        seen.append((str(error), error.request.url.host))
        return Outcome.IGNORED

    own = CircuitBreaker("own", world.store, CONFIG, classify_result=classify, classify_error=forgive)
    async with world.client_with(lambda _: own) as client:
        world.says(501)
        await client.get(URL)
        world.says(404, text="gone")
        assert (await client.get(URL)).text == "gone"
    assert seen == [("HTTP 501", "api.example.com"), 404]
    assert (await world.view("own")).failures == 1


@pytest.mark.parametrize(("then", "asked"), [(None, [200]), (httpx.ReadError("broken"), [])])
async def test_a_classifier_is_asked_about_an_answer_once(
    world: World, then: Exception | None, asked: list[int]
) -> None:
    """At the end of its body, and not again when it is closed; not at all where it broke off, which says enough."""
    seen: list[int] = []

    def classify(result: httpx.Response) -> Outcome:
        seen.append(result.status_code)
        return Outcome.SUCCESS

    own = CircuitBreaker("own", world.store, CONFIG, classify_result=classify, classify_error=classify_error)
    world.says(200, stream=Body(b"charged", then=then))
    async with world.client_with(lambda _: own) as client:
        with contextlib.suppress(httpx.ReadError):
            await client.get(URL)
    assert seen == asked


async def test_a_date_in_retry_after_is_read_by_the_hosts_own_clock() -> None:
    """A clock that goes wrong, here or there, makes no difference."""
    there = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    headers = {"Date": format_datetime(there, usegmt=True)}
    headers["Retry-After"] = format_datetime(there + timedelta(seconds=90), usegmt=True)
    assert classify_error(_status_error(503, headers)) == OpenFor(90)


@pytest.mark.parametrize("headers", [{}, {"Date": ""}, {"Date": "soon"}, {"Date": "Sat, 99 Feb 2001 04:05:06 GMT"}])
async def test_a_date_in_retry_after_is_read_by_our_clock_if_the_host_tells_no_time(headers: dict[str, str]) -> None:
    """It is all there is to go by, also when what the host says of the time is nonsense."""
    at = datetime.now(UTC) + timedelta(seconds=100)
    verdict = classify_error(_status_error(503, {**headers, "Retry-After": format_datetime(at, usegmt=True)}))
    assert isinstance(verdict, OpenFor)
    assert 90 < verdict.seconds <= 100


@pytest.mark.parametrize(
    "value",
    ["", "0", "-5", "1.5", "soon", "Sat, 03 Feb 2001 04:05:06 GMT", "Sat, 03 Feb 2001 04:05:06 -0000"],
)
async def test_a_retry_after_that_says_nothing_usable_leaves_an_ordinary_failure(value: str) -> None:
    """A time that is past, or no time at all, opens nothing at once."""
    assert classify_error(_status_error(503, {"Retry-After": value})) is Outcome.FAILURE
    assert classify_error(_status_error(429, {"Retry-After": value})) is Outcome.IGNORED


@pytest.mark.parametrize("value", ["9" * 300, "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_retry_after_beyond_all_measure_is_a_year(value: str) -> None:
    """Nobody can be told to stay away for longer, and nothing has to reckon with more."""
    assert classify_error(_status_error(503, {"Retry-After": value})) == OpenFor(YEAR_SECONDS)


@settings(deadline=None)
@given(
    value=HEADERS | st.datetimes(timezones=st.just(UTC)).map(format_datetime),
    date=HEADERS | st.datetimes(timezones=st.just(UTC)).map(format_datetime),
)
def test_no_header_breaks_the_classifier(value: str, date: str) -> None:
    """Whatever a host sends, there is a verdict, and a time to stay away is a time."""
    headers = [(b"Retry-After", value.encode("latin-1")), (b"Date", date.encode("latin-1"))]
    verdict = classify_error(_status_error(503, httpx.Headers(headers)))
    assert verdict is Outcome.FAILURE or (isinstance(verdict, OpenFor) and 0 < verdict.seconds <= YEAR_SECONDS)


def test_no_text_of_an_error_gets_into_the_record() -> None:
    """It may hold a URL with a secret, as that of `raise_for_status` does."""
    response = httpx.Response(503, request=httpx.Request("GET", "https://me:secret@host"))
    with pytest.raises(httpx.HTTPStatusError) as raised:
        response.raise_for_status()
    assert describe_error(raised.value) == "HTTP 503"
    assert describe_error(httpx.ReadTimeout("https://me:secret@host")) == "ReadTimeout"


def _status_error(status: int, headers: httpx.Headers | dict[str, str]) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", URL)
    return httpx.HTTPStatusError(f"HTTP {status}", request=request, response=httpx.Response(status, headers=headers))
