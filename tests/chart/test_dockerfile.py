"""The image as text, because there is no engine to build it with here; what can be run of it is run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from importlib.metadata import requires
from pathlib import PurePosixPath

from packaging.requirements import Requirement

from tests.chart.helm import Helm, container, only
from tests.chart.image import ROOT, Image, arguments, copied, in_context


def test_everything_copied_exists_and_passes_the_ignore_file() -> None:
    """No COPY fails for want of its source."""
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert in_context(PurePosixPath(source)), source


def test_everything_downloaded_is_checked_by_hash() -> None:
    """The image installs the locked file, in which each requirement has its hashes, and nothing without."""
    installs = [command for rest in arguments("RUN") for command in rest.split("&&") if " install " in command]
    assert len(installs) == 3
    assert all("--require-hashes" in command or "--no-index" in command for command in installs)
    assert "-r /tmp/service.txt" in installs[0]
    locked = (ROOT / "requirements" / "service.txt").read_text().replace("\\\n", " ")
    requirements = [line for line in locked.splitlines() if line and not line.lstrip().startswith("#")]
    assert requirements
    assert all("--hash=sha256:" in line for line in requirements)


def test_wheel_is_built_by_what_is_locked() -> None:
    """The build takes its backend and all that this needs out of the lock file; pip would refuse an unlocked rest."""
    (select,) = [rest.partition(">")[0] for rest in arguments("RUN") if rest.startswith("awk")]
    command = shlex.split(select.replace("/tmp/", "requirements/"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    taken = set(re.findall(r"^([\w-]+)==", done.stdout, flags=re.MULTILINE))
    needed = {Requirement(line) for line in requires("hatchling") or []}
    assert taken == {"hatchling"} | {need.name for need in needed if not need.marker or need.marker.evaluate()}


def test_image_runs_as_a_number_that_is_not_root() -> None:
    """Kubernetes can see that the user is not root only when it is a number."""
    (user,) = arguments("USER")
    assert all(int(part) > 0 for part in user.split(":"))


def test_image_and_chart_start_the_same_server(helm4: Helm) -> None:
    """The image alone serves as it does in the chart, and no entry point stands before the chart's arguments."""
    (command,) = arguments("CMD")
    assert json.loads(command) == container(only(helm4.render({}), "Deployment")["spec"]["template"])["args"]
    assert not arguments("ENTRYPOINT")
    assert "PYTHONUNBUFFERED=1" in shlex.split(arguments("ENV")[-1])


def test_image_has_nothing_of_the_local_run(image: Image) -> None:
    """Neither the sandbox nor the local run nor the tests reach production, and all that serves does."""
    files = {path.relative_to(image.packages).as_posix() for path in image.packages.rglob("*") if path.is_file()}
    assert {"service/app.py", "breaker/__init__.py", "breaker/lua/acquire.lua"} <= files
    assert not [file for file in files if re.match(r"service/(sandbox|local|demo)|tests|.*[.]pyc", file)]
    assert {path.name for path in image.app.iterdir()} == {"pyproject.toml", "migrations"}


def test_server_misses_nothing_that_was_left_out(image: Image) -> None:
    """The server can be imported from the image's files alone."""
    with image.start(["python", "-c", "import service.app; print(service.app.__file__)"], {}) as process:
        printed, _ = process.communicate(timeout=30)
    assert printed.strip() == str(image.packages / "service" / "app.py")
