"""One long-lived pytest session that runs the tests for mutant after mutant, each in a fork of itself.

Collecting the tests takes longer than most mutants live, so it is done once. The fork has the mutant, the session never
does, and a fork that hangs is ended. A session has a server of its own, which its forks use one after the other.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, Self

import pytest
import redis

from tests.mutation.mutants import ROOT, Mutant
from tests.mutation.planting import plant
from tests.support import redis_servers, valkey

# Lua is stopped by its own clock long before a test gives up; a mutant that loops for ever then fails its test.
_BUSY_MS = 500
HUNG = "the tests did not end, or ended their process"
_TESTS = [
    "tests/contract",
    "tests/mutation/test_walks.py",
    "tests/integration/breaker/test_redis_store.py",
    *(
        f"tests/unit/breaker/test_{name}.py"
        for name in ("machine", "local", "isolation", "rates", "mirror", "permitted_by_a_copy")
    ),
]
# These run parts of the scripts without a server.
_LUA_ALONE = {"test_clock", "test_limits"}
# Of the tests against the servers' own clock this one is enough, and the others take their time.
_REAL_CLOCK = "test_the_servers_clock_is_what_counts"


class Job(NamedTuple):
    """What a session is to find out.

    Attributes:
        mutant: The mutant, or None to see that the tests pass without one.
        lua: Which tests: those that run the scripts, or those that run Python.
        order: The ids of tests to begin with.
        limit_seconds: After this long the tests hang.
    """

    mutant: Mutant | None
    lua: bool
    order: Sequence[str]
    limit_seconds: float


class Verdict(NamedTuple):
    """What came of it.

    Attributes:
        killer: The test that failed first, or empty when all passed.
        seconds: How long each test took that ran.
    """

    killer: str
    seconds: dict[str, float]


def serve(connection: Connection, log: Path) -> None:
    """Take jobs and send verdicts until nobody gives any; what pytest prints goes to a file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who gives the jobs, and reaches everybody
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    options = ["--assert=plain", "--capture=no", "--tb=no", "-q", "-pno:randomly", "-pno:cacheprovider", "-otimeout=0"]
    pytest.main([*options, *_TESTS], plugins=[_Session(connection)])


class _Session:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        tests = {lua: {item.nodeid: item for item in session.items if _runs_in(item) is lua} for lua in (False, True)}
        gc.freeze()  # the forks share what the session has made so far
        with redis_servers.running("valkey", busy_reply_threshold=_BUSY_MS) as server:
            vars(valkey)["ValkeyServer"] = lambda **_: _Lent(server)
            with contextlib.suppress(EOFError, ConnectionError):
                while True:
                    job = self._connection.recv()
                    self._connection.send(self._judge(job, tests[job.lua]))
                    _empty(server)
        return True

    def _judge(self, job: Job, tests: dict[str, pytest.Item]) -> Verdict:
        """Run the tests in a fork and wait for what it says."""
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self._run_forked(job, tests, writes)
            finally:
                os._exit(1)
        os.close(writes)
        told, left_seconds = b"", job.limit_seconds
        with os.fdopen(reads, "rb", buffering=0) as pipe:
            while left_seconds > 0:
                if select.select([pipe], [], [], 1.0)[0]:
                    part = pipe.read(65536)
                    if not part:
                        break
                    told += part
                else:
                    # Seconds are counted, since a pause of the whole machine is no hanging test.
                    left_seconds -= 1
            else:
                os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            return Verdict(*json.loads(told))
        except json.JSONDecodeError:
            return Verdict(HUNG, {})

    def _run_forked(self, job: Job, tests: dict[str, pytest.Item], writes: int) -> None:
        if job.mutant is not None:
            plant(job.mutant)
        seconds: dict[str, float] = {}
        first = [tests[name] for name in job.order if name in tests]
        chosen = list(dict.fromkeys([*first, *tests.values()]))
        for item, following in zip(chosen, [*chosen[1:], None], strict=True):
            begun = time.monotonic()
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            seconds[item.nodeid] = time.monotonic() - begun
            if self._failed:
                break
        os.write(writes, json.dumps([item.nodeid if self._failed else "", seconds]).encode())
        os._exit(0)


class _Lent:
    """The session's server, as the fixture that would start one uses it."""

    def __init__(self, server: redis_servers.RedisServer) -> None:
        self.connection_url = server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _runs_in(item: pytest.Item) -> bool | None:
    """Tell whether a test runs the scripts in Valkey or the machine in Python; None for all others."""
    folder, name = Path(item.nodeid.split("::")[0]), item.name
    if folder.stem in _LUA_ALONE:
        return True
    if "contract" in folder.parts:
        # In tests that know one store only it is a parameter of another name, or none.
        callspec = getattr(item, "callspec", SimpleNamespace(params={}))
        return {"valkey": True, "memory": False}.get(callspec.params.get("store", "memory"))
    if "integration" in folder.parts:
        return True if name.startswith(_REAL_CLOCK) else None
    return name.startswith("test_a_server_walks")


def _empty(server: redis_servers.RedisServer) -> None:
    """Leave nothing of a mutant behind; a server that is still busy with one is replaced."""
    try:
        with redis.Redis.from_url(server.url, socket_timeout=2 * _BUSY_MS / 1000) as client:
            client.flushall()
            client.script_flush()
    except redis.RedisError:
        server.kill()
        server.start()
