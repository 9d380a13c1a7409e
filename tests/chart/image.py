"""What the Dockerfile and .dockerignore say, read as text, because there is no engine to build the image with here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """List the Dockerfile's instructions and what follows each."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def arguments(instruction: str) -> list[str]:
    """List what follows each use of an instruction."""
    return [rest for name, rest in instructions() if name == instruction]


def copied(*, last_stage: bool = False) -> list[str]:
    """List what the build takes out of the checkout, all of it or what goes into the image as it is."""
    stage = len(instructions()) - [name for name, _ in reversed(instructions())].index("FROM") if last_stage else 0
    copies = [rest for name, rest in instructions()[stage:] if name == "COPY" and not rest.startswith("--from")]
    return [source for rest in copies for source in rest.split()[:-1]]


def in_context(path: PurePosixPath) -> bool:
    """Tell whether .dockerignore lets a file pass: the last pattern that names it or a folder above it decides."""
    passes = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(fnmatch(str(part), pattern) for part in [path, *path.parents]):
            passes = line.startswith("!")
    return passes


def _copy(sources: Sequence[str], folder: Path) -> None:
    for source in sources:
        for file in [ROOT / source] if (ROOT / source).is_file() else (ROOT / source).rglob("*"):
            relative = file.relative_to(ROOT)
            if file.is_file() and in_context(PurePosixPath(relative)):
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, folder / relative)


@dataclass(frozen=True)
class Image:
    """What the image would hold of the project; the dependencies are those of the tests, which are locked alike.

    Attributes:
        packages: Where the project's own wheel is installed.
        app: The working directory.
    """

    packages: Path
    app: Path

    @classmethod
    def build(cls, folder: Path) -> Image:
        """Build the wheel as the Dockerfile does, out of nothing but what .dockerignore lets pass."""
        source, image = folder / "src", cls(folder / "packages", folder / "app")
        _copy(copied(), source)
        _copy(copied(last_stage=True), image.app)
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run(command, cwd=source, check=True)
        (wheel,) = folder.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(image.packages)
        return image

    def start(self, program: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start one of the image's programs, with these variables and nothing of a developer's shell or checkout."""
        command = [str(Path(sys.executable).parent / program[0]), *program[1:]]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.packages), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(
            command,
            cwd=self.app,
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
