from __future__ import annotations

from typing import Any

from tests.chart.helm import SECRET, Helm, Manifest, container, only

NO_HOOKS: dict[str, Any] = {"migrations": {"useHelmHooks": False}}


def test_migration_runs_before_the_new_pods(helm4: Helm) -> None:
    """By default the Job is a hook of installation and upgrade, and only a failed one stays behind."""
    assert only(helm4.render({}), "Job")["metadata"]["annotations"] == {
        "helm.sh/hook": "pre-install,pre-upgrade",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }


def test_migration_needs_nothing_of_the_release(manifests: list[Manifest]) -> None:
    """A hook runs before the chart's ConfigMap and ServiceAccount exist; one that named them would wait for ever."""
    pod = only(manifests, "Job")["spec"]["template"]
    assert "serviceAccountName" not in pod["spec"]
    migrate = container(pod)
    assert "envFrom" not in migrate
    assert [variable["name"] for variable in migrate["env"]] == ["DATABASE_URL"]
    assert migrate["env"][0]["valueFrom"]["secretKeyRef"]["name"] == SECRET
    assert migrate["args"] == ["alembic", "upgrade", "head"]


def test_migration_ends(manifests: list[Manifest]) -> None:
    """A migration that hangs or fails gives up by itself, and its failed pod keeps the log."""
    spec = only(manifests, "Job")["spec"]
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["backoffLimit"] >= 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_migration_without_hooks_is_an_ordinary_object(helm4: Helm) -> None:
    """Where hooks are not run, nothing marks the Job as one."""
    assert "annotations" not in only(helm4.render(NO_HOOKS), "Job")["metadata"]


def test_migration_without_hooks_has_a_new_name_exactly_when_it_changes(helm4: Helm) -> None:
    """A Job cannot be changed: another image makes another Job, another number of replicas leaves it alone."""

    def name(**values: Any) -> str:
        return str(only(helm4.render({**NO_HOOKS, **values}), "Job")["metadata"]["name"])

    assert name(replicaCount=7) == name()
    assert name(image={"tag": "1.2.3"}) != name()
    assert name(resources={"requests": {"cpu": "1"}}) != name()
