"""Searching by the command line, and making the index anew, on both backends."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from agent_messaging import AgentMessaging
from tests.cli.conftest import Cli


@pytest.fixture
def notes(acme: str, cli: Cli) -> None:
    for sender, recipient, text, *more in (
        ("alice", "bob", "The database migration is done"),
        ("alice", "carol", "A draft of the migration", "-m", "priority=high"),
        ("bob", "alice", "機械学習\x1b[2J and a Database"),
    ):
        cli("send", sender, recipient, "--text", text, *more)


def test_matches_are_printed_with_who_wrote_them(notes: None, cli: Cli) -> None:
    lines = cli("search", "migration", "-m", '{"priority__exists": false}').out.splitlines()
    assert [line.strip() for line in lines[1:]] == ["The database migration is done"]
    assert "note  alice → bob" in lines[0]
    shown = cli("search", "学習").out
    assert "機械学習\\x1b[2J and a Database" in shown
    [match] = cli("search", "学習", "--json").json["matches"]
    assert (match["id"] in shown, match["sender"], match["content"]) == (True, "bob", "機械学習\x1b[2J and a Database")
    assert match["snippet"].startswith("機械**学習**")


def test_filters_and_pages(notes: None, cli: Cli) -> None:
    def found(*arguments: str) -> list[str]:
        return [match["content"].split()[-1] for match in cli("search", "--json", *arguments).json["matches"]]

    assert found("database") == ["done", "Database"]
    assert found("--", "migration", "-draft") == ["done"]
    assert found("migration", "--to", "carol", "-m", "priority=high") == ["migration"]
    assert found("database", "--from", "bob", "--kind", "note", "--since", "1h") == ["Database"]
    assert found("database", "--until", "1h") == found("database", "--kind", "meeting") == []
    first = cli("search", "database", "--limit", "1")
    assert "--offset 1 shows them" in first.err
    rest = cli("search", "database", "--limit", "1", "--offset", "1")
    assert len({*first.out.splitlines(), *rest.out.splitlines()}) == 4
    assert rest.err == ""
    assert found("-m", "priority=high") == ["migration"]
    assert found("-m", '{"priority__exists": false}', "--from", "alice") == ["done"]
    assert cli("search", "absent").out == "Nothing matches.\n"


def test_every_list_takes_filters_and_positions(notes: None, acme: str, cli: Cli) -> None:
    async def talk() -> list[str]:
        async with AgentMessaging(acme) as sdk:
            for number in range(3):
                await sdk.conversation.send_no_wait("alice", "bob", number, metadata={"n": number})
            meetings = [str(await sdk.meeting.create_meeting("alice", ["bob"])) for _ in range(2)]
            await sdk.meeting.attend_meeting("bob", meetings[0])
            await sdk.meeting.start_meeting("alice", meetings[0], "tea?")
            await sdk.meeting.speak("bob", meetings[0], "tea", metadata={"n": 2})
            return meetings

    meetings = asyncio.run(talk())

    def listed(noun: str, *arguments: str) -> list[Any]:
        return list(cli(*arguments, "--json").json[noun])

    inbox = partial(listed, "messages", "inbox", "bob", "--kind", "note", "--kind", "conversation")
    newest, *older, oldest = inbox()
    assert inbox("--before", newest["message_id"]) == [*older, oldest]
    assert [one["content"] for one in inbox("-m", '{"n__in": [0, 2]}')] == [2, 0]
    assert inbox("--state", "done") == inbox("--until", "1h") == []
    first = cli("inbox", "bob", "--limit", "1", "--kind", "conversation")
    assert f"--before {newest['message_id']} goes on" in first.err

    [session] = listed("sessions", "sessions", "list", "alice")
    id = session["session_id"]
    show = partial(listed, "messages", "sessions", "show", id)
    assert [one["content"] for one in show("--newest", "--limit", "2")] == [2, 1]
    assert [one["content"] for one in show("--after", older[0]["message_id"])] == [2]
    assert [one["content"] for one in show("-m", '{"n": 1}', "--type", "user_defined", "--state", "queued")] == [1]
    assert "--after" in cli("sessions", "show", id, "--limit", "1").err
    cli("sessions", "end", "alice", "bob")
    assert listed("sessions", "sessions", "list", "alice") == []
    [ended] = listed("sessions", "sessions", "list", "alice", "--status", "ended", "--since", "1h")
    assert (ended["session_id"], ended["status"]) == (id, "ended")
    assert "has no such session" in cli("sessions", "list", "alice", "--status", "all", "--before", id).out

    history = partial(listed, "messages", "meetings", "history", meetings[0])
    assert [one["content"] for one in history("-m", '{"n": 2}')] == ["tea"]
    assert [one["content"] for one in history("--type", "user_defined", "--newest")] == ["tea", "tea?"]
    assert "Nothing such was said." in cli("meetings", "history", meetings[0], "--until", "1h").out
    page = partial(listed, "meetings", "meetings", "list")
    assert [one["meeting_id"] for one in page("--before", meetings[1], "--since", "1h")] == [meetings[0]]
    assert f"--before {meetings[1]} goes on" in cli("meetings", "list", "--limit", "1").err
    gone = "01a213a9-26e2-731f-bd6e-7617e4c78203"
    for where in (["inbox", "bob"], ["sessions", "show", id], ["meetings", "history", meetings[0]]):
        assert "is the id of no message" in cli(*where, "--before", gone, check=2).err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["!?"], 2, "names nothing to look for"),
        (["tea", "--limit", "501"], 2, "limit"),
        (["tea", "--from", "alise"], 4, "Did you mean 'alice'?"),
        (["tea", "--session", "x"], 2, "session_id"),
        (["tea", "--since", "soon"], 2, "instant"),
    ],
)
def test_refusals_end_with_the_exit_code_of_their_error(
    acme: str, cli: Cli, arguments: list[str], code: int, said: str
) -> None:
    assert said in cli("search", *arguments, check=code).err


def test_the_index_is_made_anew_and_the_doctor_says_how_far_behind_it_is(notes: None, cli: Cli) -> None:
    before = cli("search", "database", "--json").json
    assert cli("doctor", "--json", check=None).json["search"]["behind"] >= 3
    assert "messages behind" in cli("doctor", check=None).out
    done = cli("db", "reindex", "--json").json
    assert (done["behind"], done["indexed_to"]) == (0, done["newest"])
    assert cli("db", "reindex").out == "Made the search index anew: it has all messages.\n"
    assert cli("doctor", "--json", check=None).json["search"]["behind"] == 0
    assert "up to date" in cli("doctor", check=None).out
    assert cli("search", "database", "--json").json == before
