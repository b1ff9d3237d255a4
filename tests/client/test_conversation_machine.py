"""Any interleaving of what two agents in two SDK objects can do with each other, against a model in plain Python."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from agent_messaging import (
    ConversationEndedError,
    ConversationTimeoutError,
    MessageContext,
    MutualWaitError,
    NotInitializedError,
    SessionLockError,
    SessionNotFoundError,
    SessionStateError,
)
from agent_messaging.delivery import runs
from agent_messaging.delivery.abandonment import Abandonment
from agent_messaging.messaging.conversation import Conversation, sessions
from agent_messaging.models import SessionStatus
from agent_messaging.storage.sqlite.sessions import SQLiteSessions
from tests.client.conversing import Clerk, ask, begin, nothing_is_left, rows, until_registered, until_waiting
from tests.client.support import SOON, Sdk, make_config
from tests.support import eventually

EXAMPLES, STEPS = 16, 20
GIVEN_UP = {"give up a run that finishes": False, "give up a run that is cancelled": True}
"""What may happen to a run whose asker waits, every other time because somebody ends the conversation."""
RARE = {
    **dict.fromkeys(("answer by the next message", "ask back"), 100),
    **dict.fromkeys(GIVEN_UP, 12),
    **dict.fromkeys(("reply", "ask in a circle", "ask again", "handle"), 12),
    **dict.fromkeys(("give up an ask", "give up a wait", "take"), 8),
    **dict.fromkeys(("send", "end", "end what is waited in", "restart while waiting", "read of one sender"), 3),
    **dict.fromkeys(("restart", "reply to nobody", "end nothing", "look for nothing", "ask briefly"), 1),
}
EAGER = 4
"""How likely an act is that has not happened in its sequence yet, compared to one that has; where `RARE` says nothing
else. What needs an open question is the likelier, since most else ends it."""
BRIEF = 0.05
"""Seconds of an ask that is to time out."""


ACTS = {*RARE, "ask", "read", "wait"}


@dataclass(eq=False)
class Letter:
    """An unread message."""

    content: Any
    told: list[Any]
    """All that was said in its session."""
    place: str = "queued"
    """Or "free": nobody is to handle it; "at work": a handler has it; "handled": a handler had it; "expired": it was an
    ask, which has ended."""


@dataclass(eq=False)
class Question:
    """An open ask."""

    letter: Letter
    call: asyncio.Task[Any]
    is_seen: bool = False


@dataclass(eq=False)
class Side:
    """One of the two agents, as the model has it."""

    name: str
    sdk: Sdk
    unread: list[Letter] = field(default_factory=list)
    """To this agent, oldest first."""
    asks: Question | None = None
    waits: asyncio.Task[Any] | None = None

    def first_to_take(self) -> Letter | None:
        return next((letter for letter in self.unread if letter.place in ("queued", "free")), None)


class ConversationOfTwo(RuleBasedStateMachine):
    """Both sides by their own code, and now and then a handler that answers all that is queued.

    There is one rule. It chooses among the acts that mean something now, above all among those that have not happened
    in this sequence yet: rules of their own would leave most of a short sequence to refusals, and some acts out.
    """

    numbers = iter(range(1_000_000))

    def __init__(self, url: str, runner: asyncio.Runner, sdks: list[Sdk]) -> None:
        super().__init__()
        self.done: Counter[str] = Counter()
        self.url, self.runner, self.sdks = url, runner, sdks
        pair = next(self.numbers)
        self.sides = [Side(f"{name}-{pair}", sdk) for name, sdk in zip(("alice", "bob"), sdks, strict=True)]
        self.is_open = False
        self.said: list[Any] = []
        """In the open session."""
        self.run(sdks[0].add_people(*(side.name for side in self.sides)))

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(asyncio.wait_for(call, 60))

    def two(self, number: int) -> tuple[Side, Side]:
        return self.sides[number], self.sides[1 - number]

    # --- what may happen next ----------------------------------------------------------------------------------------

    def possible(self) -> Iterator[tuple[str, int]]:
        """The acts that mean something now, by their names, with the side whose they are."""
        for number in (0, 1):
            me, you = self.two(number)
            yield ("answer by the next message" if you.asks and you.asks.is_seen else "send"), number
            yield ("reply" if you.asks else "reply to nobody"), number
            if me.asks is not None:
                yield "ask again", number
            elif you.asks is not None and not you.asks.is_seen:
                yield "ask in a circle", number
            else:
                yield ("ask back" if you.asks else "ask"), number
                if you.waits is None:  # which may be too slow to take it
                    yield "ask briefly", number
            if me.asks is not None:
                yield "give up an ask", number
            if me.waits is not None:
                yield "give up a wait", number
            if not self.is_open:
                yield "end nothing", number
            elif me.asks or you.asks or me.waits or you.waits:
                yield "end what is waited in", number
            else:
                yield "end", number
            yield ("restart while waiting" if me.asks or me.waits else "restart"), number
            if me.unread:
                yield "read", number
                yield "read of one sender", number
            if me.first_to_take() is not None:
                yield "take", number
            elif me.waits is None:
                yield "wait", number
                yield "look for nothing", number
            if any(letter.place == "queued" for letter in me.unread) and not (me.waits or you.waits):
                yield "handle", number
                if you.asks is not None and you.asks.letter in me.unread:
                    yield from ((act, number) for act in GIVEN_UP)

    def weight(self, act: str) -> int:
        if act not in self.done:
            return RARE.get(act, EAGER)
        return 2 if act == "ask" else 1

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        acts = list(self.possible())
        name, number = data.draw(st.sampled_from([act for act in acts for _ in range(self.weight(act[0]))]))
        self.done[name] += 1
        self.perform(name, number)

    def perform(self, name: str, number: int) -> None:
        match name:
            case "send" | "answer by the next message":
                self.send(number)
            case "reply" | "reply to nobody":
                self.reply(number)
            case "ask" | "ask back" | "ask again" | "ask in a circle":
                self.ask(number, briefly=False)
            case "ask briefly":
                self.ask(number, briefly=True)
            case "give up an ask":
                self.cancel(number, asks=True)
            case "give up a wait":
                self.cancel(number, asks=False)
            case "end" | "end what is waited in" | "end nothing":
                self.end(number)
            case "restart" | "restart while waiting":
                self.restart(number)
            case "read" | "read of one sender":
                self.read(number, one_sender=name == "read of one sender")
            case "take" | "look for nothing":
                self.take(number)
            case "wait":
                self.wait(number)
            case "handle":
                self.handle(number)
            case _:
                self.work(number, ends=self.done[name] % 2 == 0, is_cancelled=GIVEN_UP[name])

    # --- the model's verbs --------------------------------------------------------------------------------------------

    async def store(self, me: Side, you: Side, content: Any, *, answers: bool) -> Letter:
        """What becomes of a message: the answer to an ask, what somebody waits for, or unread."""
        letter = Letter(content, self.said)
        self.is_open = True
        self.said.append(content)
        if answers and you.asks is not None:
            await self.answered(you, content)
        elif you.waits is not None:
            await self.taken(you, letter)
        else:
            you.unread.append(letter)
        return letter

    async def answered(self, asker: Side, content: Any) -> None:
        assert asker.asks is not None
        question, asker.asks = asker.asks, None
        assert await question.call == content
        other = self.sides[1 - self.sides.index(asker)]
        if question.letter in other.unread:
            other.unread.remove(question.letter)

    async def taken(self, waiting: Side, letter: Letter) -> None:
        assert waiting.waits is not None
        call, waiting.waits = waiting.waits, None
        assert await call == letter.content

    def over(self, asker: Side) -> None:
        """Its ask has ended without an answer."""
        assert asker.asks is not None
        question, asker.asks = asker.asks, None
        if question.letter.place == "queued":
            question.letter.place = "expired"

    def see(self, reader: Side, letters: list[Letter]) -> None:
        other = self.sides[1 - self.sides.index(reader)]
        if other.asks is not None and other.asks.letter in letters:
            other.asks.is_seen = True
        reader.unread = [letter for letter in reader.unread if letter not in letters]

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, side: int) -> None:
        me, you = self.two(side)

        async def send() -> None:
            content = next(self.numbers)
            seen = you.asks is not None and you.asks.is_seen
            await me.sdk.conversation.send_no_wait(me.name, you.name, content)
            await self.store(me, you, content, answers=seen)

        self.run(send())

    def reply(self, side: int) -> None:
        me, you = self.two(side)

        async def reply() -> None:
            content = next(self.numbers)
            call = me.sdk.conversation.reply(me.name, you.name, content)
            if you.asks is not None:
                await call
                await self.store(me, you, content, answers=True)
            else:
                expected = SessionStateError if self.is_open else SessionNotFoundError
                assert type(await _error(begin(call))) is expected

        self.run(reply())

    def ask(self, side: int, *, briefly: bool) -> None:
        me, you = self.two(side)

        async def put() -> None:
            content = next(self.numbers)
            refused = None
            if me.asks is not None:
                refused = SessionLockError
            elif you.asks is not None and not you.asks.is_seen:
                refused = MutualWaitError
            call = ask(me.sdk, me.name, you.name, content, timeout=BRIEF if briefly and refused is None else 60)
            if refused is not None:
                error = await _error(call)
                assert type(error) is refused, (error, refused)
                return
            answers, waited = you.asks is not None, you.waits is not None
            if not briefly:
                await until_waiting(me.sdk, me.name, you.name)
            else:
                assert isinstance(await _error(call), ConversationTimeoutError)
            letter = await self.store(me, you, content, answers=answers)
            me.asks = Question(letter, call, is_seen=answers or waited)
            if briefly:
                self.over(me)

        self.run(put())

    # --- giving up and ending -----------------------------------------------------------------------------------------

    def cancel(self, side: int, *, asks: bool) -> None:
        me, _ = self.two(side)

        async def cancel() -> None:
            call = me.asks.call if asks and me.asks is not None else me.waits
            assert call is not None
            call.cancel()
            await asyncio.wait({call})
            if asks:
                self.over(me)
            else:
                me.waits = None

        self.run(cancel())
        self.settle()

    def end(self, side: int) -> None:
        me, you = self.two(side)

        async def end() -> None:
            call = me.sdk.conversation.end_conversation(me.name, you.name)
            if not self.is_open:
                assert isinstance(await _error(begin(call)), SessionNotFoundError)
                return
            await call
            for one in self.sides:
                if one.asks is not None:
                    assert isinstance(await _error(one.asks.call), ConversationEndedError)
                    self.over(one)
                if one.waits is not None:
                    assert isinstance(await _error(one.waits), ConversationEndedError)
                    one.waits = None
            self.is_open, self.said = False, []

        self.run(end())
        self.settle()

    def restart(self, side: int) -> None:
        me, _ = self.two(side)

        async def restart() -> None:
            await me.sdk.close()
            if me.asks is not None:
                assert isinstance(await _error(me.asks.call), NotInitializedError)
                self.over(me)
            if me.waits is not None:
                assert isinstance(await _error(me.waits), NotInitializedError)
                me.waits = None
            me.sdk = self.sdks[side] = Sdk(make_config(self.url))
            await me.sdk.initialize()

        self.run(restart())

    # --- receiving ----------------------------------------------------------------------------------------------------

    def read(self, side: int, *, one_sender: bool) -> None:
        me, you = self.two(side)
        conversation = me.sdk.conversation
        if one_sender:
            found = self.run(conversation.get_messages_from_agent(me.name, you.name))
        else:
            found = self.run(conversation.get_unread_messages(me.name))
        assert found == [letter.content for letter in me.unread]
        self.see(me, list(me.unread))

    def take(self, side: int) -> None:
        me, you = self.two(side)
        found = self.run(me.sdk.conversation.get_or_wait_for_response(me.name, you.name, 0))
        letter = me.first_to_take()
        assert found == (letter.content if letter is not None else None)
        if letter is not None:
            self.see(me, [letter])

    def wait(self, side: int) -> None:
        me, you = self.two(side)

        async def wait() -> None:
            me.waits = begin(me.sdk.conversation.wait_for_message(me.name, you.name, SOON * 6))
            await until_registered(me.sdk, sum(one.waits is not None for one in self.sides))

        self.run(wait())

    def handle(self, side: int) -> None:
        """Let a handler of this side answer all that is queued."""
        me, you = self.two(side)

        async def handle() -> None:
            queued = [letter for letter in me.unread if letter.place == "queued"]
            clerk = Clerk(lambda message, context: ["re", message])
            me.sdk.register_handler(me.name)(clerk)
            await self.handled(me, clerk, queued)
            for letter in queued:
                answer = ["re", letter.content]
                letter.told.append(answer)
                if you.asks is not None and you.asks.letter is letter:
                    await self.answered(you, answer)
                else:
                    letter.place = "handled"
                    you.unread.append(Letter(answer, letter.told, "free"))

        self.run(handle())

    async def handled(self, me: Side, clerk: Clerk, queued: list[Letter]) -> None:
        """Wait until the handler has had all of these, and take it away."""
        await clerk.wait_for(len(queued))
        await me.sdk._started().dispatcher.wait_until_idle()
        me.sdk.unregister_handler(me.name)
        # Whoever looks for circles counts the handlers that the store knows of.
        await eventually(lambda: rows(me.sdk, "select 1 from services"), SOON, until=lambda found: not found)
        assert clerk.messages == [letter.content for letter in queued]

    def work(self, side: int, *, ends: bool, is_cancelled: bool) -> None:
        """Let a handler of this side be at work on the question of the other, which is then given up."""
        me, you = self.two(side)
        assert you.asks is not None
        asked = you.asks.letter
        queued = [letter for letter in me.unread if letter.place == "queued"]
        begun, told = asyncio.Event(), asyncio.Event()
        contexts: list[MessageContext] = []

        async def work(message: Any, context: MessageContext) -> Any:
            if context.requires_reply:
                contexts.append(context)
                begun.set()
                try:
                    await (asyncio.Event().wait() if is_cancelled else context.wait_abandoned())
                finally:
                    told.set()
            return ["re", message]

        async def begin_to_work() -> Clerk:
            clerk = Clerk(work)
            me.sdk.register_handler(me.name, on_abandoned="cancel" if is_cancelled else "finish")(clerk)
            await asyncio.wait_for(begun.wait(), SOON)
            return clerk

        async def be_told() -> None:
            await asyncio.wait_for(told.wait(), SOON)
            await self.handled(me, clerk, queued)
            [context] = contexts
            assert context.is_abandoned
            assert await me.sdk.state(str(context.message_id)) == ("expired" if is_cancelled else "done")

        clerk = self.run(begin_to_work())
        asked.place = "at work"
        if ends:
            self.end(side)
        else:
            self.cancel(1 - side, asks=True)
        self.run(be_told())
        for letter in queued:
            if letter is asked and is_cancelled:
                letter.place = "expired"
            else:
                answer = ["re", letter.content]
                letter.told.append(answer)
                letter.place = "handled"
                you.unread.append(Letter(answer, letter.told, "free"))
                if letter is asked:  # it is read with its answer, also with a late one
                    me.unread.remove(letter)

    # --- what holds between any two steps -----------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until the store has what was given up."""
        waiting = "select id from waits union all select asker_id from asks where state = 'open'"
        left = sum((side.asks is not None) + (side.waits is not None) for side in self.sides)
        look: Callable[[], Any] = lambda: rows(self.sides[0].sdk, waiting)  # noqa: E731
        self.run(eventually(look, SOON, until=lambda found: len(found) == left))

    @invariant()
    def the_store_is_where_the_model_is(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        for me, you in (self.two(0), self.two(1)):
            conversation = you.sdk.conversation  # each looks at the other's through its own SDK object
            peeked = await conversation.get_unread_messages(me.name, peek=True)
            assert peeked == [letter.content for letter in me.unread]
            assert await conversation.get_messages_from_agent(me.name, you.name, mark_read=False) == peeked
            sessions = await conversation.get_active_sessions(me.name)
            assert len(sessions) == self.is_open
            for session in sessions:
                waiting = [side.name for side in self.sides if side.asks is not None]
                assert session.locked_by == (waiting[0] if waiting else None)
                assert session.status.value == ("waiting" if waiting else "active")
                told = await conversation.get_messages_in_session(session.session_id)
                assert [record.content for record in told] == self.said
            for call in (me.asks.call if me.asks else None, me.waits):
                assert call is None or not call.done(), call

    def teardown(self) -> None:
        async def leave() -> None:
            for side in self.sides:
                for call in (side.asks.call if side.asks else None, side.waits):
                    if call is not None:
                        call.cancel()
                        await asyncio.wait({call})
            await nothing_is_left(*(side.sdk for side in self.sides))

        self.run(leave())


async def _error(call: asyncio.Task[Any]) -> BaseException | None:
    """How a call failed; None if it did not."""
    try:
        await asyncio.wait_for(call, SOON)
    except Exception as error:
        return error
    return None


def explore(url: str, model: type[ConversationOfTwo] = ConversationOfTwo, **options: Any) -> list[Counter[str]]:
    """Go through sequences of acts; what was done in each."""
    sequences: list[Counter[str]] = []
    with asyncio.Runner() as runner:
        sdks = [Sdk(make_config(url)) for _ in range(2)]
        for sdk in sdks:
            runner.run(sdk.initialize())
        try:

            class Machine(model):  # type: ignore[misc, valid-type]
                def __init__(self) -> None:
                    super().__init__(url, runner, sdks)
                    sequences.append(self.done)

            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    **options,
                ),
            )
        finally:
            for sdk in sdks:
                runner.run(sdk.close())
    return sequences


