"""The one place where chart and code meet: what the chart calls must exist in the service."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from pydantic import AliasChoices
from starlette.routing import Match

from service.app import create_app
from service.settings import PREFIX, DatabaseSettings, Settings
from tests.chart.helm import Helm, Manifest, container, only, pods
from tests.chart.planted import PLANTED, variables_of
from tests.chart.test_values import SCHEMA, VALUES


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any variable of a developer's shell that the service would read."""
    for name in os.environ:
        if name.startswith(PREFIX) or name in {"DATABASE_URL", "REDIS_URL", "PORT", "REPLICAS"}:
            monkeypatch.delenv(name)
    return monkeypatch


def _names(settings: type[DatabaseSettings]) -> set[str]:
    """List the variables that the service reads."""
    names = set()
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        names.add(str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{PREFIX}{name.upper()}")
    return names


def test_every_variable_is_a_setting(manifests: list[Manifest]) -> None:
    """The service reads each variable that a pod is given, and starts with them."""
    given = {name for pod in pods(manifests) for name in variables_of(manifests, pod)}
    assert given <= _names(Settings)


def test_service_starts_with_what_its_pod_is_given(manifests: list[Manifest], environment: pytest.MonkeyPatch) -> None:
    """The settings accept the pod's variables as they are, in every case."""
    for name, value in variables_of(manifests, only(manifests, "Deployment")["spec"]["template"]).items():
        environment.setenv(name, value)
    assert Settings().replica_id == PLANTED["SWITCHGEAR_REPLICA_ID"]


def test_migration_starts_with_what_its_pod_is_given(
    manifests: list[Manifest], environment: pytest.MonkeyPatch
) -> None:
    """The migration's settings need nothing but the variables of the Job."""
    for name, value in variables_of(manifests, only(manifests, "Job")["spec"]["template"]).items():
        environment.setenv(name, value)
    assert DatabaseSettings().database_url.get_secret_value().endswith("@database.internal/pay")


def test_chart_and_service_have_the_same_defaults(helm4: Helm, environment: pytest.MonkeyPatch) -> None:
    """A pod of an untouched chart runs as a service without any setting does."""
    manifests = helm4.render({})
    variables = variables_of(manifests, only(manifests, "Deployment")["spec"]["template"])
    for name, value in PLANTED.items():
        environment.setenv(name, value)
    untouched = Settings()
    for name, value in variables.items():
        environment.setenv(name, value)
    assert Settings() == untouched


@pytest.mark.parametrize("value", VALUES["config"])
def test_chart_and_service_accept_the_same_range(value: str) -> None:
    """The chart refuses a setting exactly when the service would."""
    in_chart: dict[str, Any] = SCHEMA["properties"]["config"]["properties"][value]
    name = re.sub(r"(?=[A-Z])", "_", value).lower()
    in_service: dict[str, Any] = Settings.model_json_schema(by_alias=False)["properties"][name]
    # An optional text is written as one of text and null.
    in_service = in_service.get("anyOf", [in_service])[0]
    accepted = {key: in_chart.get(key) for key in ("type", "minimum", "maximum")}
    assert accepted == {key: in_service.get(key) for key in ("type", "minimum", "maximum")}
    if "pattern" in in_service:
        assert in_chart["pattern"] == f"^$|{in_service['pattern']}"


def test_every_path_that_is_probed_is_a_route(manifests: list[Manifest]) -> None:
    """The service has a route for each probe and for what `helm test` asks."""
    api = container(only(manifests, "Deployment")["spec"]["template"])
    paths = {api[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    paths |= {
        "/" + url.rpartition("/")[2] for url in container(only(manifests, "Pod"))["args"] if url.startswith("http://")
    }
    app = create_app(Settings.model_validate({name.removeprefix(PREFIX).lower(): v for name, v in PLANTED.items()}))
    for path in paths:
        scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
        assert any(route.matches(scope)[0] is Match.FULL for route in app.routes), path
