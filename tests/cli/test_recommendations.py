"""What the commands recommend is carried out here as it stands, and helps."""

from __future__ import annotations

import asyncio
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import AgentMessaging, Config, ConversationTimeoutError, MessagingConfig
from tests.cli.conftest import Cli
from tests.support import eventually


async def carry_out(cli: Cli, url: str, step: str) -> list[str]:
    """Do what a next step says in backticks: commands of the program and lines of Python; answers what was done."""
    done = re.findall(r"`([^`]+)`", step) or [step]
    for what in done:
        if what.startswith("agent-messaging "):
            await asyncio.to_thread(cli, *shlex.split(what)[1:])
        else:
            names: dict[str, Any] = {}
            exec("async def do(sdk):\n" + textwrap.indent(what, "    "), names)
            async with AgentMessaging(url) as sdk:
                await names["do"](sdk)
    return done


async def findings(cli: Cli) -> list[dict[str, Any]]:
    document = (await asyncio.to_thread(cli, "doctor", "--json", check=None)).json
    return list(document["findings"])


def sdk_for(url: str) -> AgentMessaging[Any]:
    return AgentMessaging(Config(url=url, messaging=MessagingConfig(require_handler=False)))


async def test_an_empty_store_is_filled_as_the_doctor_says(url: str, cli: Cli) -> None:
    done = []
    while found := await findings(cli):
        done += await carry_out(cli, url, found[0]["next_step"])
    made = ["db"] if url.startswith("sqlite") else []  # a test's database on PostgreSQL has its tables already
    assert [one.split()[1] for one in done] == [*made, "org", "agents"]


async def test_an_organization_that_is_not_called_as_in_the_examples(url: str, cli: Cli) -> None:
    await asyncio.to_thread(cli, "db", "init")
    await asyncio.to_thread(cli, "org", "add", "the others")
    [found] = await findings(cli)
    await carry_out(cli, url, found["next_step"])
    assert await findings(cli) == []


async def test_an_organization_that_is_called_like_an_option(url: str, cli: Cli) -> None:
    await asyncio.to_thread(cli, "db", "init")
    await asyncio.to_thread(cli, "org", "add", "--", "--help")
    [found] = await findings(cli)
    await carry_out(cli, url, found["next_step"])
    assert await findings(cli) == []


async def test_a_store_that_is_named_on_the_command_line_is_named_in_what_is_recommended(
    cli: Cli, tmp_path: Path
) -> None:
    there = f"sqlite:///{tmp_path}/an other.db"
    for _ in range(3):
        document = (await asyncio.to_thread(cli, "doctor", "--json", "--url", there, check=None)).json
        [found] = document["findings"]
        await carry_out(cli, there, found["next_step"])
    assert (await asyncio.to_thread(cli, "doctor", "--url", there)).out.endswith("Nothing is wrong.\n")
    assert f"--url '{there}'" in (await asyncio.to_thread(cli, "topics", "list", "--url", there)).out
    with_password = await asyncio.to_thread(cli, "inbox", "bob", "--url", "sqlite:///no.db?password=secret", check=None)
    assert "secret" not in with_password.err


async def test_notes_that_nobody_handles(acme: str, cli: Cli) -> None:
    for _ in range(2):
        await asyncio.to_thread(cli, "send", "alice", "bob", "--text", "hi")
    [found] = await findings(cli)
    assert found["problem"] == "Messages wait for 'bob', which no live process serves."
    await carry_out(cli, acme, found["next_step"])
    assert await findings(cli) == []


async def waiting_for_bob(cli: Cli) -> list[dict[str, Any]]:
    shown = (await asyncio.to_thread(cli, "inbox", "bob", "--json")).json["messages"]
    return [one for one in shown if one["reply"] is not None]


