"""The environment of a pod's program, with planted secrets in place of real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.fernet import Fernet

from tests.chart.helm import Manifest, container, only

PLANTED = {
    "DATABASE_URL": "postgresql://pay@database.internal/pay",
    "REDIS_URL": "redis://cache.internal",
    "SWITCHGEAR_STRIPE_API_KEY": "sk_test_planted",
    "SWITCHGEAR_JWT_SECRET": "j" * 32,
    "SWITCHGEAR_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "SWITCHGEAR_REPLICA_ID": "pay-switchgear-5d9c7b8f4-x2x7v",
}


def variables_of(manifests: Sequence[Manifest], pod: Manifest, given: Mapping[str, str] = PLANTED) -> dict[str, str]:
    """Return what a pod's program finds in its environment.

    Args:
        manifests: The chart's objects.
        pod: One of their pods.
        given: The content of the Secret, and what the cluster fills in.
    """
    program = container(pod)
    variables = {variable["name"]: given[variable["name"]] for variable in program.get("env", [])}
    return {**variables, **(only(manifests, "ConfigMap")["data"] if "envFrom" in program else {})}
