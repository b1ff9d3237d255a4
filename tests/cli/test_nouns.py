"""Organizations, agents, messages, receipts and dead letters by the command line, on both backends."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from datetime import datetime
from uuid import UUID

import pytest

from agent_messaging import AgentMessaging, MessageContext
from tests.cli.conftest import Cli


def test_organizations_are_added_listed_renamed_and_removed(url: str, cli: Cli) -> None:
    first = cli("org", "add", "acme", "--json").json
    assert cli("org", "add", "acme", "--json").json == first
    cli("org", "add", "acme", "--name", "Acme", "--rename")
    [found] = cli("org", "list", "--json").json["organizations"]
    assert (found["id"], found["external_id"], found["name"]) == (first["id"], "acme", "Acme")
    assert "acme" in cli("org", "list").out
    assert cli("org", "remove", "acme", "--yes", "--json").json == {"external_id": "acme", "removed": True}
    assert cli("org", "list").out.startswith("No organizations. Add one:")


def test_agents_are_added_listed_and_removed(acme: str, cli: Cli) -> None:
    found = cli("agents", "list", "--org", "acme", "--json").json["agents"]
    assert [(one["external_id"], one["organization"], one["name"]) for one in found] == [
        ("alice", "acme", "Alice"),
        ("bob", "acme", "Bob"),
        ("carol", "acme", "Carol"),
    ]
    cli("agents", "remove", "carol", "--yes")
    assert [one["external_id"] for one in cli("agents", "list", "--json").json["agents"]] == ["alice", "bob"]


@pytest.mark.parametrize("noun", ["org", "agents"])
def test_removing_asks_first_and_a_program_must_say_yes(noun: str, acme: str, cli: Cli) -> None:
    name = "acme" if noun == "org" else "bob"
    refused = cli(noun, "remove", name, check=2)
    assert "--yes" in refused.err
    assert name in cli(noun, "list").out


def test_plain_tables_are_aligned(acme: str, cli: Cli) -> None:
    head, *rows = cli("agents", "list").out.splitlines()
    for row in rows:
        assert row.index("acme") == head.index("organization")


def test_send_and_inbox(acme: str, cli: Cli) -> None:
    sent = cli("send", "alice", "bob", "carol", "--text", "Tea at four?", "-m", "urgent=no", "--json").json
    assert [one["recipient_id"] for one in sent["messages"]] == ["bob", "carol"]
    assert sent["unserved"] == ["bob", "carol"]
    [got] = cli("inbox", "bob", "--json").json["messages"]
    assert got["message_id"] == sent["messages"][0]["message_id"]
    assert (got["sender_id"], got["content"], got["metadata"]) == ("alice", "Tea at four?", {"urgent": "no"})
    assert got["read_at"] is None
    assert datetime.fromisoformat(got["created_at"]).tzinfo is not None
    assert "Tea at four?" in cli("inbox", "bob", "--from", "alice").out
    assert "no such messages" in cli("inbox", "bob", "--from", "carol").out
    cli("inbox", "bob", "--from", "nobody", check=4)


def test_a_message_nobody_serves_is_stored_and_said_so(acme: str, cli: Cli) -> None:
    sent = cli("send", "alice", "bob", "--text", "hi")
    UUID(sent.out.split()[0])
    assert sent.err == "Stored. No live process serves 'bob' now; it will be handled as soon as one does.\n"


def test_require_handler_refuses_what_nobody_serves(acme: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = cli("send", "alice", "bob", "--text", "hi", "--require-handler", "--json", check=7)
    assert refused.error["code"] == "no_handler_registered"
    assert "--no-require-handler" in refused.error["message"]
    monkeypatch.setenv("MESSAGING_REQUIRE_HANDLER", "true")
    cli("send", "alice", "bob", "--text", "hi", check=7)
    cli("send", "alice", "bob", "--text", "hi", "--no-require-handler")
    assert len(cli("inbox", "bob", "--json").json["messages"]) == 1


@pytest.mark.parametrize(
    ("arguments", "input", "payload"),
    [
        (["--text", '{"a": 1}'], None, '{"a": 1}'),
        (["--payload", '{"a": [1, null]}'], None, {"a": [1, None]}),
        (["--payload", "-"], '{"a": "é"}', {"a": "é"}),
        ([], "two\nlines\n", "two\nlines"),
        (["--text", "-"], "42\n", "42"),
    ],
)
def test_a_payload_is_text_json_or_standard_input(
    arguments: list[str], input: str | None, payload: object, acme: str, cli: Cli
) -> None:
    cli("send", "alice", "bob", *arguments, input=input)
    assert cli("inbox", "bob", "--json").json["messages"][0]["content"] == payload


@pytest.mark.parametrize("arguments", [[], ["--text", "-"]])
@pytest.mark.parametrize("command", [["send"], ["ask"], ["reply"]])
def test_an_empty_pipe_sends_nothing(command: list[str], arguments: list[str], acme: str, cli: Cli) -> None:
    for input in ("", "\n"):
        refused = cli(*command, "alice", "bob", *arguments, input=input, check=2)
        assert "the standard input is empty" in refused.err
    assert cli("inbox", "bob", "--json").json["messages"] == []


def test_an_empty_text_that_is_meant_is_sent(acme: str, cli: Cli) -> None:
    cli("send", "alice", "bob", "--text", "")
    assert [one["content"] for one in cli("inbox", "bob", "--json").json["messages"]] == [""]


def test_a_text_that_stands_where_a_recipient_belongs_is_refused_with_the_command_that_was_meant(
    acme: str, cli: Cli
) -> None:
    refused = cli("send", "alice", "bob", "Tea at four?", input="", check=2)
    meant = "agent-messaging send alice bob --text 'Tea at four?'"
    assert meant in refused.err
    cli(*shlex.split(meant)[1:])
    assert [one["content"] for one in cli("inbox", "bob", "--json").json["messages"]] == ["Tea at four?"]
    asked = cli("ask", "alice", "bob", "Tea at four?", input="", check=2)
    assert "agent-messaging ask alice bob --text 'Tea at four?'" in asked.err
    assert "--text, in quotes" in cli("reply", "alice", "bob", "Tea at four?", input="", check=2).err


def test_a_key_stores_a_repeated_command_once(acme: str, cli: Cli) -> None:
    first = cli("send", "alice", "bob", "--text", "hi", "--key", "k1").out
    assert cli("send", "alice", "bob", "--text", "hi", "--key", "k1").out == first
    assert len(cli("inbox", "bob", "--json").json["messages"]) == 1
    assert cli("send", "alice", "bob", "--text", "other", "--key", "k1", "--json", check=5).error["code"] == (
        "idempotency_conflict"
    )


def test_expiry_and_schedule_are_in_the_receipt(acme: str, cli: Cli) -> None:
    sent = cli("send", "alice", "bob", "--text", "x", "--expires-in", "2h", "--deliver-at", "+10m", "--json").json
    receipt = cli("receipt", sent["messages"][0]["message_id"], "--json").json["receipt"]
    created, due, expires = (
        datetime.fromisoformat(receipt[name]) for name in ("created_at", "deliver_at", "expires_at")
    )
    assert 595 < (due - created).total_seconds() < 605
    assert 7195 < (expires - created).total_seconds() < 7205
    cli("send", "alice", "bob", "--text", "x", "--deliver-at", "2030-01-31T09:00Z")


def test_inbox_pages_and_marks_as_read(acme: str, cli: Cli) -> None:
    for number in range(3):
        cli("send", "alice", "bob", "--text", f"note {number}")
    page = cli("inbox", "bob", "--limit", "1", "--offset", "1", "--json").json["messages"]
    assert [one["content"] for one in page] == ["note 1"]
    assert "1 of 3" in cli("inbox", "bob", "--limit", "1").err
    assert cli("inbox", "bob", "--unread", "--mark-read", "--json").json["marked_read"] == 3
    assert cli("inbox", "bob", "--unread").out == "bob has no unread messages.\n"
    assert len(cli("inbox", "bob", "--json").json["messages"]) == 3


def test_what_a_terminal_would_obey_is_not_printed(acme: str, cli: Cli) -> None:
    cli("send", "alice", "bob", "--text", "red \x1b[31m and \x9b31m\nnext")
    out = cli("inbox", "bob").out
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert "red \\x1b[31m and \\x9b31m\\nnext" in out


REVERSED = "pay \u202etxt.exe\u202c and \u2066turn\u2069"


def test_no_text_is_shown_in_another_order_than_it_has(acme: str, cli: Cli) -> None:
    cli("send", "alice", "bob", "--text", REVERSED)
    cli("send", "alice", "bob", "--payload", json.dumps({"of": REVERSED}))
    out = cli("inbox", "bob").out
    assert "pay \\u202etxt.exe\\u202c and \\u2066turn\\u2069" in out
    assert '{"of": "pay \\u202etxt.exe\\u202c and \\u2066turn\\u2069"}' in out
    assert not set("\u202e\u202c\u2066\u2069") & set(out)
    joined = "\u0645\u06cc\u200c\u062e\u0648\u0631\u0645 👩\u200d💻"  # Persian, and a woman at a computer
    cli("send", "alice", "bob", "--text", joined)
    assert joined in cli("inbox", "bob").out, "what joins letters is text"


def test_json_has_nothing_that_a_terminal_would_obey_and_reads_back_as_it_was(acme: str, cli: Cli) -> None:
    text = f"\x1b[31m \x7f \x85\x9b31m \u2028 {REVERSED} é 株 👩"
    cli("send", "alice", "bob", "--text", text)
    inbox = cli("inbox", "bob", "--json")
    assert inbox.json["messages"][0]["content"] == text
    assert not set("\x1b\x7f\x85\x9b\u2028\u202e\u2066") & set(inbox.out)
    assert "é 株 👩" in inbox.out, "other text is shown as it is"


async def handle_first(url: str, fail: bool) -> None:
    """Serve bob until his oldest message is done, or dead."""
    sdk: AgentMessaging[str] = AgentMessaging(url)
    ended = asyncio.Event()

    @sdk.register_handler("bob")
    async def handle(text: str, context: MessageContext) -> None:
        ended.set()
        if fail:
            raise RuntimeError("the \x1b[31m printer is on fire")

    async with sdk:
        await ended.wait()


def test_a_receipt_tells_the_life_of_a_message(acme: str, cli: Cli) -> None:
    [sent] = cli("send", "alice", "bob", "--text", "hi", "--json").json["messages"]
    id = sent["message_id"]
    assert "queued" in cli("receipt", id).out
    asyncio.run(handle_first(acme, fail=False))
    receipt = cli("receipt", id, "--json").json["receipt"]
    assert receipt["state"] == "done"
    assert [event["event"] for event in receipt["events"]] == ["stored", "claimed", "done"]
    human = cli("receipt", id).out
    assert "alice → bob" in human
    assert human.index("stored") < human.index("claimed") < human.rindex("done")
    assert human.count(f"pid {os.getpid()}") == 2


def test_dead_letters_are_listed_with_reasons_and_redriven(
    acme: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESSAGING_MAX_ATTEMPTS", "1")
    assert cli("dead-letters", "list").out == "No dead letters.\n"
    [sent] = cli("send", "alice", "bob", "--text", "hi", "-m", "n=1", "--json").json["messages"]
    asyncio.run(handle_first(acme, fail=True))
    narrowed = ["--agent", "bob", "--kind", "note", "-m", "n=1", "--since", "1h", "--json"]
    [dead] = cli("dead-letters", "list", *narrowed).json["dead_letters"]
    assert cli("dead-letters", "list", "-m", "n=2").out == "No dead letters.\n"
    assert dead["message_id"] == sent["message_id"]
    assert "printer is on fire" in dead["reasons"][0]
    human = cli("dead-letters", "list")
    assert "printer is on fire" in human.out
    assert "\x1b" not in human.out
    assert "redrive" in human.err
    assert cli("dead-letters", "redrive", dead["message_id"], "--json").json == {"redriven": 1}
    assert cli("dead-letters", "redrive", "--agent", "bob").out == "0 messages queued again.\n"
    asyncio.run(handle_first(acme, fail=False))
    assert cli("receipt", sent["message_id"], "--json").json["receipt"]["state"] == "done"


def test_waiting_for_the_receipt(acme: str, cli: Cli) -> None:
    waited = cli("send", "alice", "bob", "--text", "hi", "--wait", "50ms", "--json", check=8)
    assert waited.error["code"] == "timeout"
    assert waited.json["receipts"][0]["state"] == "queued"
    expired = cli("send", "alice", "bob", "--text", "hi", "--wait", "30", "--expires-in", "10ms", "--json", check=7)
    assert expired.json["receipts"][0]["state"] == "expired"


def test_commands_leave_cleanly_and_serve_nobody(acme: str, cli: Cli) -> None:
    cli("send", "alice", "bob", "--text", "hi")

    async def look() -> list[tuple[str | None, int]]:
        async with AgentMessaging(acme) as sdk:
            rows = await sdk.store.processes.list_processes(600)
            own = sdk.store.presence.process_id
            return [(row.end_reason, len(row.services)) for row in rows if row.process_id != own]

    found = asyncio.run(look())
    assert len(found) == 2
    assert set(found) == {("stopped", 0)}


def test_json_may_stand_anywhere(acme: str, cli: Cli) -> None:
    lines = [["--json", "agents", "list"], ["agents", "--json", "list"], ["agents", "list", "--json"]]
    documents = [json.loads(cli(*line).out) for line in lines]
    assert documents[0] == documents[1] == documents[2]
