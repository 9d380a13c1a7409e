"""The values that every promise about the rendered objects is checked with."""

from __future__ import annotations

from typing import Any

CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "one_replica": {"replicaCount": 1},
    "autoscaling": {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 6}},
    "autoscaling_from_one": {"autoscaling": {"enabled": True, "minReplicas": 1}},
    "no_budget": {"podDisruptionBudget": {"enabled": False}},
    "no_hooks": {"migrations": {"useHelmHooks": False}},
    "redis_without_password": {"redis": {"url": "rediss://cache.internal:6380/0"}},
    "redis_behind_sentinels": {"redis": {"url": "redis+sentinel://a.internal,b.internal:26380/circuits"}},
    "redis_cluster": {"redis": {"url": "rediss+cluster://a.internal,b.internal"}},
    "public_keys": {"config": {"jwksUrl": "https://id.internal/keys", "jwtIssuer": "id", "jwtAudience": "pay"}},
    "own_secret_keys": {"secretKeys": {"databaseUrl": "pg", "redisUrl": "kv", "jwtSecret": "hs256"}},
    "no_account": {"serviceAccount": {"create": False}},
    "given_account": {"serviceAccount": {"create": False, "name": "payments"}},
    "override": {"fullnameOverride": "payments-with-a-name-of-exactly-46-characters1"},
    "no_resources_no_spread": {
        "resources": {"requests": None, "limits": None},
        "topologySpreadConstraints": [],
    },
    "everything": {
        "image": {"repository": "images.internal/team/switchgear", "digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "registry"}],
        "replicaCount": 5,
        "podDisruptionBudget": {"maxUnavailable": 2},
        "config": {"maxBodyBytes": 10_485_760, "requireIdempotencyKey": True, "breakerCooldownSeconds": 0.5},
        "service": {"type": "LoadBalancer", "port": 8443},
        "preStopSleepSeconds": 20,
        "terminationGracePeriodSeconds": 90,
        "topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "payments", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
                }
            }
        },
    },
}
