"""The audit log is fed by messages, once it is enabled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import (
    AgentMessaging,
    Config,
    MessageContext,
    MessagingConfig,
    TaskContext,
    TaskFailedError,
    clear_handlers,
    register_conversation_handler,
    register_one_way_handler,
)
from agent_messaging.audit import disable_file_logging, enable_file_logging
from agent_messaging.delivery.probes import arm, disarm
from tests.support import eventually


@pytest.fixture(autouse=True)
def disabled_afterwards() -> Iterator[None]:
    """The audit log of the process ends with the test."""
    yield
    disable_file_logging()
    clear_handlers()


def entries(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in folder.glob(f"*/{kind}_*.jsonl")
        for line in path.read_text(encoding="ascii").splitlines()
    ]


async def play(sdk: AgentMessaging[Any, Any, Any]) -> str:
    """A note that is handled, one whose handler fails twice, and an ask."""
    await sdk.register_organization("acme", "Acme")
    for name in ("alice", "bob"):
        await sdk.register_agent(name, "acme", name)

    @register_one_way_handler(agent="bob")
    async def note(message: dict[str, Any], context: MessageContext) -> None:
        if message["secret"] == 2:
            raise ValueError("the printer is on fire")

    @register_conversation_handler(agent="bob")
    async def ask(message: dict[str, Any], context: MessageContext) -> str:
        return "pong"

    [message_id, *_] = await sdk.one_way.send("alice", "bob", {"secret": 1})
    [failing] = await sdk.one_way.send("alice", "bob", {"secret": 2})
    await sdk.conversation.send_and_wait("alice", "bob", {"secret": 3}, timeout=20)
    await sdk.receipts.wait([message_id, failing], timeout=20)
    return message_id


async def test_a_message_is_told_of_although_its_caller_was_cancelled_while_it_was_stored(tmp_path: Path) -> None:
    enable_file_logging(tmp_path / "logs")
    async with AgentMessaging(Config(messaging=MessagingConfig(require_handler=False))) as sdk:
        await sdk.register_organization("acme", "Acme")
        for name in ("alice", "bob"):
            await sdk.register_agent(name, "acme", name)
        sending = asyncio.create_task(sdk.one_way.send("alice", "bob", "hi"))

        def cancel() -> None:
            sending.cancel()

        arm("after_append", cancel)
        try:
            with pytest.raises(asyncio.CancelledError):
                await sending
        finally:
            disarm()
    [told] = entries(tmp_path / "logs", "message_audit")
    assert (told["event"], told["from_agent"], told["to_agent"]) == ("sent", "alice", "bob")


async def test_messages_agents_and_errors_are_told_without_payloads(tmp_path: Path) -> None:
    enable_file_logging(tmp_path / "logs")
    async with AgentMessaging(Config(messaging=MessagingConfig(max_attempts=2, retry_delay=0))) as sdk:
        message_id = await play(sdk)
    audit = entries(tmp_path / "logs", "message_audit")
    mine = [one for one in audit if one["message_id"] == message_id]
    assert sorted(one["event"] for one in mine) == ["processed", "received", "sent"]
    assert {(one["from_agent"], one["to_agent"], one["message_type"]) for one in mine} == {("alice", "bob", "one_way")}
    assert {one["message_type"] for one in audit} == {"one_way", "conversation"}
    assert [one["event"] for one in audit].count("retried") == 1
    failures = entries(tmp_path / "logs", "errors")
    assert [one["data"]["attempt"] for one in failures] == [1, 2]
    assert [one["agent_id"] for one in entries(tmp_path / "logs", "agent_activity")] == ["alice", "bob"]
    assert "secret" not in json.dumps(audit)
    assert "pong" not in json.dumps(audit)


async def test_tasks_and_workers_are_told_without_payloads(tmp_path: Path) -> None:
    enable_file_logging(tmp_path / "logs")
    async with AgentMessaging(Config(messaging=MessagingConfig(retry_delay=0))) as sdk:

        @sdk.register_task_handler("w", capabilities=["work"], give_up_on=LookupError)
        async def work(item: dict[str, Any], context: TaskContext) -> str:
            if item["secret"] == context.attempt == 1:
                raise ValueError("the printer is on fire")
            if item["secret"] == 2:
                raise LookupError("no paper")
            return "a secret"

        await sdk.tasks.delegate("work", {"secret": 1}, task_id="done", supervisor="s", wait=True, timeout=20)
        with pytest.raises(TaskFailedError):
            await sdk.tasks.delegate("work", {"secret": 2}, task_id="failed", wait=True, timeout=20)
        await sdk.tasks.delegate("other", {"secret": 3}, task_id="waits")
        await sdk.tasks.cancel("waits")
    history = entries(tmp_path / "logs", "task_history")
    told = {id: [one["event"] for one in history if one["task_id"] == id] for id in ("done", "failed", "waits")}
    assert {id: sorted(events) for id, events in told.items()} == {
        "done": ["assigned", "assigned", "completed", "retried", "submitted"],
        "failed": ["assigned", "failed", "submitted"],
        "waits": ["cancelled", "submitted"],
    }
    [completed] = [one for one in history if one["event"] == "completed"]
    assert completed["agent_id"] == "w"
    assert completed["data"]["success"]
    assert completed["data"]["duration_ms"] >= 0
    [metric] = entries(tmp_path / "logs", "performance")
    assert (metric["agent_id"], metric["metric"], metric["unit"]) == ("w", "task_duration", "ms")
    assert [one["data"]["task_id"] for one in entries(tmp_path / "logs", "errors")] == ["done", "failed"]
    [registered] = entries(tmp_path / "logs", "agent_activity")
    assert registered["data"] == {"agent_role": "worker", "capabilities": ["work"]}
    assert "secret" not in json.dumps(history)


async def test_payloads_are_told_where_they_were_asked_for_and_nothing_where_it_is_off(tmp_path: Path) -> None:
    async with AgentMessaging("sqlite://:memory:") as sdk:
        await play(sdk)
        assert not (tmp_path / "logs").exists()
        log = enable_file_logging(tmp_path / "logs", include_payloads=True)
        await sdk.one_way.send("alice", "bob", {"secret": 4})
        await eventually(lambda: log.get_log_stats()["total_entries"] >= 3)
    sent = [one for one in entries(tmp_path / "logs", "message_audit") if one["event"] == "sent"]
    assert json.loads(sent[0]["content"]) == {"secret": 4}
