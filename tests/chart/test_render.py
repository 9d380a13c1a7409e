from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.chart.cases import CASES
from tests.chart.helm import (
    CHART,
    HIGHEST_KUBERNETES,
    LOWEST_KUBERNETES,
    SECRET,
    Helm,
    Manifest,
    of_kind,
    only,
    pods,
    selects,
)


@pytest.mark.parametrize("case", ["default", "no_hooks", "everything"])
def test_chart_passes_the_strict_lint(helm: Helm, case: str) -> None:
    """Helm itself finds nothing to warn about, neither in the templates nor in the notes."""
    done = helm.run("lint", "--strict", CHART, values={"existingSecret": SECRET, **CASES[case]})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES)
def test_both_helms_render_the_same_objects(helms: dict[str, Helm], case: str) -> None:
    """Helm 3 and Helm 4 make the same of the chart, so that a release can be handed from one to the other."""
    older, newer = ({str(manifest): manifest for manifest in helms[name].render(CASES[case])} for name in sorted(helms))
    assert older == newer


@cache
def _validate(manifest: str, version: str) -> None:
    kubernetes_validate.validate(json.loads(manifest), version, strict=True)


@pytest.mark.parametrize("version", [LOWEST_KUBERNETES, HIGHEST_KUBERNETES])
def test_objects_fit_the_schema_of_kubernetes(manifests: list[Manifest], version: str) -> None:
    """Every object has only fields that Kubernetes knows, in the oldest and in the newest version supported."""
    for manifest in manifests:
        # Most objects are the same in most cases; each distinct one is looked at once.
        _validate(json.dumps(manifest, sort_keys=True), version)


def test_kubernetes_that_is_too_old_is_refused(helm: Helm) -> None:
    """A cluster that does not know the chart's fields is refused by name, before anything is installed."""
    done = helm.template({"existingSecret": SECRET}, kube_version="1.29")
    assert done.returncode != 0
    assert "kubeVersion" in done.stderr


def test_names_are_distinct_and_fit_into_a_label(manifests: list[Manifest]) -> None:
    """Every name is a DNS label of 63 characters at most, and no two objects of a kind share one."""
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert max(Counter(names).values()) == 1
    for _, name in names:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)


@pytest.mark.parametrize("values", [{}, {"migrations": {"useHelmHooks": False}}], ids=["hooks", "no_hooks"])
@pytest.mark.parametrize(
    ("one", "other"),
    [("blue", "green"), ("x", "x-switchgear"), ("switchgear", "x"), ("a" * 52 + "1", "a" * 52 + "2")],
    ids=["plain", "suffix", "chart_name", "long"],
)
def test_two_releases_in_one_namespace_do_not_collide(helm4: Helm, one: str, other: str, values: Manifest) -> None:
    """Two releases share no object, and no selector of one finds a pod of the other."""
    first, second = helm4.render(values, release=one), helm4.render(values, release=other)

    def names(manifests: list[Manifest]) -> set[tuple[str, str]]:
        return {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}

    assert all(len(name) <= 63 for _, name in names(first) | names(second))
    assert not names(first) & names(second)
    for mine, others in ((first, second), (second, first)):
        assert not any(selects(only(mine, "Service")["spec"]["selector"], pod) for pod in pods(others))
        selector = only(mine, "Deployment")["spec"]["selector"]["matchLabels"]
        assert not any(selects(selector, pod) for pod in pods(others))


def test_selectors_never_change(manifests: list[Manifest]) -> None:
    """No value and no version is part of a selector, because a Deployment's cannot be changed."""
    assert only(manifests, "Deployment")["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "switchgear",
        "app.kubernetes.io/instance": "pay",
        "app.kubernetes.io/component": "api",
    }


def test_selectors_find_the_replicas_and_no_other_pod(manifests: list[Manifest]) -> None:
    """Requests and drains concern the API's pods, not the migration's and not the test's, which serve nothing."""
    replica = only(manifests, "Deployment")["spec"]["template"]
    selectors = [only(manifests, "Service")["spec"]["selector"]]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in of_kind(manifests, "PodDisruptionBudget")]
    selectors += [
        spread["labelSelector"]["matchLabels"] for spread in replica["spec"].get("topologySpreadConstraints", [])
    ]
    for selector in selectors:
        assert [pod for pod in pods(manifests) if selects(selector, pod)] == [replica]


def test_everything_secret_is_read_from_the_existing_secret(manifests: list[Manifest]) -> None:
    """The chart makes no Secret and reads no other than the one it was given."""
    assert not of_kind(manifests, "Secret")
    variables = [variable for pod in pods(manifests) for variable in pod["spec"]["containers"][0].get("env", [])]
    references = [
        variable["valueFrom"]["secretKeyRef"]
        for variable in variables
        if "value" not in variable and "secretKeyRef" in variable["valueFrom"]
    ]
    assert {reference["name"] for reference in references} == {SECRET}
    assert not any("value" in variable for variable in variables)


def test_chart_can_be_part_of_another(helm: Helm, tmp_path: Path) -> None:
    """As a dependency of another chart it renders the same kinds of objects: the schema lets `global` pass."""
    umbrella = tmp_path / "umbrella"
    (umbrella / "charts").mkdir(parents=True)
    (umbrella / "charts" / "switchgear").symlink_to(CHART)
    (umbrella / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "umbrella", "version": "1.0.0"}))
    rendered = helm.render({"global": {"team": "pay"}, "switchgear": {"existingSecret": SECRET}}, chart=umbrella)
    assert sorted(m["kind"] for m in rendered) == sorted(m["kind"] for m in helm.render({}))
