"""The programs of the pods, run from the files of the image with the variables of the pods, against real servers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import stamina

from tests.chart.helm import Helm, container, only
from tests.chart.image import Image
from tests.chart.planted import PLANTED, variables_of
from tests.support.ports import free_port
from tests.support.postgres import run_sql


def test_migration_brings_an_empty_database_up_to_date(image: Image, helm4: Helm, empty_database_url: str) -> None:
    """The Job's command works with the image's files and with no variable but those of the Job."""
    manifests = helm4.render({})
    pod = only(manifests, "Job")["spec"]["template"]
    variables = variables_of(manifests, pod, {**PLANTED, "DATABASE_URL": empty_database_url})
    with image.start(container(pod)["args"], variables) as process:
        printed, _ = process.communicate(timeout=50)
    assert process.returncode == 0, printed
    assert run_sql(empty_database_url, "SELECT count(*) FROM alembic_version").strip() == "1"


@contextmanager
def _server(image: Image, helm4: Helm, *, port: int, **given: str) -> Iterator[subprocess.Popen[str]]:
    """Run the Deployment's program; leaving ends it as Kubernetes does."""
    manifests = helm4.render({})
    pod = only(manifests, "Deployment")["spec"]["template"]
    # The port is the one thing that a pod has to itself and a test has not.
    program = [str(port) if argument == "8000" else argument for argument in container(pod)["args"]]
    with image.start(program, variables_of(manifests, pod, {**PLANTED, **given})) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def test_server_answers_its_probes(image: Image, helm4: Helm, database_url: str, redis_url: str) -> None:
    """The server starts with what its pod is given, is ready, says which replica it is, and ends when told to."""
    port = free_port()
    with _server(image, helm4, port=port, DATABASE_URL=database_url, REDIS_URL=redis_url) as process:
        for attempt in stamina.retry_context(
            on=httpx.HTTPError, timeout=30, attempts=None, wait_max=0.2, wait_jitter=0
        ):
            with attempt:
                assert process.poll() is None, process.communicate()
                ready = httpx.get(f"http://127.0.0.1:{port}/readyz").raise_for_status()
        assert ready.headers["X-Replica-Id"] == PLANTED["SWITCHGEAR_REPLICA_ID"]
        assert httpx.get(f"http://127.0.0.1:{port}/livez").is_success
