"""The image as text, because there is no engine to build it with here; what can be run of it is run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

from tests.chart.helm import Helm, container, only

ROOT = Path(__file__).parents[2]


def _instructions() -> list[tuple[str, str]]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def _arguments(instruction: str) -> list[str]:
    return [rest for name, rest in _instructions() if name == instruction]


def _copied() -> list[str]:
    """List what the image takes out of the checkout."""
    return [source for rest in _arguments("COPY") if not rest.startswith("--from") for source in rest.split()[:-1]]


def _in_context(path: PurePosixPath) -> bool:
    """Tell whether .dockerignore lets a file pass: the last pattern that names it or a folder above it decides."""
    passes = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(fnmatch(str(part), pattern) for part in [path, *path.parents]):
            passes = line.startswith("!")
    return passes


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the image would have in /app."""
    app = tmp_path_factory.mktemp("app")
    for source in _copied():
        for file in [ROOT / source] if (ROOT / source).is_file() else (ROOT / source).rglob("*"):
            relative = file.relative_to(ROOT)
            if file.is_file() and _in_context(PurePosixPath(relative.as_posix())):
                (app / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, app / relative)
    return app


def test_everything_copied_exists_and_passes_the_ignore_file() -> None:
    """No COPY fails for want of its source."""
    assert _copied()
    for source in _copied():
        assert (ROOT / source).exists(), source
        assert _in_context(PurePosixPath(source)), source


def test_dependencies_are_installed_by_hash() -> None:
    """The image installs the locked file, in which each requirement has its hashes."""
    (install,) = [rest for rest in _arguments("RUN") if "pip" in rest and "install" in rest]
    assert "--require-hashes" in install
    assert "requirements/service.txt /tmp/requirements.txt" in _arguments("COPY")
    assert "-r /tmp/requirements.txt" in install
    locked = (ROOT / "requirements" / "service.txt").read_text().replace("\\\n", " ")
    requirements = [line for line in locked.splitlines() if line and not line.lstrip().startswith("#")]
    assert requirements
    assert all("--hash=sha256:" in line for line in requirements)


def test_image_runs_as_a_number_that_is_not_root() -> None:
    """Kubernetes can see that the user is not root only when it is a number."""
    (user,) = _arguments("USER")
    assert all(int(part) > 0 for part in user.split(":"))


def test_image_and_chart_start_the_same_server(helm4: Helm) -> None:
    """The image alone serves as it does in the chart, and no entry point stands before the chart's arguments."""
    (command,) = _arguments("CMD")
    assert json.loads(command) == container(only(helm4.render({}), "Deployment")["spec"]["template"])["args"]
    assert not _arguments("ENTRYPOINT")
    assert "PYTHONUNBUFFERED=1" in shlex.split(_arguments("ENV")[-1])


def test_image_has_nothing_of_the_local_run(image: Path) -> None:
    """Neither the sandbox nor the local run nor a file that was compiled elsewhere reaches production."""
    files = {path.relative_to(image).as_posix() for path in image.rglob("*") if path.is_file()}
    assert {"pyproject.toml", "service/app.py", "breaker/__init__.py"} <= files
    assert not [file for file in files if file.startswith(("service/sandbox", "service/local", "tests"))]
    assert not [file for file in files if file.endswith((".pyc", ".env"))]


def test_service_can_be_imported_from_the_image(image: Path) -> None:
    """What was left out is missed by nothing that the server imports."""
    source = "import service.app; print(service.app.__file__)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", source], cwd=image, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == image / "service" / "app.py"
