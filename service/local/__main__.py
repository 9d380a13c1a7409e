"""`python -m service.local`, behind `make run`: starts everything in order, says how to use it, watches over it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from service.local import fleet, welcome
from service.local.children import Child
from service.local.credentials import load_secrets, make_token, write_assignments
from service.local.plan import (
    LOOPBACK,
    LocalRunError,
    Plan,
    lock_directory,
    preferred_port,
    read_plan,
    refuse_taken_port,
)
from service.local.postgres import postgres
from service.local.supervisor import Supervisor
from service.local.valkey import WELL_KNOWN_PORT, valkey

PAYER_SCOPE = "payments:write payments:read"
ADMIN_SCOPE = "admin:breakers admin:operations"

_HELP = """\
environment:
  PORT           the port that the API replicas share (default 8000; 0: free ports for everything)
  REPLICAS       how many API processes to start (default 3)
  REDIS_URL      a Redis or Valkey to use instead of the embedded one
  DATABASE_URL   a PostgreSQL to use instead of the embedded one
  SWITCHGEAR_*   settings of the service, such as SWITCHGEAR_BREAKER_COOLDOWN_SECONDS=5
  SWITCHGEAR_LOCAL_DIR   where data, logs and secrets stay (default .local)
"""


def main() -> int:
    """Run the whole system until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make run", description=__doc__, epilog=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    try:
        plan = read_plan(os.environ)
        refuse_taken_port(plan.port)
        _run(plan)
    except (LocalRunError, OSError) as error:
        sys.stderr.write(f"make run: {error}\n")
        return 1
    return 0


def _run(plan: Plan) -> None:
    console = Console(highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {escape(line)}")

    supervisor = Supervisor(say)
    with lock_directory(plan.directory), supervisor.until_stopped():
        say(f"starting; data, logs and secrets are in {plan.directory}")
        os.umask(0o077)  # what the children write is nobody else's business
        logs = _fresh_logs(plan.directory)
        redis_url, database_url, servers = _servers(plan, logs, say)
        sandbox_port = preferred_port(plan, plan.port + 1)
        sandbox_url = f"http://{LOOPBACK}:{sandbox_port}"
        environment = _environment(plan, redis_url, database_url, sandbox_url)
        supervisor.start(*servers)
        supervisor.start(fleet.migrations(logs, environment), fleet.sandbox(logs, environment, sandbox_port))
        port, replicas = fleet.replicas(logs, environment, plan.port, plan.replicas)
        supervisor.start(*replicas)
        api_url = f"http://{LOOPBACK}:{port}"
        values = {
            "API_URL": api_url,
            "SANDBOX_URL": sandbox_url,
            "ADMIN_URL": f"{api_url}/admin",
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "TOKEN": make_token(environment, subject="payer_demo", scope=PAYER_SCOPE),
            "ADMIN_TOKEN": make_token(environment, subject="operator_demo", scope=ADMIN_SCOPE),
        }
        write_assignments(plan.directory / "env", values)
        console.print(welcome.text(plan, values))
        supervisor.watch()
    say(f"stopped; nothing is left running, and the data stays in {plan.directory}")


def _fresh_logs(directory: Path) -> Path:
    logs = directory / "logs"
    logs.mkdir(exist_ok=True)
    for log in logs.glob("*.log"):
        log.unlink()
    return logs


def _servers(plan: Plan, logs: Path, say: Callable[[str], None]) -> tuple[str, str, list[Child]]:
    """Return the addresses of Redis and PostgreSQL, and the ones of them that are ours to start."""
    redis_url, database_url, servers = plan.redis_url, plan.database_url, []
    if redis_url is None:
        port = preferred_port(plan, WELL_KNOWN_PORT)
        redis_url = f"redis://{LOOPBACK}:{port}/0"
        servers.append(valkey(plan.directory, logs, port))
    if database_url is None:
        database = postgres(plan.directory, logs)
        database_url = database.url
        if database.data.parent != plan.directory:
            say(f"PostgreSQL, which refuses to run as root, cannot enter this folder: its data is in {database.data}")
        servers.append(database.child)
    return redis_url, database_url, servers


def _environment(plan: Plan, redis_url: str, database_url: str, sandbox_url: str) -> Mapping[str, str]:
    """Return what the processes are started with; what the user has set wins over what we would choose."""
    return {
        "SWITCHGEAR_STRIPE_API_BASE": sandbox_url,
        "SWITCHGEAR_CHECKOUT_URL_TEMPLATE": (
            sandbox_url + "/checkout/{payment_intent}?payment_intent_client_secret={client_secret}"
        ),
        # Everything shares this machine: a moment without a processor must not look like a Redis that is away.
        "SWITCHGEAR_BREAKER_STORE_TIMEOUT_SECONDS": "2",
        **load_secrets(plan.directory / "secrets.json"),
        **os.environ,
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "SANDBOX_DATABASE": str(plan.directory / "sandbox.db"),
        # Somebody's proxy must not be asked for our loopback; the provider's SDK would.
        "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), LOOPBACK, "localhost"))),
    }


if __name__ == "__main__":
    sys.exit(main())