@pytest.mark.sampled(1)
def test_any_conversation_of_two_goes_as_the_model_says(url: str) -> None:
    sequences = explore(url)
    if settings.default is not None and settings.default.derandomize:  # else there are other ones each time
        happened = Counter(act for done in sequences for act in done)
        rare = {act: happened[act] for act in ACTS if happened[act] < 2}
        assert not rare, "too seldom to find anything: give them more weight"


# --- the model is tested itself: each of these is found in as many sequences ------------------------------------------


class StaysInTheOldSession(ConversationOfTwo):
    """What is said after an ending would go to the session that has ended."""

    def end(self, side: int) -> None:
        said = self.said
        super().end(side)
        self.said = said


class ForgetsAnswers(ConversationOfTwo):
    """What a handler returns for a message that is no question would be lost."""

    def handle(self, side: int) -> None:
        super().handle(side)
        you = self.sides[1 - side]
        you.unread = [letter for letter in you.unread if not isinstance(letter.content, list)]


class KeepsAsking(ConversationOfTwo):
    """A question that was given up would still lock the session."""

    def cancel(self, side: int, *, asks: bool) -> None:
        asked = self.sides[side].asks
        super().cancel(side, asks=asks)
        if asks:
            self.sides[side].asks = asked


def reading_marks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read = SQLiteSessions.read_messages

    async def peek(self: Any, *args: Any, **options: Any) -> Any:
        return await read(self, *args, **{**options, "mark": False})

    monkeypatch.setattr(SQLiteSessions, "read_messages", peek)


