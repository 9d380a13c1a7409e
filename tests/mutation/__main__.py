"""Changes the machine in many small ways and sees that the tests notice: `make mutants`.

Ten to twenty minutes; `make mutants SAMPLE=200 SEED=1` draws some of them and writes no page. A run that was
interrupted goes on where it was, as long as nothing has changed; a later run begins with the test that killed a mutant
last time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait

from rich.console import Console

from tests.mutation import report
from tests.mutation.lua_mutants import lua_changes
from tests.mutation.memory import Memory
from tests.mutation.mutants import PYTHON, ROOT, Mutant, mutants_of, sampled
from tests.mutation.python_mutants import python_changes
from tests.mutation.report import Found
from tests.mutation.session import Job, Verdict, serve
from tests.mutation.test_walks import WALKS

_PROGRESS_EVERY = 50
_BASELINE_SECONDS = 600.0
_END_SECONDS = 60.0
_console = Console(highlight=False, markup=False, soft_wrap=True)


def main() -> int:
    """Run and say what survived; 1 when something survived that nobody has explained."""
    arguments = _arguments()
    everything = [mutant for mutant in _all_mutants() if arguments.only in mutant.key]
    chosen = sampled(everything, arguments.sample, arguments.seed)
    memory = Memory()
    try:
        with _sessions(arguments.processes) as sessions:
            _learn_seconds(sessions, memory)
            found = _judge_all(chosen, sessions, memory)
    finally:
        memory.keep(finished=False)
    explained = report.explanations()
    missing = report.unexplained(found, explained)
    for key in missing:
        _console.print(f"survived and not explained: {key}")
    if not memory.is_current:
        _console.print("files have changed meanwhile, so this says nothing for certain")
        return 1
    if len(chosen) == len(everything) and not arguments.only:
        for key in report.outdated(found, explained):
            _console.print(f"explained, and does not survive: {key}")
        report.write(found, explained, WALKS)
        memory.keep(finished=True)
    return 1 if missing else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--sample", type=int, default=0, help="how many to draw; by default all")
    parser.add_argument("--seed", type=int, default=1, help="which ones to draw")
    parser.add_argument("--only", default="", help="a text that the mutant's key must contain")
    parser.add_argument("--processes", type=int, default=2, help="how many run at once")
    return parser.parse_args()


def _all_mutants() -> Iterator[Mutant]:
    for module in PYTHON:
        path = f"breaker/{module}.py"
        source = (ROOT / path).read_text(encoding="utf-8")
        yield from mutants_of(path, source, python_changes(source))
    for file in sorted((ROOT / "breaker" / "lua").glob("*.lua")):
        source = file.read_text(encoding="utf-8")
        yield from mutants_of(str(file.relative_to(ROOT)), source, lua_changes(source))


@contextmanager
def _sessions(count: int) -> Iterator[list[Connection]]:
    """Start the sessions, and end them afterwards."""
    context = multiprocessing.get_context("spawn")
    logs = ROOT / ".cache" / "mutation"
    logs.mkdir(parents=True, exist_ok=True)
    connections, processes = [], []
    for number in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, logs / f"session-{number}.log"))
        process.start()
        theirs.close()
        connections.append(ours)
        processes.append(process)
    try:
        yield connections
    finally:
        # With nobody to take jobs from a session ends its server and then itself.
        for connection in connections:
            connection.close()
        for process in processes:
            process.join(_END_SECONDS)
            process.kill()


def _learn_seconds(sessions: list[Connection], memory: Memory) -> None:
    """See that the tests pass without a mutant, and how long each takes."""
    for lua in (False, True):
        sessions[0].send(Job(None, lua, (), _BASELINE_SECONDS))
        verdict = _received(sessions[0])
        if verdict.killer:
            sys.exit(f"this test fails without any mutant: {verdict.killer}")
        memory.learn_seconds(verdict.seconds, lua=lua)
        language = "the scripts" if lua else "the machine in Python"
        _console.print(f"{len(verdict.seconds)} tests of {language} pass in {sum(verdict.seconds.values()):.0f} s")


def _received(session: Connection) -> Verdict:
    try:
        verdict = session.recv()
    except (EOFError, ConnectionError):
        verdict = None
    if not isinstance(verdict, Verdict):
        sys.exit("a session ended; its log is in .cache/mutation")
    return verdict


def _judge_all(chosen: list[Mutant], sessions: list[Connection], memory: Memory) -> list[Found]:
    """Give each session one mutant after the other."""
    left = [mutant for mutant in chosen if mutant.key not in memory.verdicts]
    if len(left) < len(chosen):
        _console.print(f"{len(chosen) - len(left)} are known from the run that was interrupted")
    begun, waiting, busy, survived = time.monotonic(), left[::-1], dict[Connection, Mutant](), 0
    while waiting or busy:
        for session in sessions:
            if waiting and session not in busy:
                mutant = busy[session] = waiting.pop()
                limit_seconds = memory.limit_seconds(lua=mutant.is_lua)
                session.send(Job(mutant, mutant.is_lua, memory.order(mutant), limit_seconds))
        for session in [session for session in wait(list(busy)) if isinstance(session, Connection)]:
            mutant = busy.pop(session)
            killer = _received(session).killer
            memory.learn(mutant, killer)
            if not killer:
                survived += 1
                _console.print(f"survived: line {mutant.line} of {mutant.key}")
            done = len(left) - len(waiting) - len(busy)
            if done % _PROGRESS_EVERY == 0:
                minutes = (time.monotonic() - begun) / 60
                rest = minutes / done * (len(left) - done)
                _console.print(f"{done} of {len(left)}, {survived} survived, {minutes:.1f} min, {rest:.0f} min to go")
                memory.keep(finished=False)
    return [Found(mutant, memory.verdicts[mutant.key]) for mutant in chosen]


if __name__ == "__main__":
    sys.exit(main())
