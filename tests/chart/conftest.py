"""Both helms, and the chart rendered by each with every case of values."""

from __future__ import annotations

import os

import pytest

from tests.chart import helm_binary
from tests.chart.cases import CASES
from tests.chart.helm import Helm, Manifest
from tests.chart.image import Image


@pytest.fixture(scope="session")
def helms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Helm]:
    """Both helms; each keeps what it rendered for the whole session."""
    if not helm_binary.supported():
        message = "the packaged helm runs on Linux on x86-64 only"
        # Elsewhere a developer goes without these tests, but CI never does.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    home = tmp_path_factory.mktemp("helm-home")
    return {name: Helm(binary, home) for name, binary in helm_binary.helm_binaries().items()}


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest, helms: dict[str, Helm]) -> Helm:
    """Each of both helms in turn."""
    return helms[request.param]


@pytest.fixture
def helm4(helms: dict[str, Helm]) -> Helm:
    """The newer one, for all that does not depend on which helm renders."""
    return helms["helm4"]


@pytest.fixture(params=CASES)
def manifests(request: pytest.FixtureRequest, helm4: Helm) -> list[Manifest]:
    """The chart's objects for every case; that both helms render the same ones is a test of its own."""
    return helm4.render(CASES[request.param])


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The project's part of the image, without what belongs to the local run."""
    return Image.build(tmp_path_factory.mktemp("image"))
