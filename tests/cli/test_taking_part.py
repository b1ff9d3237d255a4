"""Taking part in what agents do by commands alone: meetings held from shells, answers, and what waits for an agent."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from typing import Any

import pytest

from agent_messaging import AgentMessaging
from tests.cli.conftest import Cli, Start


def waiting(cli: Cli, agent: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("inbox", agent, "--waiting", "--json").json["waiting"]
    return found


def do(cli: Cli, command: str, *more: str) -> str:
    """Run a command as it was recommended."""
    return cli(*shlex.split(command)[1:], *more).out


@pytest.mark.sampled(1)
def test_a_meeting_is_held_by_commands_alone(acme: str, cli: Cli) -> None:
    id = cli("meetings", "create", "alice", "bob", "carol", "--turn-duration", "10h").out.strip()
    assert cli("inbox", "bob", "--waiting").out == (
        f"alice invites to a meeting:\n  agent-messaging meetings attend bob {id}\n"
    )
    refused = cli("meetings", "start", "alice", id, "--json", check=1).error
    assert refused["code"] == "meeting_state"
    assert "agent-messaging meetings remove" in refused["message"]
    for agent in ("bob", "carol"):
        assert f"{agent} attends: alice's meeting" in do(cli, waiting(cli, agent)[0]["command"])
        assert waiting(cli, agent) == []
    [start] = waiting(cli, "alice")
    assert (start["kind"], start["id"]) == ("start", id)
    assert "bob has turn 2" in do(cli, start["command"], "--text", "Where do we eat?")
    [turn] = waiting(cli, "bob")
    assert (turn["kind"], turn["turn"], turn["by"]) == ("turn", 2, "alice")
    assert 33_000 < turn["seconds_left"] <= 36_000
    hint = turn["command"].replace(" --text", " \\\n    --text")
    left = r"(10 h|9 h 5\d min) left"
    assert re.search(rf"turn 2 of alice's meeting is current \({left}\):\n  {re.escape(hint)}", cli("inbox", "bob").err)
    assert max(map(len, hint.splitlines())) <= 78
    waited = cli("meetings", "wait", "bob", id)
    assert waited.out.endswith("  alice: Where do we eat?\n")
    assert re.fullmatch(rf"bob has turn 2, {left}\.\n", waited.err)
    early = cli("meetings", "speak", "carol", id, "--text", "Me!", "--json", check=1).error
    assert early["code"] == "not_your_turn"
    assert early["message"] == (
        "It's not carol's turn: 'bob' has turn 2. Wait for it with `agent-messaging meetings wait`."
    )
    said = cli("meetings", "speak", "bob", id, "--text", "At the harbour.", "--next", "alice", "--turn", "2", "--json")
    assert (said.json["meeting"]["current_speaker"], said.json["meeting"]["turn"]) == ("alice", 3)
    assert cli("meetings", "speak", "bob", id, "--text", "x", "--turn", "2", "--json", check=1).error["code"] == (
        "turn_lost"
    )
    assert "alice passed: alice's meeting" in cli("meetings", "pass", "alice", id, "--next", "carol").out
    assert "carol has turn 4" in cli("meetings", "show", id).out
    assert "Skipped: alice's meeting" in cli("meetings", "skip", "alice", id).out
    assert "bob left: alice's meeting" in cli("meetings", "leave", "bob", id).out
    assert "carol was removed: alice's meeting" in cli("meetings", "remove", "alice", id, "carol").out
    stays = cli("meetings", "leave", "alice", id, check=1).err
    assert (
        stays == "error: 'alice' is the host and cannot leave. End the meeting with `agent-messaging meetings end`.\n"
    )
    ended = cli("meetings", "end", "alice", id).out
    assert ended.startswith("Ended: alice's meeting, turns of ")
    assert ended.endswith("it ended: its host ended it.\n")
    over = cli("meetings", "wait", "alice", id, check=1)
    assert over.err == "The meeting has ended.\n"
    assert over.out.endswith("— alice ended the meeting\n")
    assert cli("inbox", "alice", "--waiting").out == "Nothing waits for alice.\n"


@pytest.mark.sampled(1)
def test_two_shells_hold_a_meeting_together(acme: str, cli: Cli, start: Start) -> None:
    """The one that waits is woken by what the other does."""
    id = cli("meetings", "create", "alice", "bob").out.strip()
    starting = start("meetings", "start", "alice", id, "--wait", "60", "--text", "Well?")
    cli("meetings", "attend", "bob", id)
    assert cli("meetings", "wait", "bob", id, "--timeout", "60").out.endswith("alice: Well?\n")
    out, err = starting.communicate(timeout=60)
    assert ("Started: alice's meeting, active" in out, err, starting.returncode) == (True, "", 0)
    hearing = start("meetings", "wait", "alice", id, "--timeout", "60")
    cli("meetings", "speak", "bob", id, "--payload", '{"text": "Quite."}')
    out, err = hearing.communicate(timeout=60)
    assert out.endswith("bob: Quite.\n")
    assert err.startswith("alice has turn 3")
    late = cli("meetings", "wait", "bob", id, "--timeout", "10ms", "--json", check=8).error
    assert late["code"] == "meeting_timeout"
    assert "agent-messaging meetings show" in late["message"]


@pytest.mark.sampled(1)
def test_any_message_is_answered_by_its_id_in_the_way_it_came(acme: str, cli: Cli, start: Start) -> None:
    [sent] = cli("send", "alice", "bob", "--text", "A note.", "--json").json["messages"]
    answered = cli("reply", "bob", sent["message_id"], "--text", "Noted.", "--json").json
    assert answered["recipient_id"] == "alice"
    [got] = cli("inbox", "alice", "--json").json["messages"]
    assert (got["message_id"], got["kind"], got["content"]) == (answered["message_id"], "one_way", "Noted.")
    [written] = cli("write", "alice", "bob", "--thread", "lunch", "--text", "Where?", "--json").json["messages"]
    cli("reply", "bob", written["message_id"], "--text", "At the harbour.", "-m", "sure=yes")
    [got] = cli("inbox", "alice", "--kind", "conversation", "--json").json["messages"]
    assert (got["thread"], got["content"], got["metadata"]) == ("lunch", "At the harbour.", {"sure": "yes"})
    asking = start("ask", "alice", "bob", "--text", "When?", "--thread", "lunch", "--no-require-handler")
    while not (duties := waiting(cli, "bob")):
        assert asking.poll() is None, asking.communicate()
    [duty] = duties
    assert (duty["kind"], duty["by"], duty["thread"], duty["content"]) == ("question", "alice", "lunch", "When?")
    assert cli("inbox", "bob", "--waiting", "--thread", "dinner").out == "Nothing waits for bob.\n"
    assert (
        "goes with the name" in cli("reply", "bob", duty["id"], "--thread", "x", "--text", "-", input="x", check=2).err
    )
    cli("reply", "bob", duty["id"], "--text", "At noon.")
    assert asking.communicate(timeout=60)[0] == "At noon.\n"
    again = cli("reply", "bob", duty["id"], "--text", "At one.", "--json", check=1).error
    assert again["code"] == "session_state"
    assert "was answered" in again["message"]
    assert cli("reply", "carol", duty["id"], "--text", "x", "--json", check=4).error["code"] == "message_not_found"


def test_notes_are_taken_oldest_first_and_settled(acme: str, cli: Cli) -> None:
    sent = [
        cli("send", "alice", "bob", "--text", text, "--json").json["messages"][0] for text in ("one", "two", "three")
    ]
    assert cli("receive", "bob").out.endswith("  alice: one\n")
    taken = cli("receive", "bob", "--limit", "10", "--json").json["messages"]
    assert [(one["message_id"], one["content"], one["attempt"]) for one in taken] == [
        (sent[1]["message_id"], "two", 1),
        (sent[2]["message_id"], "three", 1),
    ]
    states = [cli("receipt", one["message_id"], "--json").json["receipt"]["state"] for one in sent]
    assert states == ["done", "done", "done"]
    assert cli("receive", "bob", "--timeout", "10ms", check=8).err == "No note waits for bob.\n"


def test_what_is_written_waits_and_is_said_so(acme: str, cli: Cli) -> None:
    written = cli("write", "alice", "bob", "--text", "A letter.", "--key", "k")
    assert "No live process serves 'bob' now" in written.err
    assert cli("write", "alice", "bob", "--text", "A letter.", "--key", "k").out == written.out
    [got] = cli("inbox", "bob", "--json").json["messages"]
    assert (got["kind"], got["content"]) == ("conversation", "A letter.")
    assert cli("write", "alice", "bob", "--text", "x", "--wait", "50ms", "--json", check=8).error["code"] == "timeout"


@pytest.mark.sampled(1)
async def test_a_conversation_is_followed_until_it_ends(acme: str, start: Start, cli: Cli) -> None:
    async with AgentMessaging[Any](acme) as sdk:
        await sdk.conversation.send_no_wait("alice", "bob", {"text": "Well?"}, thread="lunch")
        [session] = await sdk.conversation.get_active_sessions("bob")
        by_id = start("sessions", "watch", session.session_id, "--json", "--timeout", "60")
        by_names = start("sessions", "watch", "bob", "alice", "--thread", "lunch", "--timeout", "60")
        assert by_id.stdout is not None
        assert by_names.stdout is not None
        lines = [await asyncio.to_thread(by_names.stdout.readline)]  # it has begun
        first = json.loads(await asyncio.to_thread(by_id.stdout.readline))
        assert (first["sender_id"], first["content"], first["thread"]) == ("alice", {"text": "Well?"}, "lunch")
        await sdk.conversation.send_no_wait("bob", "alice", "Quite.", thread="lunch")
        second = json.loads(await asyncio.to_thread(by_id.stdout.readline))
        assert (second["sender_id"], second["content"]) == ("bob", "Quite.")
        await sdk.conversation.end_conversation("alice", "bob", thread="lunch")
    out, err = await asyncio.to_thread(by_id.communicate, None, 60)
    assert (json.loads(out)["message_type"], err, by_id.returncode) == ("ending", "", 0)
    out, err = await asyncio.to_thread(by_names.communicate, None, 60)
    assert [line.split("  ", 2)[2].strip() for line in (*lines, *out.splitlines())] == [
        "alice → bob  lunch: Well?",
        "bob → alice  lunch: Quite.",
        "alice → bob  lunch: alice ended the conversation",
    ]
    assert (err, by_names.returncode) == ("", 0)
    nothing = await asyncio.to_thread(cli, "sessions", "watch", "alice", "carol", "--json", check=4)
    assert nothing.error["code"] == "session_not_found"


def test_an_agent_and_an_organization_are_shown(acme: str, cli: Cli) -> None:
    cli("send", "alice", "bob", "--text", "hi")
    id = cli("meetings", "create", "alice", "bob").out.strip()
    shown = cli("agents", "show", "bob").out
    assert shown.startswith("bob (Bob) of acme, since ")
    assert "offline: no live process serves it\nunread: 1 note and 0 messages of conversations; in 0 open con" in shown
    assert f"alice invites to a meeting:\n  agent-messaging meetings attend bob {id}" in shown
    found = cli("agents", "show", "bob", "--json").json
    assert (found["agent"]["unread"], found["waiting"][0]["kind"]) == ({"one_way": 1, "conversation": 0}, "invitation")
    assert "carol  Carol" in cli("org", "show", "acme").out
    assert len(cli("org", "show", "acme", "--json").json["agents"]) == 3
    assert cli("org", "show", "acmee", "--json", check=4).error["details"]["suggestions"] == ["acme"]