async def test_a_question_that_nobody_handles_is_in_the_inbox_and_answered_as_inbox_and_doctor_say(
    acme: str, cli: Cli
) -> None:
    async with sdk_for(acme) as sdk:
        for how in ("doctor", "inbox"):
            asking = asyncio.create_task(sdk.conversation.send_and_wait("alice", "bob", {"ask": how}, timeout=60))
            shown = await eventually(lambda: waiting_for_bob(cli))
            assert (shown[0]["kind"], shown[0]["ask"], shown[0]["content"]) == ("conversation", "open", {"ask": how})
            human = await asyncio.to_thread(cli, "inbox", "bob")
            assert "question" in human.out
            assert re.fullmatch(
                rf"alice waits for the answer \(.* left\):\n  {re.escape(shown[0]['reply'])}\n", human.err
            )
            [found] = await findings(cli)
            assert found["problem"].startswith("Questions wait for 'bob'")
            if how == "doctor":
                [command] = await carry_out(cli, acme, found["next_step"])
                assert command == shown[0]["reply"]
            else:
                await carry_out(cli, acme, shown[0]["reply"])
            assert await asking == "…"
            [answered] = (await asyncio.to_thread(cli, "inbox", "bob", "--json", "--limit", "1")).json["messages"]
            assert (answered["ask"], answered["reply"]) == ("replied", None)


async def test_agents_that_are_called_like_options(acme: str, cli: Cli) -> None:
    """`-x` and `--help` have to reach the command as names, of an ask, of dead letters and of an organization."""
    await asyncio.to_thread(cli, "org", "add", "--", "--help")
    async with sdk_for(acme) as sdk:
        for name in ("-x", "--help", "--text"):
            await sdk.register_agent(name, "--help", name)
        for asked, asker in (("-x", "alice"), ("--help", "--text"), ("carol", "-x")):
            asking = asyncio.create_task(sdk.conversation.send_and_wait(asker, asked, "what?", timeout=60))
            [found] = await eventually(lambda: findings(cli))
            await carry_out(cli, acme, found["next_step"])
            assert await asking == "…"
        await sdk.one_way.send("alice", "--help", 1)
        [message] = await sdk.receive("--help")
        await message.reject("cannot")
    [found] = await findings(cli)
    assert await carry_out(cli, acme, found["next_step"]) == [
        "agent-messaging dead-letters list",
        "agent-messaging dead-letters redrive --agent --help",
    ]
    [found] = await findings(cli)
    assert "Messages wait for" in found["problem"]


async def test_a_question_whose_asker_has_gone_and_a_correspondence(acme: str, cli: Cli) -> None:
    async with sdk_for(acme) as sdk:
        with pytest.raises(ConversationTimeoutError):
            await sdk.conversation.send_and_wait("alice", "carol", 1, timeout=1.0)
        await sdk.conversation.send_no_wait("alice", "bob", "a letter")
    shown = (await asyncio.to_thread(cli, "inbox", "bob", "--json")).json["messages"]
    assert [(one["kind"], one["ask"], one["reply"]) for one in shown] == [("conversation", None, None)]
    [shown] = (await asyncio.to_thread(cli, "inbox", "carol", "--json")).json["messages"]
    assert (shown["ask"], shown["reply"]) == ("timed_out", None)
    [found] = await findings(cli)
    assert found["problem"].startswith("Conversation messages wait for 'bob',")
    await carry_out(cli, acme, found["next_step"])
    assert await findings(cli) == []


