"""A person at the full-screen program: what is seen, what the keys do, and what others get, on real stores."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from textual.pilot import Pilot

from agent_messaging import AgentMessaging, Config, HandlerError, StorageUnavailableError
from agent_messaging.cli.me.command import config_of_a_person
from agent_messaging.cli.me.desk import Desk, names_for
from agent_messaging.cli.me.forms import Writing
from agent_messaging.cli.me.program import Me
from agent_messaging.cli.me.words import Line, columns, left, one_line, plain
from tests.cli.conftest import Cli
from tests.support import eventually

SOON = 10.0


def screen_of(program: Me) -> str:
    """What stands on the screen, line by line."""
    base = program.screen_stack[-1]
    return "\n".join(strip.text for strip in base._compositor.render_strips())


class Seat:
    """A person at the program, and what the person sees and types."""

    def __init__(self, program: Me, pilot: Pilot[None]) -> None:
        self.program = program
        self.pilot = pilot

    async def see(self, *texts: str, until: Callable[[str], bool] = lambda seen: True) -> str:
        """Wait until all of these are on the screen."""
        return await eventually(
            lambda: screen_of(self.program),
            SOON,
            interval=0.05,
            until=lambda seen: all(text in seen for text in texts) and until(seen),
        )

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def write(self, text: str) -> None:
        """Write into the dialog that is open, and send it."""
        dialog = self.program.screen
        assert isinstance(dialog, Writing)
        area = dialog.query_one("#text")
        area.focus()
        area.insert(text)  # type: ignore[attr-defined]
        await self.pilot.pause()
        await self.press("ctrl+s")


@contextlib.asynccontextmanager
async def seated(url: str, agent: str = "alice", size: tuple[int, int] = (80, 24)) -> AsyncIterator[Seat]:
    """Sit down as an agent, and leave at the end as a person does."""
    async with AgentMessaging(config_of_a_person(Config(url=url))) as sdk:
        program = Me(await Desk.open(sdk, agent))
        async with program.run_test(size=size, notifications=True) as pilot:
            yield Seat(program, pilot)


@pytest.fixture
async def bob(url: str) -> AsyncIterator[AgentMessaging[Any]]:
    """Another process, in which bob and carol are."""
    async with AgentMessaging(url) as sdk:
        await sdk.register_organization("acme", "Acme")
        for name in ("alice", "bob", "carol"):
            await sdk.register_agent(name, "acme", name.title())
        yield sdk


@pytest.mark.sampled(1)
async def test_a_question_is_answered_in_its_shape_and_another_refused(url: str, bob: AgentMessaging[Any]) -> None:
    async with seated(url) as seat:
        await bob.wait_until_served("alice")
        asking = asyncio.create_task(bob.conversation.send_and_wait("bob", "alice", {"text": "When do we ship?"}, 60))
        await seat.see("1 question for you", "◆", "When do we ship?")
        await seat.press("2", "r")
        await seat.see("Answer to bob", "left", "When do we ship?")
        await seat.write("On Monday.")
        assert await asyncio.wait_for(asking, SOON) == {"text": "On Monday."}
        await seat.see("Nobody waits for your answer.")

        asking = asyncio.create_task(bob.conversation.send_and_wait("bob", "alice", "Your password?", 60))
        await seat.see("Your password?")
        await seat.press("x")
        await seat.see("Refuse the question of bob")
        await seat.press("enter")
        await seat.see("Say why.")
        await seat.press(*"No", "enter")
        with pytest.raises(HandlerError, match="'alice' refused to answer: No"):
            await asyncio.wait_for(asking, SOON)
        await seat.see("Nobody waits for your answer.")
        await seat.press("1")
        await seat.see("question", "When do we ship?", "Your password?")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_question_can_be_answered_at_either_of_two_screens_and_passed_on(
    url: str, bob: AgentMessaging[Any]
) -> None:
    @bob.register_handler("carol")
    async def on_question(message: Any, context: Any) -> str:
        return f"carol knows {message}"

    async with seated(url) as one, seated(url) as other:
        await bob.wait_until_served(["alice", "carol"])
        for seat in (one, other):
            asking = asyncio.create_task(bob.conversation.send_and_wait("bob", "alice", "tea?", 60))
            await one.see("1 question for you")
            await other.see("1 question for you", "Another process serves alice too")
            await seat.press("2", "r")
            await seat.see("Answer to bob")
            await seat.write("yes")
            assert await asyncio.wait_for(asking, SOON) == "yes"
            await one.see(until=lambda seen: "question for you" not in seen)
            await other.see(until=lambda seen: "question for you" not in seen)
        asking = asyncio.create_task(bob.conversation.send_and_wait("bob", "alice", "the way", 60))
        await other.see("1 question for you")
        await other.press("f")
        await other.see("Pass on the question of bob", "carol")
        await other.press(*"car", "tab", "enter")
        assert await asyncio.wait_for(asking, SOON) == "carol knows the way"


@pytest.mark.sampled(1)
async def test_what_comes_while_it_is_closed_is_there_and_only_what_was_opened_is_read(
    url: str, bob: AgentMessaging[Any]
) -> None:
    async def unread() -> int:
        return await bob.one_way.get_message_count("alice", read_status=False)

    [first] = await bob.one_way.send("bob", "alice", "the first\nof two lines", require_handler=False)
    [second] = await bob.one_way.send("bob", "alice", {"n": 2}, {"k": "v"}, require_handler=False)
    talk = await bob.conversation.send_no_wait("bob", "alice", "a message", thread="plans")
    async with seated(url) as seat:
        seen = await seat.see("3 unread", "the first of two lines", "plans · a message")
        assert seen.index("a message") < seen.index('"n"') < seen.index("the first")
        await bob.receipts.wait([first, second, talk], timeout=SOON)
        assert await unread() == 2
        await seat.press("down", "enter")
        await seat.see("note of bob", '"n": 2', '{"k": "v"}')
        await eventually(unread, SOON, until=lambda left: left == 1)
        await seat.press("escape")
        await seat.see("2 unread", "the first of two lines")
        # What is read elsewhere is seen here.
        assert await bob.one_way.mark_messages_read("alice") == 1
        await seat.see("1 unread")
        await seat.press("up", "enter")
        await seat.see("message of bob", "plans")
        await eventually(
            lambda: bob.conversation.get_unread_messages("alice", peek=True), SOON, until=lambda found: found == []
        )
        await seat.press("r")
        await seat.see("Message to bob")
        await seat.write("an answer")
        assert await bob.conversation.wait_for_message("bob", "alice", SOON, thread="plans") == "an answer"
        await seat.see("an answer")
    receipt = await bob.receipts.get(first)
    assert (receipt.state.value, receipt.read_at is not None) == ("done", True)


@pytest.mark.sampled(1)
async def test_a_note_and_a_question_are_sent_with_completed_names_and_their_fate_is_seen(
    url: str, bob: AgentMessaging[Any]
) -> None:
    answer = asyncio.Event()

    @bob.register_handler("bob")
    async def on_message(message: Any, context: Any) -> Any:
        if context.requires_reply:
            await answer.wait()
        return {"text": f"about {message}"}

    async with seated(url) as seat:
        await seat.press("n")
        await seat.see("A note")
        await seat.write("")
        await seat.see("Say to whom it goes.")
        seat.program.screen.query_one("#name").focus()
        await seat.press(*"bo")
        await seat.see("bob")
        await seat.press("tab", "tab")
        await seat.write("hello bob")
        await seat.see("Sent.")
        await seat.press("4")
        await seat.see("hello bob", "sent")
        await seat.press("enter")
        await seat.see("note to bob", "handled")
        await seat.press("escape", "a")
        await seat.see("A question")
        await seat.press(*"nobody", "tab", "tab")
        await seat.write("what?")
        await seat.see("'nobody'")  # the text stays, and the name can be corrected
        seat.program.screen.query_one("#name").value = "bob"  # type: ignore[attr-defined]
        await seat.press("ctrl+s")
        await seat.see("waiting for 1 answer", "waits")
        await seat.press("q")
        await seat.see("You wait for 1 answer (bob). Leave, and give up?")
        await seat.press("n")
        answer.set()
        await seat.see("bob answers: about what?", "answered")


@pytest.mark.sampled(1)
async def test_a_meeting_is_attended_spoken_in_and_left(url: str, bob: AgentMessaging[Any]) -> None:
    meeting = bob.meeting
    async with seated(url, size=(100, 30)) as seat:
        id = await meeting.create_meeting("bob", ["alice", "carol"], 60)
        await meeting.attend_meeting("carol", id)
        await seat.see("1 invitation", "you are invited to a meeting with carol")
        await seat.press("3")
        await seat.see("you are invited")
        await seat.press("enter")
        await seat.see("meeting of bob", "alice (invited)", "carol joined")
        await seat.press("t")
        assert (await meeting.wait_until_ready(id, SOON)).value == "ready"
        await meeting.start_meeting("bob", id, {"text": "Shall we?"})
        await seat.see("Shall we?", "your turn", "yours")
        await seat.press("s")
        await seat.see("Your turn in the meeting of bob")
        seat.program.screen.query_one("#name").focus()
        await seat.press(*"bo", "tab", "tab")
        await seat.write("Yes, ⟨wide⟩ 日本語.")
        turn = await meeting.wait_for_turn("bob", id, SOON)
        assert [one.content for one in turn.messages] == ["Yes, ⟨wide⟩ 日本語."]
        await seat.see("日本語", "bob's")
        await meeting.speak("bob", id, "And you?", next_speaker_external_id="alice")
        await seat.see("And you?", "yours")
        await seat.press("p")
        await seat.see("carol's")
        await seat.press("l")
        await seat.see("Leave this meeting?")
        await seat.press("y")
        await seat.see("alice left")
        await meeting.end_meeting("bob", id)
        await seat.see("ended: its host ended it")


HOSTILE = "[red]m[/] \x1b[31mred\x1b[0m \x1b]0;title\x07 \u202eright \x9b2J \ud7ff tab\tend" + "x" * 500


@pytest.mark.sampled(1)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("size", [(60, 20), (140, 40)], ids=str)
async def test_hostile_wide_and_long_texts_are_shown_and_never_obeyed(
    url: str, bob: AgentMessaging[Any], size: tuple[int, int]
) -> None:
    wide = "漢字" * 300 + "é\u0301👩\u200d👩\u200d👧" * 50
    for payload in ({"[bold]": HOSTILE}, wide, "y" * 150_000):
        await bob.one_way.send("bob", "alice", payload, {"[blink]": "[/]"}, require_handler=False)
    await bob.register_agent("[red]eve", "acme", "[/]")
    await bob.conversation.send_no_wait("[red]eve", "alice", HOSTILE, thread="[link=x]t")
    async with seated(url, size=size) as seat:
        await seat.see("4 unread", "[red]m[/]", "[red]eve")
        seen = ""
        for _ in range(4):
            await seat.press("enter")
            seen += await seat.see("esc Back")
            await seat.press("end", "escape", "down")
        assert not any((ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c == "\u202e" for c in seen)
        assert all(text in seen for text in ("[red]m[/]", "[link=x]t", '"[blink]"', "漢字"))
        await seat.press("5", "slash", *"[red]m", "enter")
        await seat.see("[red]m[/]")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_many_messages_are_read_in_pages(url: str, bob: AgentMessaging[Any]) -> None:
    send = partial(bob.one_way.send, "bob", "alice", require_handler=False)
    await asyncio.gather(*(send(message=f"note {n}") for n in range(1_000)))
    async with seated(url) as seat:
        inbox = seat.program.desk.inbox
        await seat.see("1,000 unread", "note 999")
        assert len(inbox.items) == 100
        await seat.press("end")
        await eventually(lambda: len(inbox.items), SOON, until=lambda number: number == 200)
        await bob.one_way.send("bob", "alice", "the newest", require_handler=False)
        await eventually(lambda: inbox.items[0]["line"], SOON, until=lambda line: line == "the newest")
        chosen = seat.program.rows.chosen
        assert chosen is not None
        assert chosen.text == "note 900", "the cursor stays on its line"


@pytest.mark.sampled(1)
async def test_a_store_that_fails_is_told_of_and_seen_again_when_it_is_back(
    url: str, bob: AgentMessaging[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seated(url) as seat:
        messages = seat.program.desk.sdk.store.messages
        await bob.one_way.send("bob", "alice", "before", require_handler=False)
        await seat.see("before")
        await seat.pilot.click("#rows", offset=(5, 0))
        await seat.see("note of bob", "before")
        await seat.press("escape")

        async def fail(*_: Any, **__: Any) -> Any:
            raise StorageUnavailableError("The server is away.")

        with monkeypatch.context() as away:
            away.setattr(messages, "list_messages", fail)
            await seat.see("The server is away.", "before")
            await bob.one_way.send("bob", "alice", "meanwhile", require_handler=False)
        await seat.see("meanwhile", until=lambda seen: "away" not in seen)

        async def hang(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        for name in ("keys.LONG", "screen.SILENT"):
            monkeypatch.setattr(f"agent_messaging.cli.me.{name}", 0.0)
        program, is_back = seat.program, asyncio.Event()

        async def send_later(*arguments: Any) -> None:
            await is_back.wait()
            await Me._send_note(program, *arguments)

        monkeypatch.setattr(program, "_send_note", send_later)
        await seat.press("n", *"bob", "tab", *"hi", "ctrl+s")
        await eventually(lambda: program.waits_long, SOON)
        await seat.press("x", "ctrl+q")  # what waits is given up, and the question stands above what is on its way
        await seat.see("You have not sent 1 draft.")
        is_back.set()
        await eventually(lambda: bob.one_way.get_message_count("bob"), SOON)
        await seat.press("n")
        await seat.see("Sent.", until=lambda seen: "A note" not in seen)
        monkeypatch.setattr(messages, "find_seq", hang)
        await seat.press("enter", "n")
        await seat.see("The store has not answered", "The keys that you press wait for it; Ctrl+Q")
        monkeypatch.setattr(messages, "list_messages", hang)
        await seat.see("The store has not answered for")
        await seat.press("ctrl+q")
        assert await eventually(lambda: seat.program.return_code, SOON, until=lambda code: code is not None) == 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_what_was_written_and_not_sent_is_kept_and_the_help_is_whole(url: str, bob: AgentMessaging[Any]) -> None:
    async with seated(url, size=(60, 20)) as seat:
        await seat.press("s")
        await seat.see("s has nothing to do here.")
        await seat.press("n")
        await seat.see("A note")
        await seat.press(*"bob", "tab", *"draft", "ctrl+c", "n")
        await seat.see("draft")
        await seat.press("ctrl+t", "ctrl+t", "ctrl+s")
        await seat.see("Say to whom it goes.", "Esc", "cancel")  # the last line is on the screen
        seat.program.screen.query_one("#name").value = "bob"  # type: ignore[attr-defined]
        await seat.press("ctrl+s")
        await seat.see("This is not JSON")
        await seat.press("escape", "question_mark")
        await seat.see("Everywhere")
        await seat.press("end")
        await seat.see("An ask")
        await seat.press("escape", "q")
        await seat.see("You have not sent 1 draft. Leave, and give up?")
        await seat.press("n", "n")
        await seat.see("draft", "To")
        await seat.press("ctrl+q", "y")
        assert await eventually(lambda: seat.program.return_code, SOON, until=lambda code: code is not None) == 0


def test_words() -> None:
    assert [left(seconds) for seconds in (0, 59.4, 59.6, 119.8, 299.7, 3599.7, 7200, 200_000)] == [
        *("0 s", "59 s", "1:00", "2:00", "5:00", "1 h", "2 h", "2 d")
    ]
    assert plain({"text": "a\tb"}) == "a   b"
    assert (one_line("a\n\x1b b"), one_line({"x": 1})) == ("a \N{REPLACEMENT CHARACTER} b", '{ "x": 1 }')
    for width in (24, 60, 100, 140):
        from rich.cells import cell_len

        cells = columns(Line("k", "12:00", "漢字" * 20, "question", "漢" * 200, "urgent"), width)
        assert sum(cell_len(text) for _, text in cells) == width, cells
    assert names_for(["bob", "Bobby", "abo", "carol"], "bo") == ["Bobby", "bob", "abo"]


# --- as a process -----------------------------------------------------------------------------------------------------


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, url: str, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.screen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "agent_messaging.cli.main", *arguments, "--url", url],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        )
        os.close(slave)

    def read_until(self, text: str, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen[-2000:]
            if select.select([self.master], [], [], 0.5)[0]:
                try:
                    self.screen += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    assert text in self.screen, self.screen[-2000:]

    def wait(self) -> int:
        """Read on until it ends, so that nothing keeps it from writing."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.screen += os.read(self.master, 65536).decode(errors="replace")
        return self.process.wait(timeout=1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.mark.sampled(1)
def test_a_person_is_asked_by_another_process_and_answers(acme: str, cli: Cli) -> None:
    terminal = Terminal(acme, "me", "alice")
    try:
        terminal.read_until("nothing waits for you")
        asker = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "agent_messaging.cli.main",
                "ask",
                "bob",
                "alice",
                "--text",
                "Tea?",
                "--timeout",
                "60",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        terminal.read_until("Tea?")
        # All at once: each key does what it does when the one before it is done, so none is lost or overtakes another.
        os.write(terminal.master, b"2rAt four.\x13")
        terminal.read_until("has your answer")
        out, _ = asker.communicate(timeout=60)
        assert (asker.returncode, out) == (0, "At four.\n")
        os.write(terminal.master, b"n\x1bnbo\t\tTwo\rlines.\x13q")
        assert terminal.wait() == 0
        assert "Two\nlines." in [one["content"] for one in cli("inbox", "bob", "--json").json["messages"]]
    finally:
        terminal.close()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name)
