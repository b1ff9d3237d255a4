"""Meetings seen from a shell, one of them live."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agent_messaging import AgentMessaging
from tests.cli.conftest import Cli, Outcome, Start

NOBODY = "00000000-0000-7000-8000-000000000000"


async def invoke(cli: Cli, *arguments: str, **how: Any) -> Outcome:
    """Run a command while this loop goes on."""
    return await asyncio.to_thread(cli, *arguments, **how)


async def test_a_meeting_from_its_creation_to_its_end(acme: str, cli: Cli) -> None:
    assert "No meetings" in (await invoke(cli, "meetings", "list")).out
    async with AgentMessaging[Any](acme) as sdk:
        id = await sdk.meeting.create_meeting("alice", ["bob"], turn_duration=600)
        await sdk.meeting.attend_meeting("bob", id)
        await sdk.meeting.start_meeting("alice", id, {"text": "Shall we?"})
        [listed] = (await invoke(cli, "meetings", "list", "bob", "--status", "active", "--json")).json["meetings"]
        assert (listed["meeting_id"], listed["host_id"], listed["current_speaker"]) == (str(id), "alice", "bob")
        shown = (await invoke(cli, "meetings", "show", str(id))).out
        assert "alice's meeting, active, turns of 10 min, speakers in order; bob has turn 2" in shown
        await sdk.meeting.speak("bob", id, "We shall.")
        await sdk.meeting.end_meeting("alice", id)
    said = (await invoke(cli, "meetings", "history", str(id))).out.splitlines()
    assert [line.split("  ", 1)[1] for line in said] == [
        "— bob joined",
        "alice: Shall we?",
        "bob: We shall.",
        "— alice ended the meeting",
    ]
    timeline = (await invoke(cli, "meetings", "timeline", str(id), "--json")).json["timeline"]["timeline"]
    events = [one["event_type"] for one in timeline if one["type"] == "event"]
    assert events[0] == "participant_joined"
    assert events[-1] == "meeting_ended"
    assert "turn_changed" in (await invoke(cli, "meetings", "timeline", str(id))).out


async def test_a_meeting_that_ends_by_itself_says_why_everywhere(acme: str, cli: Cli) -> None:
    bounds = ("--max-turns", "2", "--max-duration", "10m", "--turn-duration", "1m", "--silent-host")
    id = (await invoke(cli, "meetings", "create", "alice", "bob", *bounds)).out.strip()
    shown = (await invoke(cli, "meetings", "show", id)).out
    assert "turns of 1 min, speakers in order, 0 of 2 turns taken, at most 10 min" in shown
    async with AgentMessaging[Any](acme) as sdk:
        await sdk.meeting.attend_meeting("bob", id)
        await sdk.meeting.start_meeting("alice", id, "hello")
        await sdk.meeting.speak("bob", id, "good bye")
    assert "ended: max_turns" in (await invoke(cli, "meetings", "list")).out
    why = "it has had all its turns"
    assert f"2 of 2 turns taken, at most 10 min; it ended: {why}" in (await invoke(cli, "meetings", "show", id)).out
    assert f"— the meeting ended: {why}" in (await invoke(cli, "meetings", "history", id)).out
    assert why in (await invoke(cli, "meetings", "timeline", id)).out
    [listed] = (await invoke(cli, "meetings", "list", "--json")).json["meetings"]
    assert (listed["end_reason"], listed["max_turns"], listed["host_speaks"]) == ("max_turns", 2, False)


def test_a_meeting_that_cannot_be_is_refused(acme: str, cli: Cli) -> None:
    assert "max_turns" in cli("meetings", "create", "alice", "bob", "--max-turns", "0", check=2).err
    assert cli("meetings", "create", "alice", "bobby", "--json", check=4).error["code"] == "agent_not_found"
    assert (cli("meetings", "create", "alice", "--silent-host", "--host-names", check=2)).err
    assert cli("meetings", "list", "--json").json == {"meetings": []}


async def test_watching_shows_what_is_said_until_the_end(acme: str, start: Start) -> None:
    async with AgentMessaging[Any](acme) as sdk:
        id = await sdk.meeting.create_meeting("alice", ["bob"], turn_duration=600)
        await sdk.meeting.attend_meeting("bob", id)
        watching = start("meetings", "watch", str(id), "--json", "--timeout", "60")
        assert watching.stdout is not None
        joined = json.loads(await asyncio.to_thread(watching.stdout.readline))
        assert joined["content"] == {"type": "participant_joined", "agent": "bob"}
        await sdk.meeting.start_meeting("alice", id, {"text": "Shall we?"})
        opening = json.loads(await asyncio.to_thread(watching.stdout.readline))
        assert (opening["sender"], opening["content"]) == ("alice", {"text": "Shall we?"})
        await sdk.meeting.end_meeting("alice", id)
        out, err = await asyncio.to_thread(watching.communicate, None, 60)
        assert (json.loads(out)["message_type"], err, watching.returncode) == ("ending", "", 0)


async def test_no_view_of_a_meeting_prints_what_a_terminal_would_obey(acme: str, cli: Cli) -> None:
    said = "\x1b[2J\x9b2J \u202ereversed\u202c"
    async with AgentMessaging[Any](acme) as sdk:
        id = await sdk.meeting.create_meeting("alice", [])
        await sdk.meeting.start_meeting("alice", id, said)
        await sdk.meeting.speak("alice", id, {"of": said})
        await sdk.meeting.end_meeting("alice", id)
    for command in ("history", "timeline", "watch"):
        shown = (await invoke(cli, "meetings", command, str(id))).out
        assert "\\x1b[2J\\x9b2J \\u202ereversed\\u202c" in shown
        plain = (await invoke(cli, "meetings", command, str(id), "--json")).out
        assert "\\u001b[2J\\u009b2J \\u202ereversed\\u202c" in plain
        assert not set(said) & set("\x1b\x9b\u202e\u202c") & set(shown + plain)


def test_an_unknown_meeting(acme: str, cli: Cli) -> None:
    for command in ("show", "history", "timeline", "watch"):
        assert cli("meetings", command, NOBODY, "--json", check=4).error["code"] == "meeting_not_found"
        assert cli("meetings", command, "nonsense", "--json", check=2).error["code"] == "invalid_argument"
