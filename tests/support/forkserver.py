"""Processes that begin with everything imported, which takes one longer than most tests."""

from __future__ import annotations

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["breaker.sync", "tests.support.processes", "tests.support.replica"])
