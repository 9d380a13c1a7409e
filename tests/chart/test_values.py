from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import jsonschema
import pytest
import yaml

from tests.chart.cases import CASES
from tests.chart.helm import CHART, SECRET, Helm

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def _resolve(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return SCHEMA["definitions"][reference.rpartition("/")[2]] if reference else schema


def _closed_objects(schema: dict[str, Any], values: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Go through the schema's objects of fixed keys, side by side with the default values."""
    schema = _resolve(schema)
    if "required" in schema and isinstance(values, dict):
        yield path, schema, values
        for name, part in schema["properties"].items():
            yield from _closed_objects(part, values.get(name), f"{path}.{name}")


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from _objects(part)


def test_schema_is_a_valid_schema() -> None:
    """Helm would ignore what it does not understand in a schema."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_schema_and_values_have_the_same_keys() -> None:
    """Each value has its line in the schema, and the schema knows and demands no other (but Helm's own `global`)."""
    for path, schema, values in _closed_objects(SCHEMA, VALUES):
        assert schema["properties"].keys() - {"global"} == values.keys(), path
        # A value set to null is removed by helm; a template would then fail with a riddle.
        assert set(schema["required"]) == values.keys(), path


def test_schema_refuses_unknown_names_in_every_object() -> None:
    """A misspelt value is refused wherever it stands; only what Kubernetes itself defines is left to Kubernetes."""
    open_objects = [schema for schema in _objects(SCHEMA) if "additionalProperties" not in schema]
    properties = SCHEMA["properties"]
    assert open_objects == [properties["global"], *properties["affinity"]["properties"].values()]


def _keys(node: yaml.MappingNode, schema: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """List each value's name and line in values.yaml; what groups values is none itself."""
    for key, value in node.value:
        part = _resolve(schema["properties"][key.value])
        if "required" in part:
            yield from _keys(value, part)
        else:
            yield key.value, key.start_mark.line


def test_every_value_is_documented() -> None:
    """Above each value stands a comment that begins with two dashes."""
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    for name, line in _keys(root, SCHEMA):
        above = reversed(text.splitlines()[:line])
        comment = list(takewhile(lambda text: text.lstrip().startswith("#"), above))
        assert comment, name
        assert comment[-1].lstrip().startswith("# -- "), name


# Wrong values, each with what helm must say is wrong; those that hide one another are apart.
NONSENSE: list[tuple[dict[str, Any], set[str]]] = [
    (
        {
            "replicas": 3,
            "config": {"failureThreshold": 3, "breakerConsistency": "loose"},
            "service": {"port": 70_000, "type": "ExternalName"},
            "image": {"digest": "latest", "pullPolicy": "Sometimes"},
            "redis": {"url": "http://cache"},
            "resources": {"requests": {"cpu": "-1"}},
            "preStopSleepSeconds": 0,
            "secretKeys": {"redisUrl": ""},
            "fullnameOverride": "Payments",
        },
        {
            *("replicas", "failureThreshold", "breakerConsistency", "port", "type", "digest", "pullPolicy", "url"),
            *("cpu", "preStopSleepSeconds", "redisUrl", "fullnameOverride"),
        },
    ),
    ({"replicaCount": 0}, {"replicaCount"}),
    ({"replicaCount": -1}, {"replicaCount"}),
    ({"replicaCount": "3"}, {"replicaCount"}),
    ({"replicaCount": None}, {"replicaCount"}),
]


@pytest.mark.parametrize(("values", "complaints"), NONSENSE, ids=["many", "zero", "negative", "text", "removed"])
def test_nonsense_is_refused_by_name(helm: Helm, values: dict[str, Any], complaints: set[str]) -> None:
    """Helm refuses unknown names, wrong types and numbers out of range, and says which values they are."""
    done = helm.template({"existingSecret": SECRET, **values})
    assert done.returncode != 0
    assert "schema" in done.stderr
    assert {name for name in complaints if re.search(rf"\b{name}\b", done.stderr)} == complaints


def test_cases_use_every_group_of_values() -> None:
    """The matrix that the other tests render leaves no group of values at its default."""
    assert {name for values in CASES.values() for name in values} >= VALUES.keys() - {"existingSecret", "probes"}
