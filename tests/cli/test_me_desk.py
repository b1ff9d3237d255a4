"""What the screen for a person reads of the store."""

from __future__ import annotations

import asyncio

import pytest

from agent_messaging import AgentMessaging
from agent_messaging.cli.me.desk import Desk
from tests.support import eventually

pytest.importorskip("textual")


async def test_a_question_that_comes_while_the_store_is_read_can_be_answered_when_it_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody who saw it in the inbox, and pressed the keys for questions and the answer, found none."""
    async with AgentMessaging("sqlite://:memory:") as sdk:
        await sdk.register_organization("acme")
        for name in ("alice", "bob"):
            await sdk.register_agent(name, "acme")
        desk = await Desk.open(sdk, "alice")
        follow = desk.inbox.follow
        asking: list[asyncio.Task[object]] = []

        async def follow_late(open_asks: set[str]) -> None:
            if not asking:
                asking.append(asyncio.create_task(sdk.conversation.send_and_wait("bob", "alice", "Tea?", timeout=30)))
                await eventually(lambda: sdk.conversation.list_open_asks("alice"))
            await follow(open_asks)

        monkeypatch.setattr(desk.inbox, "follow", follow_late)
        await desk.look("inbox")
        (item,) = desk.inbox.items
        (question,) = desk.questions
        assert question.message_id == item["message_id"]
        await sdk.conversation.reply("alice", "bob", "At four.")
        assert await asking[0] == "At four."
