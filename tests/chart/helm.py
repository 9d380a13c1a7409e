"""A chart rendered by a real helm, and the questions that tests ask of what came out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "helm"
SECRET = "switchgear-secrets"
LOWEST_KUBERNETES, HIGHEST_KUBERNETES = "1.30", "1.37"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Helm:
    """One helm binary, without a cluster and with a home of its own.

    Attributes:
        binary: The executable.
        home: Where it may keep its files; a developer's plugins and repositories are not seen.
    """

    binary: Path
    home: Path
    _rendered: dict[str, list[Manifest]] = field(default_factory=dict, compare=False)

    def run(self, *arguments: str | Path, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Run helm; `values` come in as a values file, which can say what `--set` cannot, such as an empty list."""
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "KUBECONFIG": str(self.home / "none")}
        command: list[str | Path] = [self.binary, *arguments]
        if values is not None:
            command += ["--values", "-"]
        return subprocess.run(
            command, env=environment, input=json.dumps(values), capture_output=True, text=True, check=False
        )

    def template(
        self,
        values: Mapping[str, Any],
        *,
        release: str = "pay",
        kube_version: str = LOWEST_KUBERNETES,
        chart: Path = CHART,
    ) -> subprocess.CompletedProcess[str]:
        """Render the chart with exactly these values; the answer may be a refusal."""
        return self.run("template", release, chart, "--kube-version", kube_version, values=values)

    def render(self, values: Mapping[str, Any], *, release: str = "pay", chart: Path = CHART) -> list[Manifest]:
        """Render the chart and return its objects; the Secret that it needs is named unless `values` do."""
        values = {"existingSecret": SECRET, **values} if chart == CHART else values
        key = json.dumps([values, release, str(chart)], sort_keys=True)
        if key not in self._rendered:
            done = self.template(values, release=release, chart=chart)
            assert done.returncode == 0, done.stderr
            self._rendered[key] = [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]
        return self._rendered[key]


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    """Return the objects of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def only(manifests: Sequence[Manifest], kind: str) -> Manifest:
    """Return the one object of a kind; there must be exactly one."""
    (manifest,) = of_kind(manifests, kind)
    return manifest


def pods(manifests: Sequence[Manifest]) -> Iterator[Manifest]:
    """Return every pod (labels and spec) that the objects would run, hooks and tests included."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest
        elif "template" in manifest.get("spec", {}):
            yield manifest["spec"]["template"]


def container(pod: Manifest) -> Manifest:
    """Return a pod's only container."""
    (found,) = pod["spec"]["containers"]
    return dict(found)


def selects(selector: Mapping[str, str], pod: Manifest) -> bool:
    """Tell whether a label selector matches a pod."""
    return bool(selector.items() <= pod["metadata"]["labels"].items())
