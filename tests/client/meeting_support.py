"""What the tests of meetings share: a table of agents with the calls of one meeting bound to it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from agent_messaging import MeetingEventPayload, MeetingEventType, Record, Turn
from tests.client.support import SOON, Sdk
from tests.support import eventually

HOST = "alice"


class Table:
    """One meeting, as an SDK object sees it."""

    def __init__(self, sdk: Sdk, id: UUID, people: list[str]) -> None:
        self.sdk = sdk
        self.id = id
        self.people = people

    @classmethod
    async def invite(cls, sdk: Sdk, *others: str, host: str = HOST, **options: Any) -> Table:
        """Create the meeting: its host attends, the others are invited."""
        return cls(sdk, await sdk.meeting.create_meeting(host, list(others), **options), [host, *others])

    @classmethod
    async def gather(cls, sdk: Sdk, *others: str, host: str = HOST, **options: Any) -> Table:
        """Create it and let everybody attend."""
        table = await cls.invite(sdk, *others, host=host, **options)
        for other in others:
            assert await sdk.meeting.attend_meeting(other, table.id) is True
        return table

    @classmethod
    async def open(cls, sdk: Sdk, *others: str, host: str = HOST, **options: Any) -> Table:
        """Create it, let everybody attend, and start it: the host holds turn 1."""
        table = await cls.gather(sdk, *others, host=host, **options)
        await sdk.meeting.start_meeting(host, table.id)
        return table

    def at(self, sdk: Sdk) -> Table:
        """The same meeting, as another SDK object sees it."""
        return Table(sdk, self.id, self.people)

    async def speak(self, name: str, message: Any = "…", metadata: Any = None, **options: Any) -> Any:
        return await self.sdk.meeting.speak(name, self.id, message, metadata, **options)

    async def wait(self, name: str, timeout: float | None = SOON) -> Turn:
        return await self.sdk.meeting.wait_for_turn(name, self.id, timeout)

    async def end(self) -> None:
        await self.sdk.meeting.end_meeting(self.people[0], self.id)

    async def status(self) -> Record:
        status = await self.sdk.meeting.get_meeting_status(self.id)
        assert status is not None
        return status

    async def holder(self) -> tuple[int | None, str | None]:
        """The number of the current turn and who holds it."""
        status = await self.status()
        return status.turn, status.current_speaker

    async def seats(self) -> dict[str, str]:
        """Where everybody stands, those who left included."""
        return {one.agent_id: one.status.value for one in (await self.status()).participant_details}

    async def said(self) -> list[tuple[str, Any]]:
        """(who, what) of the speeches so far."""
        return [(one.sender, one.content) for one in await self.history() if one.message_type == "user_defined"]

    async def notes(self) -> list[Any]:
        """The contents of the SDK's own messages so far."""
        return [one.content for one in await self.history() if one.message_type != "user_defined"]

    async def history(self) -> list[Record]:
        return await self.sdk.meeting.get_meeting_history(self.id)

    async def course(self) -> list[tuple[int, str, str | None]]:
        """(number, who, how it ended) of all turns in which somebody could speak."""
        turns = (await self.sdk.meeting.get_turn_statistics(self.id)).turns
        return [(turn.number, turn.agent_id, None if turn.how is None else turn.how.value) for turn in turns]

    async def until_turn(self, number: int) -> Record:
        """Wait, as an onlooker, until this turn or a later one is current."""
        return await eventually(self.status, SOON, until=lambda status: (status.turn or 0) >= number)


class Watcher:
    """A handler of events that keeps what it is given."""

    def __init__(self, script: Callable[[MeetingEventPayload], Coroutine[Any, Any, None]] | None = None) -> None:
        self.script = script
        self.events: list[MeetingEventPayload] = []

    async def __call__(self, event: MeetingEventPayload) -> None:
        self.events.append(event)
        if self.script is not None:
            await self.script(event)

    def watch(self, sdk: Sdk, *types: MeetingEventType) -> Watcher:
        """Have it called by this SDK object, for these types of events or for all."""
        for type_ in types or tuple(MeetingEventType):
            sdk.register_event_handler(type_)(self)
        return self

    def types(self) -> list[str]:
        return [event.event_type.value for event in self.events]

    async def wait_for(self, type_: MeetingEventType, count: int = 1) -> list[MeetingEventPayload]:
        """Wait until so many of this type came."""

        def look() -> list[MeetingEventPayload]:
            return [event for event in self.events if event.event_type is type_]

        return await eventually(look, SOON, until=lambda found: len(found) >= count)