async def test_an_invitation_and_a_turn(acme: str, cli: Cli) -> None:
    async with sdk_for(acme) as sdk:
        meeting = await sdk.meeting.create_meeting("alice", ["bob"], turn_duration=60)
        [invitation] = (await asyncio.to_thread(cli, "inbox", "bob", "--json")).json["messages"]
        assert (invitation["kind"], invitation["content"]["meeting_id"]) == ("invitation", str(meeting))
        assert "invitation" in (await asyncio.to_thread(cli, "inbox", "bob")).out
        [found] = await findings(cli)
        assert found["problem"].startswith("Invitations to meetings wait for 'bob',")
        await carry_out(cli, acme, found["next_step"])
        assert await findings(cli) == [], "bob attends"
        await sdk.meeting.attend_meeting("bob", meeting)
        await sdk.meeting.start_meeting("alice", meeting, {"text": "hello"})
        shown = (await asyncio.to_thread(cli, "inbox", "bob", "--json", "--kind", "turn")).json["messages"]
        assert [one["content"]["turn"] for one in shown] == [2]
        [found] = await findings(cli)
        assert found["problem"].startswith("A turn in a meeting waits for 'bob',")
        assert not found["is_problem"]
        await carry_out(cli, acme, found["next_step"])
        history = await sdk.meeting.get_meeting_history(meeting)
        assert "…" in [one.content for one in history]


async def test_dead_letters(acme: str, cli: Cli) -> None:
    async with sdk_for(acme) as sdk:
        await sdk.one_way.send("alice", "bob", 1)
        [message] = await sdk.receive("bob")
        await message.reject("cannot")
    [found] = await findings(cli)
    assert "1 dead letter" in found["problem"]
    await carry_out(cli, acme, found["next_step"])
    [found] = await findings(cli)
    assert "Messages wait for 'bob'" in found["problem"]


def test_the_inbox_has_all_kinds_in_one_order_and_pages_them(acme: str, cli: Cli) -> None:
    async def send() -> None:
        async with sdk_for(acme) as sdk:
            for number in range(6):
                post: Any = sdk.one_way.send if number % 3 else sdk.conversation.send_no_wait
                await post("alice", "bob", number)
            await sdk.conversation.end_conversation("alice", "bob")

    asyncio.run(send())
    every = cli("inbox", "bob", "--json").json["messages"]
    assert [one["content"] for one in every[1:]] == [5, 4, 3, 2, 1, 0]
    assert every[0]["message_type"] == "ending"
    pages = [cli("inbox", "bob", "--json", "--limit", "2", "--offset", str(at)).json["messages"] for at in (0, 2, 4, 6)]
    assert [one for page in pages for one in page] == every
    shown = cli("inbox", "bob", "--limit", "2")
    assert "2 of 7" in shown.err
    notes = cli("inbox", "bob", "--kind", "note", "--json").json["messages"]
    assert [one["content"] for one in notes] == [5, 4, 2, 1]
    unread = cli("inbox", "bob", "--unread", "--mark-read", "--json").json
    assert [one["content"] for one in unread["messages"]] == [5, 4, 3, 2, 1, 0]
    assert unread["marked_read"] == 4
    assert [one["content"] for one in cli("inbox", "bob", "--unread", "--json").json["messages"]] == [3, 0]
    assert cli("inbox", "alice").out == "alice has received no messages yet.\n"


def test_a_damaged_message_hides_no_other_one(acme: str, cli: Cli) -> None:
    async def damage() -> str:
        async with sdk_for(acme) as sdk:
            [id] = await sdk.one_way.send("alice", "bob", "genuine")
            await sdk.one_way.send("alice", "bob", "another")
            engine: Any = sdk.store.engine  # type: ignore[attr-defined]
            statement = f"update messages set content = '\"forged\"' where id = '{id}'"
            if acme.startswith("sqlite"):
                await engine.write(lambda connection: connection.execute(statement))
            else:
                await engine.run(lambda connection: connection.execute(statement), write=True)
            return id

    id = asyncio.run(damage())
    newest, damaged = cli("inbox", "bob", "--json").json["messages"]
    assert (newest["content"], newest["damage"]) == ("another", None)
    assert (damaged["message_id"], damaged["content"]) == (id, None)
    assert "damaged" in damaged["damage"]
    out = cli("inbox", "bob").out
    assert "another" in out
    assert "is damaged" in out
    assert "forged" not in out
