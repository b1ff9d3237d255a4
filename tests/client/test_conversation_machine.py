"""Any interleaving of what two agents in two SDK objects can do with each other, against a model in plain Python."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from agent_messaging import (
    ConversationEndedError,
    ConversationTimeoutError,
    MutualWaitError,
    NotInitializedError,
    SessionLockError,
    SessionNotFoundError,
    SessionStateError,
)
from tests.client.conversing import Clerk, ask, begin, nothing_is_left, rows, until_registered, until_waiting
from tests.client.support import SOON, Sdk, make_config
from tests.support import eventually

SIDES = st.integers(0, 1)
BRIEF = 0.05
"""Seconds of an ask that is to time out."""


@dataclass(eq=False)
class Letter:
    """An unread message."""

    content: Any
    told: list[Any]
    """All that was said in its session."""
    place: str = "queued"
    """Or "free": nobody is to handle it; "handled": a handler had it; "expired": it was an ask, which has ended."""


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
    """Both sides by their own code, and now and then a handler that answers all that is queued."""

    numbers = iter(range(1_000_000))

    def __init__(self, url: str, runner: asyncio.Runner, sdks: list[Sdk]) -> None:
        super().__init__()
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

    @rule(side=SIDES)
    def send(self, side: int) -> None:
        me, you = self.two(side)

        async def send() -> None:
            content = next(self.numbers)
            seen = you.asks is not None and you.asks.is_seen
            await me.sdk.conversation.send_no_wait(me.name, you.name, content)
            await self.store(me, you, content, answers=seen)

        self.run(send())

    @rule(side=SIDES)
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

    @rule(side=SIDES, briefly=st.sampled_from([False, False, True]))
    def ask(self, side: int, briefly: bool) -> None:
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

    @precondition(lambda self: any(side.asks or side.waits for side in self.sides))
    @rule(side=SIDES)
    def cancel(self, side: int) -> None:
        me, _ = self.two(side)

        async def cancel() -> None:
            for call in (me.asks.call if me.asks else None, me.waits):
                if call is not None:
                    call.cancel()
                    await asyncio.wait({call})
            if me.asks is not None:
                self.over(me)
            me.waits = None

        self.run(cancel())
        self.settle()

    @rule(side=SIDES)
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

    @rule(side=SIDES)
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

    @rule(side=SIDES, one_sender=st.booleans())
    def read(self, side: int, one_sender: bool) -> None:
        me, you = self.two(side)
        conversation = me.sdk.conversation
        if one_sender:
            found = self.run(conversation.get_messages_from_agent(me.name, you.name))
        else:
            found = self.run(conversation.get_unread_messages(me.name))
        assert found == [letter.content for letter in me.unread]
        self.see(me, list(me.unread))

    @rule(side=SIDES)
    def take(self, side: int) -> None:
        me, you = self.two(side)
        found = self.run(me.sdk.conversation.get_or_wait_for_response(me.name, you.name, 0))
        letter = me.first_to_take()
        assert found == (letter.content if letter is not None else None)
        if letter is not None:
            self.see(me, [letter])

    @rule(side=SIDES)
    def wait(self, side: int) -> None:
        me, you = self.two(side)
        if me.waits is not None or me.first_to_take() is not None:
            self.take(side)
            return

        async def wait() -> None:
            me.waits = begin(me.sdk.conversation.wait_for_message(me.name, you.name, SOON * 6))
            await until_registered(me.sdk, sum(one.waits is not None for one in self.sides))

        self.run(wait())

    @precondition(lambda self: not any(side.waits for side in self.sides))
    @rule(side=SIDES)
    def handle(self, side: int) -> None:
        """Let a handler of this side answer all that is queued."""
        me, you = self.two(side)

        async def handle() -> None:
            queued = [letter for letter in me.unread if letter.place == "queued"]
            clerk = Clerk(lambda message, context: ["re", message])
            me.sdk.register_handler(me.name)(clerk)
            await clerk.wait_for(len(queued))
            await me.sdk._started().dispatcher.wait_until_idle()
            me.sdk.unregister_handler(me.name)
            # Whoever looks for circles counts the handlers that the store knows of.
            await eventually(lambda: rows(me.sdk, "select 1 from services"), SOON, until=lambda found: not found)
            assert clerk.messages == [letter.content for letter in queued]
            for letter in queued:
                answer = ["re", letter.content]
                letter.told.append(answer)
                if you.asks is not None and you.asks.letter is letter:
                    await self.answered(you, answer)
                else:
                    letter.place = "handled"
                    you.unread.append(Letter(answer, letter.told, "free"))

        self.run(handle())

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


def test_any_conversation_of_two_goes_as_the_model_says(url: str) -> None:
    with asyncio.Runner() as runner:
        sdks = [Sdk(make_config(url)) for _ in range(2)]
        for sdk in sdks:
            runner.run(sdk.initialize())
        try:

            class Machine(ConversationOfTwo):
                def __init__(self) -> None:
                    super().__init__(url, runner, sdks)

            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
                ),
            )
        finally:
            for sdk in sdks:
                runner.run(sdk.close())
