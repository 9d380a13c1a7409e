from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.support.processes import REPOSITORY, LocalRun
from tests.support.system import System


def test_demo_plays_an_outage_against_the_fleet_that_runs(system: System, tmp_path: Path) -> None:
    """The demo trips the circuit, sees a probe fail and one succeed, sums up, saves the picture, leaves all healthy."""
    picture = tmp_path / "outage.svg"

    demo = subprocess.run(
        [sys.executable, "-m", "service.demo", "--save", str(picture)],
        cwd=REPOSITORY,
        env=LocalRun.environment(system.run.directory),
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )

    assert demo.returncode == 0, demo.stderr
    assert f"against the fleet that runs at {system.url('')}" in demo.stdout
    told = [demo.stdout.index(words) for words in ("TRIP", "OPEN AGAIN", "CLOSED", "one after each cooldown")]
    assert told == sorted(told)
    assert ET.parse(picture).getroot().tag.endswith("svg")
    assert system.create().status_code == 201
