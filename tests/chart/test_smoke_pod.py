"""The pod of `helm test`, its program run for real against a small server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.chart.helm import Helm, Manifest, container, only


def test_smoke_pod_is_run_by_helm_test_only(manifests: list[Manifest]) -> None:
    """The pod is no part of an installation, and one that succeeded is tidied away."""
    assert only(manifests, "Pod")["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }


def test_smoke_pod_asks_through_the_service(manifests: list[Manifest]) -> None:
    """It goes the way of a caller: by the Service's name and port."""
    service = only(manifests, "Service")
    base = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    urls = [argument for argument in container(only(manifests, "Pod"))["args"] if argument.startswith("http")]
    assert urls == [f"{base}/livez", f"{base}/readyz"]


@contextmanager
def _server(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "succeeds"), [(200, True), (503, False)])
def test_smoke_program_succeeds_only_when_the_service_is_ready(helm4: Helm, status: int, succeeds: bool) -> None:
    """The program in the pod ends with success for 200 and with an error for 503."""
    program, flag, source = container(only(helm4.render({}), "Pod"))["args"][:3]
    assert (program, flag) == ("python", "-c")
    with _server(status) as url:
        done = subprocess.run([sys.executable, "-c", source, url], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == succeeds, done.stderr
