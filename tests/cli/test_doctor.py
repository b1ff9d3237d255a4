"""The doctor names what is wrong and the next step."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest

from agent_messaging import AgentMessaging, MessageContext, MessagingConfig
from agent_messaging.config import Config
from tests.cli.conftest import Cli


def findings(cli: Cli, check: int) -> str:
    return " ".join(
        one["problem"] + " " + one["next_step"] for one in cli("doctor", "--json", check=check).json["findings"]
    )


def test_a_healthy_store(acme: str, cli: Cli) -> None:
    document = cli("doctor", "--deep", "--json").json
    assert document["ok"] is True
    assert document["findings"] == []
    assert document["damage"] == []
    assert document["store"]["chosen_by"] == "AGENT_MESSAGING_DATABASE_URL"
    assert document["store"]["schema_version"] >= 1
    assert document["store"]["durability"]
    human = cli("doctor").out
    assert "Nothing is wrong" in human
    for value in document["store"]["durability"].values():
        assert value in human


def test_an_empty_store_says_how_to_begin(url: str, cli: Cli) -> None:
    cli("db", "init")
    assert "agent-messaging org add" in findings(cli, 0)
    cli("org", "add", "acme")
    assert "agent-messaging agents add" in findings(cli, 0)


def test_waiting_messages_that_nobody_serves(acme: str, cli: Cli) -> None:
    cli("send", "alice", "bob", "--text", "hi")
    document = cli("doctor", "--json", check=1).json
    assert document["messages"]["counts"] == {"queued": 1} | {
        state: number for state, number in document["messages"]["counts"].items() if state != "queued"
    }
    assert document["messages"]["oldest_queued_recipient"] == "bob"
    assert "'bob', which no live process serves" in findings(cli, 1)
    assert "'bob', which no live process serves" in cli("doctor", check=1).out


async def test_a_name_with_a_comma_is_not_read_as_two(acme: str, cli: Cli) -> None:
    async with AgentMessaging[Any](acme) as sdk:
        sdk.register_handler("carol")(lambda message, context: None)
        await sdk.wait_until_served(["carol"], timeout=10)
        for name in ("bob, dave", "erin"):
            await sdk.register_agent(name, "acme", name)
            await sdk.one_way.send("alice", name, "hi", require_handler=False)
        shown = (await asyncio.to_thread(cli, "doctor", check=1)).out
    assert "Messages wait for 'bob, dave', 'erin', which no live process serves." in shown
    assert ", for 'bob, dave'\n" in shown
    assert "'carol'" in shown


async def test_who_serves_whom(acme: str) -> None:
    sdk: AgentMessaging[Any] = AgentMessaging(acme)

    @sdk.register_handler("bob")
    async def handle(message: Any, context: MessageContext) -> None: ...

    async with sdk:
        document = await _doctor_elsewhere(acme)
    [process] = [process for process in document["processes"] if process["serves"]]
    assert process["serves"] == ["bob"]


async def _doctor_elsewhere(url: str) -> Any:
    import json
    import sys

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "agent_messaging.cli.main", "doctor", "--json", "--url", url),
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return json.loads(out)


def test_dead_letters_and_full_mailboxes(acme: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bury() -> None:
        config = Config(url=acme, messaging=MessagingConfig(require_handler=False))
        async with AgentMessaging(config) as sdk:
            await sdk.one_way.send("alice", "bob", 1)
            [message] = await sdk.receive("bob")
            await message.reject("cannot")

    asyncio.run(bury())
    assert "1 dead letter" in findings(cli, 1)
    monkeypatch.setenv("MESSAGING_MAILBOX_LIMIT", "2")
    for _ in range(2):
        cli("send", "alice", "carol", "--text", "hi")
    assert cli("send", "alice", "carol", "--text", "hi", "--json", check=6).error["code"] == "mailbox_full"
    assert "mailbox of 'carol'" in findings(cli, 1)
