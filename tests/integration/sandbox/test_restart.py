"""What the sandbox still knows after it was stopped and started again."""

from __future__ import annotations

from pathlib import Path

from tests.integration.sandbox.talk import INTENTS, create, http_at
from tests.support.sandbox import Sandbox, running_sandbox


async def test_intents_keys_and_effects_survive_a_restart(tmp_path: Path) -> None:
    """With a database the world is the same after a restart, the faults are gone, and the effects go on counting."""
    environment = {"SANDBOX_DATABASE": str(tmp_path / "sandbox.db")}
    with running_sandbox(tmp_path / "first.log", environment) as url:
        sandbox = Sandbox(url)
        async with http_at(url) as http:
            created = await create(http, "key")
        effects = sandbox.effects
        sandbox.fault("error_503")
        sandbox.close()
    with running_sandbox(tmp_path / "second.log", environment) as url:
        sandbox = Sandbox(url)
        assert (sandbox.faults, sandbox.requests, sandbox.effects) == ([], {}, effects)
        async with http_at(url) as http:
            intent = created.json()["id"]
            assert (await http.get(f"{INTENTS}/{intent}")).json() == created.json()
            again = await create(http, "key")
            assert (again.content, again.headers["Idempotent-Replayed"]) == (created.content, "true")
            await http.post(f"{INTENTS}/{intent}/confirm", data={"payment_method": "pm_card_visa"})
        assert [(effect["seq"], effect["type"]) for effect in sandbox.effects] == [(1, "created"), (2, "authorized")]
        sandbox.close()
    assert "Traceback" not in (tmp_path / "second.log").read_text()


async def test_without_a_database_a_restart_starts_over(tmp_path: Path) -> None:
    """By default everything is in memory only."""
    with running_sandbox(tmp_path / "first.log", {"SANDBOX_DATABASE": ""}) as url:
        async with http_at(url) as http:
            created = await create(http)
    with running_sandbox(tmp_path / "second.log", {"SANDBOX_DATABASE": ""}) as url:
        async with http_at(url) as http:
            assert (await http.get(f"{INTENTS}/{created.json()['id']}")).status_code == 404