def taking_leaves_it_there(monkeypatch: pytest.MonkeyPatch) -> None:
    take = SQLiteSessions.take_awaited

    async def look(self: Any, *args: Any, **options: Any) -> Any:
        row = await take(self, *args, **options)
        await self.return_messages([] if row is None else [row])
        return row

    monkeypatch.setattr(SQLiteSessions, "take_awaited", look)


def answering_nobody_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(self: Any, draft: Any) -> str:
        await draft.post(self.engine, self.settings)
        return str(draft.message_id)

    monkeypatch.setattr(Conversation, "_send", send)


def a_run_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Abandonment, "_ended", lambda self, ask: None)


def a_cancelled_run_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_give_up", lambda run, task, is_gone: task.cancel())


def nobody_is_shown_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_status", lambda row: SessionStatus.ACTIVE)


@pytest.mark.parametrize("model", [StaysInTheOldSession, ForgetsAnswers, KeepsAsking])
def test_a_fault_in_the_model_is_found(tmp_path: Path, model: type[ConversationOfTwo]) -> None:
    find_a_fault(tmp_path, model)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "plant",
    [
        reading_marks_nothing,
        taking_leaves_it_there,
        answering_nobody_is_accepted,
        nobody_is_shown_to_wait,
        a_run_is_not_told,
        a_cancelled_run_has_failed,
    ],
)
def test_a_fault_in_the_sdk_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    find_a_fault(tmp_path, ConversationOfTwo)


class FoundError(BaseException):
    """Ends the search at once: hypothesis would try again and again, beside what a failed sequence has left behind."""


def find_a_fault(path: Path, model: type[ConversationOfTwo]) -> None:
    """Look where CI looks."""

    class Hasty(model):  # type: ignore[misc, valid-type]
        def run(self, call: Coroutine[Any, Any, Any]) -> Any:
            try:
                return super().run(call)
            except Exception as error:
                raise FoundError from error

        def perform(self, name: str, number: int) -> None:
            try:
                super().perform(name, number)
            except Exception as error:
                raise FoundError from error

        def teardown(self) -> None:
            for side in self.sides:
                for call in (side.asks.call if side.asks else None, side.waits):
                    if call is not None:  # closing ends it, and nobody asks how
                        call.add_done_callback(lambda call: call.cancelled() or call.exception())

    with pytest.raises(FoundError):
        explore(f"sqlite:///{path / 'planted.db'}", Hasty, phases=[Phase.generate], derandomize=True, database=None)
