"""Following messages as they are stored, from another process."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from typing import Any

import pytest

from agent_messaging import AgentMessaging, Config, MessagingConfig, StorageUnavailableError
from agent_messaging.cli.tail import Followed, look
from agent_messaging.kinds import Kind
from agent_messaging.messaging.listing import make_wanted
from tests.cli.conftest import Cli, Start


def begun(process: subprocess.Popen[str]) -> str:
    """Wait until it follows."""
    assert process.stderr is not None
    return process.stderr.readline()


def test_new_messages_of_one_agent_follow_as_json_lines(acme: str, cli: Cli, start: Start) -> None:
    cli("send", "alice", "bob", "--text", "before")
    process = start("tail", "bob", "--json", "--limit", "2", "--timeout", "60")
    assert json.loads(begun(process)) == {"following": "bob"}
    cli("send", "alice", "carol", "--text", "for carol")
    cli("send", "alice", "bob", "--text", "one")
    [sent] = cli("send", "carol", "bob", "--payload", '{"n": 2}', "--json").json["messages"]
    out, err = process.communicate(timeout=60)
    first, second = (json.loads(line) for line in out.splitlines())
    assert (first["sender_id"], first["recipient_id"], first["content"]) == ("alice", "bob", "one")
    assert (second["message_id"], second["sender_id"], second["content"]) == (sent["message_id"], "carol", {"n": 2})
    assert (process.returncode, err) == (0, "")


def test_every_agent_also_one_added_meanwhile(acme: str, cli: Cli, start: Start) -> None:
    process = start("tail", "--limit", "2", "--timeout", "60")
    assert "every agent" in begun(process)
    cli("send", "alice", "bob", "--text", "hello bob")
    cli("agents", "add", "dave", "--org", "acme")
    cli("send", "alice", "dave", "--text", "hello dave")
    out, err = process.communicate(timeout=60)
    assert "alice → bob  hello bob" in out
    assert "alice → dave  hello dave" in out
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0)])
def test_it_ends_cleanly(number: signal.Signals, exit_code: int, acme: str, start: Start) -> None:
    process = start("tail", "--json")
    begun(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (exit_code, "", "")

    async def reasons() -> set[str | None]:
        async with AgentMessaging(acme) as sdk:
            own = sdk.store.presence.process_id
            return {row.end_reason for row in await sdk.store.processes.list_processes(600) if row.process_id != own}

    assert asyncio.run(reasons()) == {"stopped"}


@pytest.mark.sampled(1)
def test_what_is_followed_is_narrowed(acme: str, cli: Cli, start: Start) -> None:
    id = cli("meetings", "create", "alice", "bob").out.strip()
    cli("meetings", "attend", "bob", id)
    narrowed = start("tail", "--from", "alice", "-m", "priority=high", "--limit", "1", "--timeout", "60", "--json")
    about = start("tail", "bob", "--meeting", id, "--limit", "4", "--timeout", "60")
    begun(narrowed)
    begun(about)
    cli("send", "alice", "bob", "--text", "low", "-m", "priority=low")
    cli("send", "carol", "bob", "--text", "theirs", "-m", "priority=high")
    cli("send", "alice", "carol", "--text", "high", "-m", "priority=high")
    assert json.loads(narrowed.communicate(timeout=60)[0])["content"] == "high"
    cli("meetings", "create", "carol", "bob")
    cli("meetings", "start", "alice", id, "--text", "Well?")
    cli("meetings", "speak", "bob", id, "--text", "Quite.")
    cli("meetings", "end", "alice", id)
    out, err = about.communicate(timeout=60)
    assert (err, about.returncode) == ("", 0)
    assert sorted(line.split(maxsplit=1)[1] for line in out.splitlines()) == [
        "ending      alice  alice ended the meeting",
        "speech      alice  Well?",
        "speech      bob  Quite.",
        f"turn        alice → bob  turn 2 of meeting {id}",
    ]
    assert "Give one of them" in cli("tail", "--meeting", id, "--thread", "x", check=2).err


def test_the_timeout_ends_it(acme: str, cli: Cli) -> None:
    assert cli("tail", "bob", "--timeout", "10ms", "--json").out == ""


def test_questions_and_meetings_follow_too_with_the_way_to_answer(acme: str, start: Start) -> None:
    process = start("tail", "bob", "--limit", "3", "--timeout", "60")
    begun(process)

    async def send() -> Any:
        async with AgentMessaging[Any](Config(url=acme, messaging=MessagingConfig(require_handler=False))) as sdk:
            await sdk.conversation.send_no_wait("carol", "bob", "a letter")
            await sdk.meeting.create_meeting("carol", ["bob"])
            asking = asyncio.create_task(sdk.conversation.send_and_wait("alice", "bob", "what?", timeout=60))
            shown = await asyncio.to_thread(process.communicate, timeout=60)
            await sdk.conversation.reply("bob", "alice", "that")
            await asking
            return shown

    out, err = asyncio.run(send())
    assert [line.split("  ")[1].strip() for line in out.splitlines()] == ["message", "invitation", "question"]
    assert "alice → bob  what?" in out
    assert [line.strip() for line in err.splitlines()] == [
        "alice waits for the answer:",
        "agent-messaging reply bob alice --text '…'",
    ]
    assert process.returncode == 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_who_follows_goes_on_when_the_store_is_back_and_misses_nothing(
    acme: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_once(*_: Any, **__: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setenv("AGENT_MESSAGING_DATABASE_URL", acme)
        raise StorageUnavailableError("The server is away.")

    cli("write", "alice", "bob", "--text", "A letter.")
    [session] = cli("sessions", "list", "alice", "--json").json["sessions"]
    cli("sessions", "end", "alice", "bob")
    monkeypatch.setattr("agent_messaging.cli.watching.describe", fails_once)
    watched = cli("sessions", "watch", session["session_id"])
    assert watched.out.count("A letter.") == 1
    assert watched.err.splitlines() == ["The server is away. It goes on when the store is back.", "The store is back."]

    async def follow() -> list[Any]:
        async with AgentMessaging[Any](acme) as sdk:
            followed = Followed(make_wanted(), [Kind.ONE_WAY], agent=await sdk.get_agent("bob"))
            assert await look(sdk, followed) == []
            await sdk.one_way.send("alice", "bob", "a note", require_handler=False)
            monkeypatch.setattr("agent_messaging.cli.tail.describe", fails_once)
            with pytest.raises(StorageUnavailableError):
                await look(sdk, followed)
            return await look(sdk, followed)

    assert [found["content"] for found in asyncio.run(follow())] == ["a note"]