def test_however_it_ends_nothing_stays_claimed_and_a_question_stays_open(
    acme: str, cli: Cli, number: signal.Signals
) -> None:
    terminal = Terminal(acme, "me", "alice")
    asker = None
    try:
        terminal.read_until("nothing waits for you")
        asker = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "agent_messaging.cli.main",
                "ask",
                "bob",
                "alice",
                "--text",
                "Tea?",
                "--timeout",
                "60",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        terminal.read_until("Tea?")
        terminal.process.send_signal(number)
        assert terminal.wait() == (0 if number is not signal.SIGKILL else -signal.SIGKILL)
        assert "Traceback" not in terminal.screen
        [message] = cli("inbox", "alice", "--json").json["messages"]
        assert (message["ask"], message["read_at"]) == ("open", None)
        found = cli("receipt", message["message_id"], "--json").json["receipt"]
        assert found["state"] != "claimed"
        cli("reply", "alice", "bob", "--text", "later")
        assert asker.communicate(timeout=60)[0] == "later\n"
    finally:
        terminal.close()
        if asker is not None:
            asker.kill()
            asker.communicate()


def test_without_a_terminal_or_the_extra_it_says_what_to_do(
    acme: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "needs a terminal" in cli("me", "alice", check=2).err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'agent-messaging[terminal]'" in cli("me", "alice", check=1).err
