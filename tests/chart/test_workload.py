from __future__ import annotations

from typing import Any

import pytest

from tests.chart.helm import Helm, Manifest, container, of_kind, only, pods


def test_service_leads_to_the_port_that_the_server_listens_on(manifests: list[Manifest]) -> None:
    """The Service's target, the container's port and the server's argument are one port."""
    api = container(only(manifests, "Deployment")["spec"]["template"])
    (port,) = only(manifests, "Service")["spec"]["ports"]
    (container_port,) = api["ports"]
    assert port["targetPort"] == container_port["name"]
    assert api["args"][api["args"].index("--port") + 1] == str(container_port["containerPort"])


def test_probes_ask_the_server(manifests: list[Manifest]) -> None:
    """Startup and liveness ask whether it answers, readiness whether it can work; all at the port that serves."""
    api = container(only(manifests, "Deployment")["spec"]["template"])
    asked = {name: api[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/livez", "port": "http"},
        "liveness": {"path": "/livez", "port": "http"},
        "readiness": {"path": "/readyz", "port": "http"},
    }


def test_pods_read_the_configuration_of_their_release(manifests: list[Manifest]) -> None:
    """The ConfigMap that the pods name is the one that is rendered."""
    (source,) = container(only(manifests, "Deployment")["spec"]["template"])["envFrom"]
    assert source == {"configMapRef": {"name": only(manifests, "ConfigMap")["metadata"]["name"]}}


@pytest.mark.parametrize(
    ("values", "created", "used"),
    [
        ({}, ["pay-switchgear"], "pay-switchgear"),
        ({"name": "payments"}, ["payments"], "payments"),
        ({"create": False}, [], "default"),
        ({"create": False, "name": "payments"}, [], "payments"),
    ],
    ids=["own", "own_named", "none", "given"],
)
def test_pods_use_the_account_that_was_asked_for(
    helm4: Helm, values: dict[str, Any], created: list[str], used: str
) -> None:
    """By default the release has an account of its own; otherwise none is created, and the named one is used."""
    rendered = helm4.render({"serviceAccount": values})
    assert [account["metadata"]["name"] for account in of_kind(rendered, "ServiceAccount")] == created
    assert only(rendered, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == used


def test_autoscaler_alone_owns_the_number_of_replicas(manifests: list[Manifest]) -> None:
    """With an autoscaler the Deployment names no number, or each upgrade would undo the scaling."""
    deployment = only(manifests, "Deployment")
    autoscalers = of_kind(manifests, "HorizontalPodAutoscaler")
    assert ("replicas" in deployment["spec"]) == (not autoscalers)
    for autoscaler in autoscalers:
        assert autoscaler["spec"]["minReplicas"] <= autoscaler["spec"]["maxReplicas"]
        target = autoscaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])


@pytest.mark.parametrize(
    ("values", "budgets"),
    [
        ({"replicaCount": 1}, 0),
        ({"replicaCount": 2}, 1),
        ({"replicaCount": 5, "autoscaling": {"enabled": True, "minReplicas": 1}}, 0),
        ({"replicaCount": 1, "autoscaling": {"enabled": True, "minReplicas": 2}}, 1),
        ({"podDisruptionBudget": {"enabled": False}}, 0),
    ],
    ids=["one", "two", "autoscaled_from_one", "autoscaled_from_two", "off"],
)
def test_disruption_budget_exists_only_above_one_replica(helm4: Helm, values: dict[str, Any], budgets: int) -> None:
    """A single replica has no budget, because that would only make its node impossible to drain."""
    assert len(of_kind(helm4.render(values), "PodDisruptionBudget")) == budgets


def test_pod_outlives_the_requests_that_it_took(manifests: list[Manifest]) -> None:
    """A pod keeps serving until no request is sent to it, and then has time for the longest one."""
    spec = only(manifests, "Deployment")["spec"]["template"]["spec"]
    sleep_seconds = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    deadline_seconds = float(only(manifests, "ConfigMap")["data"]["SWITCHGEAR_REQUEST_DEADLINE_SECONDS"])
    assert sleep_seconds + deadline_seconds < spec["terminationGracePeriodSeconds"]


def test_pods_are_replaced_when_and_only_when_their_configuration_changes(helm4: Helm) -> None:
    """A changed setting changes the pod template; a changed number of replicas does not."""

    def checksum(values: dict[str, Any]) -> str:
        template = only(helm4.render(values), "Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum({"replicaCount": 7}) == checksum({})
    assert checksum({"config": {"breakerFailureThreshold": 4}}) != checksum({})


def test_numbers_reach_the_service_as_they_were_written(helm4: Helm) -> None:
    """A large integer stays an integer, a fraction a fraction, and an empty text is not passed on."""
    values = {"config": {"maxBodyBytes": 10_485_760, "breakerStoreTimeoutSeconds": 0.05, "jwtIssuer": "1e3"}}
    data = only(helm4.render(values), "ConfigMap")["data"]
    assert data["SWITCHGEAR_MAX_BODY_BYTES"] == "10485760"
    assert data["SWITCHGEAR_BREAKER_STORE_TIMEOUT_SECONDS"] == "0.05"
    assert data["SWITCHGEAR_JWT_ISSUER"] == "1e3"
    assert "SWITCHGEAR_JWT_AUDIENCE" not in data


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "switchgear:0.1.0"),
        ({"tag": "1.2.3"}, "switchgear:1.2.3"),
        ({"tag": "1.2.3", "digest": "sha256:" + "a" * 64}, "switchgear@sha256:" + "a" * 64),
        ({"repository": "images.internal:5000/team/pay"}, "images.internal:5000/team/pay:0.1.0"),
    ],
    ids=["version", "tag", "digest", "registry"],
)
def test_all_pods_run_the_image_that_was_asked_for(helm4: Helm, image: dict[str, str], reference: str) -> None:
    """API, migration and test run one image: a digest wins over a tag, and a tag over the chart's version."""
    assert {container(pod)["image"] for pod in pods(helm4.render({"image": image}))} == {reference}
