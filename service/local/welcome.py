"""What the local run says once it is up: where everything is, a token, and three commands to try."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rich.markup import escape

from service.local.plan import Plan

_TEXT = """
[bold green]Switchgear is up:[/] {replicas} API replicas share one circuit for each provider operation.

  API         {API_URL}    (documentation: {API_URL}/docs)
  Sandbox     {SANDBOX_URL}    (the provider, with faults on demand)
  Admin       {ADMIN_URL}/breakers
  Redis       {redis}
  PostgreSQL  {database}

  Token of payer_demo: {TOKEN}

[bold]Three commands to try[/], in another terminal, after `. {env_file}`:

  # Create a payment intent; repeat it while the provider is broken, and see 424 turn into 503.
  curl -i "$API_URL/payments/intents" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
    -d '{{"projectId":"demo","milestoneId":"m-'$(date +%s)'","amount":12500,"currency":"EUR",\
"returnUrl":"https://example.org/back"}}'

  # Break the provider; "none" heals it.
  curl -X PUT "$SANDBOX_URL/_sandbox/faults" -d '{{"mode":"error_500"}}'

  # Look at the circuit that all replicas share.
  redis-cli -u "$REDIS_URL" HGETALL 'breaker:{{stripe:create_intent}}'

Ctrl-C ends everything.
"""


def text(plan: Plan, values: Mapping[str, str]) -> str:
    """Return the lines to print; passwords in addresses that the user gave are not among them."""
    shown = {
        **values,
        "replicas": plan.replicas,
        "redis": values["REDIS_URL"] if plan.redis_url is None else "yours, by REDIS_URL",
        "database": values["DATABASE_URL"] if plan.database_url is None else "yours, by DATABASE_URL",
        "env_file": Path(os.path.relpath(plan.directory / "env")),
    }
    return _TEXT.format_map({name: escape(str(value)) for name, value in shown.items()})
