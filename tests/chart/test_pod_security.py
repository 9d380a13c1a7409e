from __future__ import annotations

from collections.abc import Iterator

from tests.chart.helm import Manifest, pods

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def _violations(pod: Manifest) -> Iterator[str]:
    """Name what the restricted Pod Security standard refuses in a pod."""
    spec = pod["spec"]
    yield from (f"{name} is shared" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes", []):
        yield from (f"volume of type {kind}" for kind in volume.keys() - {"name"} - VOLUMES)
    of_pod = spec.get("securityContext", {})
    if "sysctls" in of_pod or "seLinuxOptions" in of_pod:
        yield "sysctls or SELinux options"
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own = container.get("securityContext", {})
        effective = {**of_pod, **own}
        if effective.get("runAsNonRoot") is not True or effective.get("runAsUser") == 0:
            yield "may run as root"
        if effective.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
            yield "no seccomp profile"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield "may gain privileges"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield "keeps capabilities"
        if own.get("procMount", "Default") != "Default" or "seLinuxOptions" in own:
            yield "procMount or SELinux options"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield "host port"


def test_every_pod_satisfies_the_restricted_standard(manifests: list[Manifest]) -> None:
    """A namespace that enforces Pod Security `restricted` accepts the API, the migration and the test alike."""
    found = list(pods(manifests))
    assert len(found) == 3
    assert [list(_violations(pod)) for pod in found] == [[], [], []]


def test_checker_notices_a_pod_without_security_context() -> None:
    """The check above is not blind: it refuses the pod that a newly created chart has for its test."""
    bare = {"spec": {"containers": [{"name": "wget", "image": "busybox"}], "volumes": [{"name": "v", "hostPath": {}}]}}
    assert list(_violations(bare)) == [
        "volume of type hostPath",
        "may run as root",
        "no seccomp profile",
        "may gain privileges",
        "keeps capabilities",
    ]


def test_every_pod_goes_further_than_the_standard(manifests: list[Manifest]) -> None:
    """Only /tmp can be written, no token is mounted, and no Service of the namespace becomes a variable."""
    for pod in pods(manifests):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        # A Service called `switchgear` would become SWITCHGEAR_PORT, in the service's own namespace of variables.
        assert spec["enableServiceLinks"] is False
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
        assert [set(volume) for volume in spec["volumes"]] == [{"name", "emptyDir"}]
