"""Asking, answering and looking at sessions from a shell."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import AgentMessaging, HandlerError, MessageContext
from tests.cli.conftest import Cli, Outcome, Start
from tests.support import eventually


async def invoke(cli: Cli, *arguments: str, **how: Any) -> Outcome:
    """Run a command while this loop goes on serving."""
    return await asyncio.to_thread(cli, *arguments, **how)


async def test_an_answer_is_printed(acme: str, cli: Cli) -> None:
    async with AgentMessaging(acme) as sdk:

        @sdk.register_handler("bob")
        async def on_question(question: Any, context: MessageContext) -> Any:
            assert context.requires_reply
            return question.upper() if isinstance(question, str) else {"got": question, "from": context.metadata}

        await sdk.wait_until_served("bob", timeout=30)
        assert (await invoke(cli, "ask", "alice", "bob", "--text", "tea?")).out == "TEA?\n"
        asked = await invoke(cli, "ask", "alice", "bob", "--payload", '{"n": 1}', "-m", "a=b", "--json")
        assert asked.json == {"answer": {"got": {"n": 1}, "from": {"a": "b"}}}
        once = ["ask", "alice", "bob", "--text", "once", "--key", "k"]
        assert (await invoke(cli, *once)).out == (await invoke(cli, *once)).out == "ONCE\n"


async def test_an_answer_of_many_lines_is_printed_whole_and_moves_no_cursor(acme: str, cli: Cli) -> None:
    async with AgentMessaging(acme) as sdk:

        @sdk.register_handler("bob")
        async def on_question(question: Any, context: MessageContext) -> Any:
            return "1. Boil\n\tthe water\n2. \x1b[31mPour" if question == "how?" else "x" * 1_040_000

        await sdk.wait_until_served("bob", timeout=30)
        how = await invoke(cli, "ask", "alice", "bob", "--text", "how?")
        assert how.out == "1. Boil\n\tthe water\n2. \\x1b[31mPour\n"
        assert (await invoke(cli, "ask", "alice", "bob", "--text", "long")).out == "x" * 1_040_000 + "\n"


async def test_several_are_asked_at_once(acme: str, cli: Cli) -> None:
    async with AgentMessaging(acme) as sdk:
        await sdk.register_agent("carol", "acme", "Carol")

        @sdk.register_handler("bob")
        async def on_question(question: Any, context: MessageContext) -> Any:
            return {"to": question}

        await sdk.wait_until_served("bob", timeout=30)
        both = await invoke(cli, "ask", "alice", "bob", "carol", "--text", "tea?", check=7)
        lines = both.out.splitlines()
        assert [line.split("  ")[0].strip() for line in lines] == ["agent", "bob", "carol"]
        assert '{"to": "tea?"}' in lines[1]
        assert "ask it all the same with --no-require-handler" in lines[2]
        found = await invoke(cli, "ask", "alice", "bob", "crol", "--text", "tea?", "--first", "1", "--json")
        bob, unknown = found.json["outcomes"]
        assert bob == {"recipient_id": "bob", "answer": {"to": "tea?"}, "error": None}
        assert (unknown["error"]["code"], unknown["error"]["details"]["suggestions"]) == ("agent_not_found", ["carol"])
    for wrong in (["bob", "--first", "1"], ["bob", "carol", "--queue"]):
        assert "goes with" in (await invoke(cli, "ask", "alice", *wrong, "--text", "tea?", check=2)).err
    meant = await invoke(cli, "ask", "alice", "bob", "tea?", check=2)
    assert "if 'tea?' is the text: agent-messaging ask alice bob --text 'tea?'" in " ".join(meant.err.split())


async def test_who_cannot_answer_has_an_exit_code(acme: str, cli: Cli) -> None:
    refused = await invoke(cli, "ask", "alice", "bob", "--text", "anybody?", check=7)
    assert "No conversation handler registered for 'bob'" in refused.err
    assert "or ask it all the same with --no-require-handler." in " ".join(refused.err.split())
    nobody = await invoke(cli, "reply", "bob", "alice", "--text", "at four", check=4)
    assert "nothing to reply to. See who waits with `agent-messaging inbox AGENT --waiting`." in " ".join(
        nobody.err.split()
    )
    async with AgentMessaging(acme) as sdk:

        @sdk.register_handler("bob")
        async def on_question(question: Any, context: MessageContext) -> None:
            if question == "boom":
                raise ValueError("out of tea")

        await sdk.wait_until_served("bob", timeout=30)
        failed = await invoke(cli, "ask", "alice", "bob", "--text", "boom", "--json", check=7)
        assert "out of tea" in failed.error["message"]
        late = await invoke(cli, "ask", "alice", "bob", "--text", "hm", "--timeout", "2", "--json", check=8)
        assert late.error["code"] == "conversation_timeout"


async def test_a_person_answers_from_another_shell(acme: str, cli: Cli, start: Start) -> None:
    # A process of its own: two commands at once in this one would take each other's output.
    asking = start("ask", "alice", "bob", "--text", "tea?", "--no-require-handler", "--timeout", "60")
    while not (sessions := (await invoke(cli, "sessions", "list", "bob", "--json")).json["sessions"]):
        assert asking.poll() is None, asking.communicate()
    [session] = sessions
    assert (session["status"], session["locked_by"]) == ("waiting", "alice")
    await invoke(cli, "reply", "bob", "alice", "--text", "at four")
    assert (await asyncio.to_thread(asking.communicate, timeout=30))[0] == "at four\n"
    shown = (await invoke(cli, "sessions", "show", session["session_id"], "--json")).json
    assert [one["content"] for one in shown["messages"]] == ["tea?", "at four"]
    assert shown["session"]["unread_count"] == 0
    refused = await invoke(cli, "reply", "bob", "alice", "--text", "at five", "--json", check=1)
    assert refused.error["code"] == "session_state"
    await invoke(cli, "sessions", "end", "bob", "alice")
    assert "no open session" in (await invoke(cli, "sessions", "list", "bob")).out
    assert "ending" in (await invoke(cli, "sessions", "show", session["session_id"])).out
    again = await invoke(cli, "sessions", "end", "bob", "alice", "--json", check=4)
    assert again.error["code"] == "session_not_found"


@pytest.mark.sampled(1)
async def test_conversations_side_by_side_have_names(acme: str, cli: Cli, start: Start) -> None:
    asking = [
        start("ask", "alice", "bob", "--text", name, "--thread", name, "--no-require-handler", "--timeout", "60")
        for name in ("invoice", "lunch")
    ]
    listing = ["sessions", "list", "bob"]
    while len(sessions := (await invoke(cli, *listing, "--json")).json["sessions"]) < 2:
        assert all(one.poll() is None for one in asking)
    assert {session["thread"] for session in sessions} == {"invoice", "lunch"}
    assert "invoice" in (await invoke(cli, *listing)).out
    [lunch] = (await invoke(cli, *listing, "--thread", "lunch", "--json")).json["sessions"]
    assert lunch["thread"] == "lunch"
    assert "no open session in the thread dinner" in (await invoke(cli, *listing, "--thread", "dinner")).out
    locked = await invoke(
        cli, "ask", "alice", "bob", "--text", "x", "--thread", "lunch", "--no-require-handler", check=1
    )
    assert "Ask beside it with --thread NAME, or pass --queue" in " ".join(locked.err.split())
    unclear = await invoke(cli, "reply", "bob", "alice", "--text", "at four", check=1)
    assert "waits for 'bob' in several threads ('" in " ".join(unclear.err.split())
    [waiting] = (await invoke(cli, "inbox", "bob", "--thread", "lunch", "--json")).json["messages"]
    assert (waiting["content"], waiting["thread"]) == ("lunch", "lunch")
    assert waiting["reply"] == "agent-messaging reply bob alice --text '…' --thread lunch"
    assert "lunch: lunch" in (await invoke(cli, "inbox", "bob", "--thread", "lunch")).out
    assert "no such messages" in (await invoke(cli, "inbox", "bob", "--thread", "dinner")).out
    following = start("tail", "alice", "--thread", "lunch", "--limit", "1", "--timeout", "60", "--json")
    assert following.stderr is not None
    await asyncio.to_thread(following.stderr.readline)  # it has begun
    await invoke(cli, "reply", "bob", "alice", "--text", "at four", "--thread", "lunch")
    [told] = (await asyncio.to_thread(following.communicate, timeout=30))[0].splitlines()
    assert (json.loads(told)["content"], json.loads(told)["thread"]) == ("at four", "lunch")
    assert (await asyncio.to_thread(asking[1].communicate, timeout=30))[0] == "at four\n"
    assert "alice and bob, thread lunch" in (await invoke(cli, "sessions", "show", lunch["session_id"])).out
    ended = await invoke(cli, "sessions", "end", "bob", "alice", "--thread", "invoice")
    assert ended.out == "The conversation of bob and alice in the thread invoice is ended.\n"
    assert (await asyncio.to_thread(asking[0].wait, timeout=30)) == 1


def test_an_unknown_session(acme: str, cli: Cli) -> None:
    nobody = "00000000-0000-7000-8000-000000000000"
    assert cli("sessions", "show", nobody, "--json", check=4).error["code"] == "session_not_found"
    assert cli("sessions", "show", "nonsense", "--json", check=2).error["code"] == "invalid_argument"
    assert json.loads(cli("ask", "alice", "nobody", "--text", "x", "--json", check=4).err)["code"] == "agent_not_found"


@pytest.mark.sampled(1)
async def test_a_question_is_passed_on_and_its_way_is_shown(acme: str, cli: Cli, start: Start) -> None:
    async with AgentMessaging(acme) as sdk:
        await sdk.register_agent("carol", "acme", "Carol")

        @sdk.register_handler("carol")
        async def on_question(question: Any, context: MessageContext) -> str:
            return f"{question} at four"

        await sdk.wait_until_served("carol", timeout=30)
        asking = start("ask", "alice", "bob", "--text", "tea?", "--no-require-handler", "--timeout", "60")
        while not (waiting := (await invoke(cli, "inbox", "bob", "--json")).json["messages"]):
            assert asking.poll() is None, asking.communicate()
        id = waiting[0]["message_id"]
        nobody = await invoke(cli, "forward", "bob", id, "alice", check=2)
        assert "asked this itself" in nobody.err
        assert (await invoke(cli, "forward", "bob", id, "carol")).out == f"{id}  bob → carol\n"
        assert (await asyncio.to_thread(asking.communicate, timeout=30))[0] == "tea? at four\n"
        again = await invoke(cli, "forward", "carol", id, "bob", "--json", check=1)
        assert again.error["code"] == "session_state"
        receipt = (await invoke(cli, "receipt", id)).out
        assert receipt.startswith(f"{id}  alice → bob → carol\n")
        assert "bob → carol" in receipt.partition("\n")[2]
        sessions = (await invoke(cli, "sessions", "list", "alice", "--json")).json["sessions"]
        for one in sessions:
            assert "bob → carol" in (await invoke(cli, "sessions", "show", one["session_id"])).out

        secret = sdk.conversation.send_and_wait("alice", "bob", "secret?", 60, require_handler=False)
        refused = asyncio.create_task(secret)
        [question] = await eventually(lambda: sdk.conversation.list_open_asks("bob"))
        id = question.message_id
        assert (await invoke(cli, "refuse", "bob", id, "--reason", "Not today.")).out == f"{id}  refused\n"
        with pytest.raises(HandlerError, match="'bob' refused to answer: Not today"):
            await refused
        late = await invoke(cli, "reply", "bob", id, "--text", "well", check=1)
        assert f"The ask {id} has failed" in late.err


def test_a_conversation_becomes_a_page(acme: str, cli: Cli, tmp_path: Path) -> None:
    asked = cli("ask", "alice", "bob", "--text", "Well?", "--no-require-handler", "--timeout", "0.1", check=8)
    assert asked.out == ""
    (session,) = cli("sessions", "list", "alice", "--json").json["sessions"]
    id, target = session["session_id"], tmp_path / "talk.html"
    assert "> Well?" in cli("sessions", "export", id).out
    assert "> Well?" in cli("sessions", "export", id, "--json").json["page"]
    done = cli("sessions", "export", id, "--format", "html", "-o", str(target))
    assert f"Wrote {target}" in done.out
    assert ">Well?</div>" in target.read_text(encoding="utf-8")
    assert "exists already" in cli("sessions", "export", id, "-o", str(target), check=2).err
    missing = tmp_path / "missing.md"
    cli("sessions", "export", "01a21376-d11b-7686-85ef-aa97cf6277fe", "-o", str(missing), check=4)
    assert not missing.exists()
    meeting = cli("meetings", "create", "alice", "bob", "--json").json["meeting_id"]
    assert "# Meeting of Alice" in cli("meetings", "export", meeting).out
