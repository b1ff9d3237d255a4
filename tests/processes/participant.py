"""A process that takes part in a meeting until that ends, or it is told to stop. Beside the settings of `program`:

agent, meeting      who, and where
starts              true: it is the host, and starts the meeting once everybody attends
handles             true: it takes part by a turn handler, not by hand
pace                seconds within a turn before it speaks, at most; at least half of it (0.1)
silent              the share of turns that it lets run out (0)
names               the share of speeches that name another next speaker (0)
others              whom it may name
passes, fails       by a turn handler: the share of turns that it passes, and of those in which it raises (0)
read                true: read the transcript after each turn
seed                of what is drawn
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from typing import Any

from agent_messaging import (
    MeetingEvent,
    MeetingEventType,
    MeetingNotActiveError,
    MeetingStateError,
    MeetingTimeoutError,
    MessageContext,
    NotYourTurnError,
    Turn,
)
from tests.processes.program import Program, say

TURN = "TURN"
SPOKE = "SPOKE"
LOST = "LOST"
LOOK = 0.5
"""Seconds after which it looks whether it is to stop."""


class Participant:
    """One agent's part."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.history = program.history
        self.settings = program.settings
        self.agent: str = self.settings["agent"]
        self.meeting: str = self.settings["meeting"]
        self.random = random.Random(f"{self.settings.get('seed', 0)}-{self.history.process}")
        self.speeches = itertools.count()

    async def take_part(self) -> None:
        meeting = self.program.sdk.meeting
        if self.settings.get("starts"):
            await meeting.wait_until_ready(self.meeting, 60.0)
            with contextlib.suppress(MeetingStateError):  # started by an earlier incarnation
                await meeting.start_meeting(self.agent, self.meeting)
        else:
            await meeting.attend_meeting(self.agent, self.meeting)
        if self.settings.get("handles"):
            await self.handle_turns()
        else:
            await self.speak_by_hand()

    async def speak_by_hand(self) -> None:
        meeting = self.program.sdk.meeting
        while not self.program.stopping.is_set():
            try:
                turn = await meeting.wait_for_turn(self.agent, self.meeting, LOOK)
            except MeetingTimeoutError:
                continue
            if not turn:
                return
            await self.use(turn)
            if self.settings.get("read"):
                await self.read()

    async def handle_turns(self) -> None:
        """Stay, with the turn handler, until the meeting has ended; what it says is in the acts of the store."""
        sdk, over = self.program.sdk, self.program.stopping

        @sdk.register_event_handler(MeetingEventType.MEETING_ENDED)
        def on_end(event: MeetingEvent) -> None:
            if str(event.meeting_id) == self.meeting:
                over.set()

        sdk.register_meeting_handler(self.agent)(self.answer)
        status = await sdk.meeting.get_meeting_status(self.meeting)  # it may have ended before
        if status is not None and status.status != "ended":
            await over.wait()

    async def answer(self, message: Any, context: MessageContext) -> dict[str, str] | None:
        turn = context.turn
        assert turn is not None
        assert turn.number is not None
        assert str(context.meeting_id) == self.meeting
        self.show(turn)
        await asyncio.sleep(self.pace())
        drawn = self.random.random() - self.settings.get("passes", 0.0)
        if drawn < 0:
            return None
        if drawn < self.settings.get("fails", 0.0):
            raise RuntimeError("no idea")
        return {"value": f"{self.history.process}-{next(self.speeches)}"}

    def pace(self) -> float:
        return float(self.settings.get("pace", 0.1)) * self.random.uniform(0.5, 1.0)

    def show(self, turn: Turn) -> None:
        assert turn.deadline is not None
        self.history.record(
            "turn.shown",
            meeting=self.meeting,
            agent=self.agent,
            turn=turn.number,
            deadline=turn.deadline.timestamp(),
        )
        say(f"{TURN} {turn.number}")

    async def use(self, turn: Turn) -> None:
        assert turn.deadline is not None
        left = turn.deadline.timestamp() - time.time()
        self.show(turn)
        if self.random.random() < self.settings.get("silent", 0.0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left, 0.0) + 0.05):
                    await self.program.stopping.wait()
            return
        await asyncio.sleep(self.pace())
        await self.speak(turn)

    async def speak(self, turn: Turn) -> None:
        names: str | None = None
        if self.random.random() < self.settings.get("names", 0.0):
            names = self.random.choice(self.settings["others"])
        speech: dict[str, Any] = {
            "value": f"{self.history.process}-{next(self.speeches)}",
            "meeting": self.meeting,
            "agent": self.agent,
            "turn": turn.number,
        }
        self.history.record("speak.try", **speech, next=names)
        try:
            await self.program.sdk.meeting.speak(
                self.agent, self.meeting, {"value": speech["value"]}, next_speaker_external_id=names
            )
        except (NotYourTurnError, MeetingNotActiveError) as error:  # too late, or the meeting has ended meanwhile
            self.history.record("speak.no", **speech, code=error.code)
            say(f"{LOST} {turn.number}")
        else:
            self.history.record("speak.ok", **speech)
            say(f"{SPOKE} {turn.number}")

    async def read(self) -> None:
        since = time.monotonic_ns()
        messages = await self.program.sdk.meeting.get_meeting_history(self.meeting)
        self.history.reading(f"meeting:{self.meeting}", [message.id for message in messages], since)


async def attend(program: Program) -> None:
    """Speak for an agent in every meeting to which it is invited, until the process is told to stop."""

    @program.sdk.register_meeting_handler(program.settings["agent"], attend=True)
    async def answer(message: Any, context: MessageContext) -> dict[str, str]:
        assert context.turn is not None
        await asyncio.sleep(program.settings.get("pace", 0.1))
        return {"value": f"{program.history.process}-{context.turn.number}"}

    await program.stopping.wait()


async def hold(program: Program) -> None:
    """Hold a meeting."""
    settings = program.settings
    await program.sdk.meeting.hold(
        settings["host"],
        settings["participants"],
        {"value": f"{program.history.process}-0"},
        max_turns=settings["max_turns"],
    )


async def take_part(program: Program) -> None:
    await Participant(program).take_part()
