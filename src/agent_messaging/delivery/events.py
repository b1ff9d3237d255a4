"""The feed of meeting events to the handlers of one SDK object: every event of every meeting, in order.

The events are rows; a cursor says how far they were read. Each handler has a queue of its own, so that one that hangs
holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from ..bodies import open_or_mark
from ..exceptions import StorageCorruptError
from ..futures import cancel_all, take_error
from ..handlers.events import EventSubscription, MeetingEventHandler
from ..handlers.threads import DaemonThreads
from ..loggers import get_logger
from ..models import EventData, MeetingEvent, MeetingEventType
from ..payloads import Decoder
from ..single_flight import SingleFlight
from ..storage.ports import EventRow, MeetingStore
from .background import Background
from .current import calling
from .names import Names
from .retry import describe, is_cancellation, traceback_of
from .services import Service
from .trouble import Seldom, Trouble

logger = get_logger("agent_messaging.delivery")

AT_ONCE, AT_ONCE_BYTES = 500, 8 * 1024 * 1024
"""One query reads at most so many events, and ends early with so many bytes of JSON."""
MAX_PENDING, MAX_PENDING_BYTES = 10_000, 64 * 1024 * 1024
"""At most so many events, and about so many bytes of JSON, wait for one handler. More are dropped, as the log says."""

OpenEvent = tuple[EventRow, dict[str, Any]]
"""An event and its data, opened once."""


class Pending(asyncio.Queue[tuple[MeetingEvent, int]]):
    """The events that wait for one handler, each with its bytes of JSON."""

    def __init__(self) -> None:
        super().__init__(MAX_PENDING)
        self.size_bytes = 0

    def full(self) -> bool:
        """Whether no more events may come. The newest may be the one that is too much."""
        return super().full() or self.size_bytes >= MAX_PENDING_BYTES

    def _put(self, item: tuple[MeetingEvent, int]) -> None:
        super()._put(item)
        self.size_bytes += item[1]

    def _get(self) -> tuple[MeetingEvent, int]:
        item = super()._get()
        self.size_bytes -= item[1]
        return item


class Events(Service):
    """The feed.

    Args:
        timeout: Seconds that a handler may take for one event.
        trouble: It is told when the store failed to say where the events end.
    """

    def __init__(
        self,
        meetings: MeetingStore,
        names: Names,
        handlers: MeetingEventHandler,
        threads: DaemonThreads,
        background: Background,
        trouble: Trouble,
        *,
        timeout: float,
    ) -> None:
        self.meetings = meetings
        self.names = names
        self.handlers = handlers
        self.threads = threads
        self.background = background
        self.timeout = timeout
        self.decoder = Decoder()
        self._cursor: str | None = None
        self._positioning = SingleFlight(self._position, "finding the end of the events", on_failure=trouble.note)
        self._has_left = False
        """The last handler left while the end was sought, which is then too early for the next handler."""
        self._reading = SingleFlight(self._read, "reading events")
        self._queues: dict[EventSubscription, Pending] = {}
        self._workers: dict[EventSubscription, asyncio.Task[None]] = {}
        self.calls: set[asyncio.Task[None]] = set()
        """The calls of handlers, each awaited by the worker of its queue."""
        self._dropped = Seldom()
        self._is_closed = False

    async def start(self) -> None:
        """Begin at the end of the feed, if there are handlers."""
        self.follow()
        await self.ready()

    def follow(self) -> None:
        """Give each handler that came a queue, and forget those that went."""
        if self._is_closed:
            return
        for gone in self._queues.keys() - set(self.handlers.subscriptions):
            self._workers.pop(gone).cancel()
            queue = self._queues.pop(gone)
            while not queue.empty():  # or closing would wait for somebody to handle it
                queue.get_nowait()
                queue.task_done()
        for subscription in self.handlers.subscriptions:
            if subscription not in self._queues:
                self._queues[subscription] = Pending()
                self._workers[subscription] = asyncio.create_task(
                    self._work(subscription, self._queues[subscription]), name="agent-messaging-events"
                )
        if not self._queues:
            self._cursor = None  # the next handler hears of nothing that happened before it was registered
            self._has_left = True
        if self._queues and self._cursor is None:
            self._positioning.request()

    async def ready(self) -> None:
        """Wait until every event from now on will reach the handlers."""
        await self._positioning.wait_until_idle()

    async def _position(self) -> None:
        while self._queues and self._cursor is None:
            self._has_left = False
            cursor = await self.meetings.find_cursor()
            if not self._has_left:
                self._cursor = cursor

    def look(self) -> None:
        """Look for new events."""
        if not self._queues or self._is_closed:
            return
        if self._cursor is None:
            self.follow()
            return
        self._reading.request()

    async def _read(self) -> None:
        if (cursor := self._cursor) is None:
            return
        page = await self.meetings.read_events(cursor, AT_ONCE, most_bytes=AT_ONCE_BYTES)
        if self._cursor is cursor:  # otherwise nobody listened for a moment, and the feed begins elsewhere now
            await self._hand_out(page.events)
        if self._cursor is cursor:
            self._cursor = page.cursor
        if not page.is_end:
            self._reading.request()

    async def _hand_out(self, rows: list[EventRow]) -> None:
        wanted = {subscription.type for subscription in self._queues}
        opened = open_events(row for row in rows if row.type in wanted)
        for (row, _), event in zip(opened, await self._describe(opened), strict=True):
            size = _size(row)
            for subscription, queue in self._queues.items():
                if subscription.type is event.event_type:
                    try:
                        queue.put_nowait((event, size))
                    except asyncio.QueueFull:
                        if times := self._dropped.happened():
                            logger.error(
                                "a handler of %s does not keep up: events are dropped, %d since this was last said",
                                event.event_type,
                                times,
                            )

    async def open(self, rows: Iterable[EventRow]) -> list[MeetingEvent]:
        """Open rows as handlers get them: with UUIDs, external ids and the speech. Damaged ones are left out."""
        return await self._describe(open_events(rows))

    async def _describe(self, events: list[OpenEvent]) -> list[MeetingEvent]:
        names = await self.names.find_by_id(agents_of(events))
        external = {id: name.external_id for id, name in names.items()}
        return [
            MeetingEvent(
                meeting_id=UUID(row.meeting_id),
                event_type=row.type,
                timestamp=row.created_at,
                data=event_data(row, data, external),
                agent_external_id=(external | kept_names(data)).get(row.agent_id or ""),
            )
            for row, data in events
        ]

    async def _work(self, subscription: EventSubscription, queue: Pending) -> None:
        while True:
            event, _ = await queue.get()
            try:
                async with asyncio.timeout(self.timeout):
                    call = self.background.start(self._call(subscription, event), "agent-messaging-event")
                    self.calls.add(call)
                    call.add_done_callback(take_error)
                    call.add_done_callback(self.calls.discard)
                    await call
            except (Exception, asyncio.CancelledError) as error:
                if is_cancellation(error):
                    raise  # otherwise it is of the handler's own making: the next event must not wait for ever
                logger.warning(
                    "a handler of the event %s of meeting %s failed: %s",
                    event.event_type.value,
                    event.meeting_id,
                    describe(error),
                    exc_info=traceback_of(error),
                )
            finally:
                queue.task_done()

    async def _call(self, subscription: EventSubscription, event: MeetingEvent) -> None:
        arguments = subscription.arguments(event, self.decoder)
        with calling():
            await self.threads.run(subscription.function, *arguments)

    async def wait_until_idle(self) -> None:
        """Wait until the handlers have had all that is recorded now."""
        await self.ready()
        self.look()
        while not (self._reading.is_idle and self._positioning.is_idle):
            await self._positioning.wait_until_idle()
            await self._reading.wait_until_idle()
        for queue in list(self._queues.values()):
            await queue.join()

    async def aclose(self, timeout: float) -> None:
        """Stop. Events that no handler has had yet are not handed out here."""
        self._is_closed = True
        await self._reading.aclose()
        await self._positioning.aclose()
        await cancel_all({*self._workers.values(), *self.calls}, 1.0)


def _size(row: EventRow) -> int:
    """Bytes of JSON."""
    texts = [row.content, *((row.message.content, row.message.metadata or "") if row.message else ())]
    return sum(len(text.encode()) for text in texts)


def open_events(rows: Iterable[EventRow]) -> list[OpenEvent]:
    """Open the data of events. An event whose data are damaged is left out, and the log says so."""
    opened = []
    for row in rows:
        try:
            opened.append((row, row.data))
        except StorageCorruptError as error:
            logger.warning("an event is passed over: %s", error)
    return opened


def agents_of(events: Iterable[OpenEvent]) -> set[str]:
    """Find the ids of the agents that events name."""
    events = list(events)
    return {id for _, data in events for id in _agents(data)} | {row.agent_id for row, _ in events if row.agent_id}


def _agents(data: dict[str, Any]) -> set[str]:
    found = {
        value for key, value in data.items() if key.endswith("_id") and key != "message_id" and isinstance(value, str)
    }
    for key, value in data.items():
        if key.endswith("_ids") and isinstance(value, list):
            found |= {one for one in value if isinstance(one, str)}
    return {one for one in found if _uuid(one) is not None}


def kept_names(data: dict[str, Any]) -> dict[str, str]:
    """Find, by id, the external ids that an event has itself, because its agent was removed."""
    kept = {}
    for key, value in data.items():
        name = data.get(f"{key.removesuffix('_id')}_external_id") if key.endswith("_id") else None
        if isinstance(value, str) and isinstance(name, str):
            kept[value] = name
    return kept


def event_data(row: EventRow, stored: dict[str, Any], external: dict[str, str]) -> EventData:
    """Return the data of an event with ids as UUIDs, each with a twin that has the external id."""
    data = EventData()
    external = external | kept_names(stored)
    for key, value in stored.items():
        if key.endswith("_ids") and isinstance(value, list):
            data[key] = [_uuid(one) or one for one in value]
            data[f"{key.removesuffix('_ids')}_external_ids"] = [external.get(one) for one in value]
        elif key == "message_id":
            data[key] = _uuid(value) or value
        elif key.endswith("_id") and (value is None or _uuid(value) is not None):
            data[key] = _uuid(value)
            data[f"{key.removesuffix('_id')}_external_id"] = external.get(value) if value else None
        else:
            data[key] = value
    message = row.message
    if message is not None:
        body = open_or_mark(message, f"message {message.message_id}")
        data["message_id"] = UUID(message.message_id)
        data["content"] = data["message"] = body.content
        data["metadata"] = body.metadata
        data["is_damaged"] = body.is_damaged
        data["timestamp"] = message.created_at
    if row.type is MeetingEventType.MESSAGE_POSTED:
        # The speech may be removed with its speaker; the keys are there all the same.
        data.setdefault("message_id", None)
        data.setdefault("message", data.setdefault("content", None))
        data.setdefault("metadata", {})
        data.setdefault("is_damaged", False)
    if row.type in (MeetingEventType.MESSAGE_POSTED, MeetingEventType.ERROR_OCCURRED):
        data["timestamp"] = _instant(data.get("timestamp")) or row.created_at
    return data


def _instant(value: Any) -> Any:
    """Return the instant that a text is, and anything else as it is."""
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    return instant if instant.tzinfo is not None else value


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) and len(value) == 36 else None
    except ValueError:
        return None
