from __future__ import annotations

import re
from typing import Any

import pytest

from tests.chart.helm import CHART, SECRET, Helm

# Each refusal of templates/validate.yaml, by the value that its sentence begins with, and values that earn it.
REFUSALS: dict[str, dict[str, Any]] = {
    "fullnameOverride": {},
    "existingSecret": {"existingSecret": ""},
    "redis.url": {"redis": {"url": "redis://:hunter2@cache.internal:6379/0"}},
    "autoscaling.maxReplicas": {"autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 3}},
    "resources.requests.cpu": {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
    "podDisruptionBudget.maxUnavailable": {"replicaCount": 2, "podDisruptionBudget": {"maxUnavailable": 2}},
    "config.providerConnectTimeoutSeconds": {"config": {"providerConnectTimeoutSeconds": 4.5}},
    "config.requestDeadlineSeconds": {"config": {"providerAttempts": 3}},
    "terminationGracePeriodSeconds": {"terminationGracePeriodSeconds": 15},
}
# A release may be called what a Service may not.
RELEASES = {"fullnameOverride": "1st.payments"}


@pytest.mark.parametrize("value", REFUSALS)
def test_values_that_do_not_fit_together_are_refused(helm: Helm, value: str) -> None:
    """Nothing is rendered, and one sentence names the value to change."""
    done = helm.template({"existingSecret": SECRET, **REFUSALS[value]}, release=RELEASES.get(value, "pay"))
    assert done.returncode != 0
    assert f"{value}: " in done.stderr
    assert "hunter2" not in done.stderr


def test_password_in_the_query_of_the_redis_url_is_refused(helm4: Helm) -> None:
    """A password does not reach the ConfigMap by the other way that Redis URLs have for it."""
    done = helm4.template({"existingSecret": SECRET, "redis": {"url": "redis://cache.internal?password=hunter2"}})
    assert done.returncode != 0
    assert "redis.url: " in done.stderr


def test_every_refusal_of_the_chart_is_tested() -> None:
    """No template can refuse something without a case here that shows it."""
    sources = "".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))
    code = re.sub(r"/\*.*?\*/", "", sources, flags=re.DOTALL)
    refused = re.findall(r'\bfail \(?(?:printf )?"([\w.]+): ', code)
    assert sorted(refused) == sorted(REFUSALS)
    assert len(refused) == len(re.findall(r"{{-? (?:fail|required)\b", code))


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"providerTimeoutSeconds": 5, "providerAttempts": 2}},
        {"config": {"providerConnectTimeoutSeconds": 4}},
        {"terminationGracePeriodSeconds": 16},
        {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 3}},
        {"replicaCount": 2, "podDisruptionBudget": {"maxUnavailable": 1}},
        {"replicaCount": 1, "podDisruptionBudget": {"maxUnavailable": 1}},
    ],
    ids=str,
)
def test_values_at_the_edge_are_accepted(helm4: Helm, values: dict[str, Any]) -> None:
    """What just fits is not refused."""
    assert helm4.render(values)
