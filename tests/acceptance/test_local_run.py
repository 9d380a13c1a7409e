from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
import redis

from tests.support.processes import LocalRun, data_directory, started, wait_until
from tests.support.system import REPLICAS, System


def test_runs_leave_their_data_and_no_process() -> None:
    """After Ctrl-C nothing runs; a second run finds the data; even when that is killed, nothing survives."""
    with data_directory() as directory:
        with started(directory) as first:
            intent = System(first).create().json()
            processes = first.processes()
            names = {process.name() for process in processes}

            assert first.interrupt() == 0

        assert {"postgres", "valkey-server"} <= names
        assert not [process for process in processes if process.is_running()]
        assert not _processes_of(directory)
        assert "Traceback" not in first.output

        with started(directory) as second:
            second.values["TOKEN"] = first.values["TOKEN"]
            read = System(second).read(intent["intentId"])
            processes = second.processes()

            second.process.kill()
            second.process.wait()

        assert read.status_code == 200
        assert read.json().items() >= intent.items()
        wait_until(lambda: not any(process.is_running() for process in processes), "all children have ended")


def test_taken_port_gives_one_clear_line() -> None:
    """If somebody listens on the port already, one line names it and the way out, and nothing is started."""
    with data_directory() as directory, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        run = LocalRun(directory, PORT=str(port))

        assert run.process.wait(timeout=20) == 1
        assert run.output.count("\n") == 1
        assert f"port {port} is already taken" in run.output
        assert "PORT=" in run.output
        assert not directory.exists()


def test_nonsense_in_the_environment_gives_one_clear_line() -> None:
    """A port that is none is refused in one line."""
    with data_directory() as directory:
        run = LocalRun(directory, PORT="eighty")

        assert run.process.wait(timeout=20) == 1
        assert run.output.splitlines() == ["make run: PORT must be a number from 0 to 65535"]


def test_refused_setting_is_shown_and_ends_the_run() -> None:
    """A setting that the service refuses ends the run with the service's own words, and leaves no process."""
    with data_directory() as directory:
        run = LocalRun(directory, REPLICAS="1", SWITCHGEAR_BREAKER_COOLDOWN_SECONDS="soon")

        assert run.process.wait(timeout=50) == 1
        assert "SWITCHGEAR_BREAKER_COOLDOWN_SECONDS" in run.output
        assert "Traceback" not in run.output
        assert not _processes_of(directory)


def test_second_run_in_the_same_folder_is_refused(system: System) -> None:
    """Two runs never share one data directory."""
    with data_directory() as other:
        second = subprocess.run(
            LocalRun.command(),
            env=LocalRun.environment(system.run.directory),
            cwd=other.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "another run uses" in second.stderr


@pytest.mark.parametrize("name", ["api-2", "valkey", "postgres", "sandbox"])
def test_killed_child_is_started_again(system: System, name: str) -> None:
    """Whatever part of the system is killed comes back by itself, and the system works again."""
    intent = system.create().json()
    killed = system.run.find(name)

    killed.send_signal(signal.SIGKILL)

    wait_until(lambda: _another_runs(system.run, name, killed.pid), f"{name} runs again")
    working: set[str] = set()
    wait_until(lambda: _all_work(system, intent["intentId"], working), "every replica works again")
    assert f"{name} was ended by SIGKILL; restarting it" in system.run.output


def _another_runs(run: LocalRun, name: str, pid: int) -> bool:
    try:
        return bool(run.find(name).pid != pid)
    except AssertionError:
        return False


def _all_work(system: System, intent_id: str, working: set[str]) -> bool:
    """Ask once more: has every replica created an intent by now, can the old one be read, does Redis answer?"""
    try:
        created, read = system.create(), system.read(intent_id)
        system.circuit()
    except (httpx.TransportError, redis.RedisError):
        return False
    if created.status_code == 201:
        working.add(created.headers["X-Replica-Id"])
    return working == REPLICAS and read.status_code == 200


def _processes_of(directory: Path) -> list[psutil.Process]:
    """Every process of the machine that was started for the directory."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if str(directory) in " ".join(process.info["cmdline"] or ())
        or (process.info["environ"] or {}).get("SWITCHGEAR_LOCAL_DIR") == str(directory)
    ]
