"""Parts of answers: from the runs here into the store, and from the store to the askers here.

What a run sends is written together, the first part at once, and then at most every 50 ms; the last parts go before its
answer without a pause. A run that is too far ahead of its reader waits for it. Rings and polls say when to look.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from ..exceptions import DatabaseError, EventLoopError, OutcomeUnknownError, PartsRestartedError
from ..payloads import checksum, encode
from ..single_flight import SingleFlight
from ..storage.batches import MAX_BYTES, do_apart, take
from ..storage.parts import has_room
from ..storage.ports import ClaimedDelivery, NewParts, PartCursor, PartPage, PartRow, PartStore, Stream
from .again import AGAIN, Again
from .lots import PAGE, Lots
from .services import Service

if TYPE_CHECKING:
    from .announcer import Announcer

PAUSE = 0.05
"""Seconds from one write of a run's parts to the next."""
AT_ONCE = 100
"""Runs whose parts are written in one commit."""
ACKNOWLEDGED_AFTER = 1_000, 1024 * 1024
"""Parts, and their bytes, that a reader has given before it has them removed: far fewer than may be unread."""


class Parts(Service):
    """All parts of one SDK object.

    Args:
        max_bytes: Of one part.
        pause: Seconds from one write of a run's parts to the next.
    """

    def __init__(
        self, store: PartStore, lots: Lots, announcer: Announcer, *, max_bytes: int, pause: float = PAUSE
    ) -> None:
        self.store = store
        self.lots = lots
        self.announcer = announcer
        self.max_bytes = max_bytes
        self.pause = pause
        self._senders: dict[Sender, None] = {}
        """The senders with parts that are not stored yet."""
        self._writing = SingleFlight(self._write, "writing parts")
        self._read: dict[str, PartCursor] = {}
        self._left: set[str] = set()
        self._removing = SingleFlight(self._remove, "removing parts")
        self._again = Again[str](self.leave)

    # --- writing ------------------------------------------------------------------------------------------------------

    def sender(self, delivery: ClaimedDelivery) -> Sender:
        """Make the sender of the parts of a run whose asker reads them."""
        return Sender(self, delivery)

    def request(self, sender: Sender) -> None:
        """Write the sender's parts as soon as its pause is over. After the end it sends no more."""
        if self._writing.is_closed:
            sender.close()
            return
        self._senders[sender] = None
        loop = asyncio.get_running_loop()
        if sender.next_at <= loop.time():
            self._writing.request()
        elif not sender.is_awaited:
            sender.is_awaited = True
            loop.call_at(sender.next_at, self._awaited, sender)

    def _awaited(self, sender: Sender) -> None:
        sender.is_awaited = False
        self._writing.request()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        ready = [(sender, sender.batch()) for sender in self._senders if sender.next_at <= now]
        due = take(ready, lambda one: sum(part.size for part in one[1].parts), most=AT_ONCE, most_bytes=MAX_BYTES)
        if not due:
            return
        now = loop.time()  # many parts take milliseconds to put together: the pause begins with the write itself
        for sender, _ in due:
            sender.next_at = now + self.pause
        outcomes = [*zip(due, await do_apart(self.store.write, [batch for _, batch in due]), strict=True)]
        written = [(one, outcome) for one, outcome in outcomes if isinstance(outcome, Stream)]
        self.announcer.sent_parts({batch.ask_id: stream.reader for (_, batch), stream in written})
        for (sender, batch), stream in written:
            del self._senders[sender]
            sender.wrote(batch, stream)
        if len(ready) > len(due):
            self._writing.request()
        failures = [(sender, outcome) for (sender, _), outcome in outcomes if isinstance(outcome, Exception)]
        for sender, failure in failures:
            if getattr(failure, "retryable", False):
                sender.next_at = now + AGAIN
                self.request(sender)
            else:
                del self._senders[sender]
                sender.fail(failure)
        if failures:
            raise failures[0][1]

    # --- reading ------------------------------------------------------------------------------------------------------

    def reader(self, ask_id: str) -> Reader:
        """Make the reader of the parts of the answer to an ask."""
        return Reader(self, ask_id)

    async def read(self, cursor: PartCursor) -> PartPage | None:
        """The page behind a cursor, if there is one."""
        pages = await self.store.read([cursor], PAGE)
        return pages[0] if pages else None

    def acknowledge(self, cursor: PartCursor) -> None:
        """The reader here has given the parts up to this: remove them soon."""
        self._read[cursor.ask_id] = cursor
        self._removing.request()

    def leave(self, ask_id: str) -> None:
        """Nobody here reads the parts of this ask any more: remove them soon."""
        self._left.add(ask_id)
        self._removing.request()

    async def _remove(self) -> None:
        left, self._left = self._left, set()
        read, self._read = self._read, {}
        try:
            if left:
                self.announcer.read_parts(left, await self.store.end(left))
            for ask_id in read.keys() - left:
                worker = await self.store.acknowledge(read[ask_id])
                self.announcer.read_parts([ask_id], [] if worker is None else [worker])
        except (DatabaseError, OutcomeUnknownError):
            for ask_id in left:
                self._again.later(ask_id)
            raise

    async def aclose(self, timeout: float) -> None:
        """Write no more. What readers here have left is removed; the farewell to the store removes the rest."""
        await self._writing.aclose()
        for sender in self._senders:
            sender.close()
        self._again.close()
        await self._removing.aclose(timeout)


class Sender:
    """Sends the parts of one run. See `models.MessageContext.part`."""

    def __init__(self, parts: Parts, delivery: ClaimedDelivery) -> None:
        self._parts = parts
        self._ask_id = delivery.message_id
        self._claim = delivery.claim
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[PartRow] = deque()
        """Not stored yet."""
        self._size = 0
        """Their bytes."""
        self._number = 0
        self._stream = Stream("")
        """As it was after the last write."""
        self._progress = asyncio.Event()
        self._is_open = True
        self._failure: Exception | None = None
        self.next_at = 0.0
        """When it may write again, by the loop's clock."""
        self.is_awaited = False
        """A timer writes at that time."""

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of a context, in another process perhaps, is about no run

    async def send(self, payload: Any) -> None:
        """Send a part, and wait while the reader is too far behind."""
        if asyncio.get_running_loop() is not self._loop:
            raise EventLoopError(
                "context.part() belongs to the event loop of the SDK. Make the handler `async def`, and await the part "
                "there."
            )
        if self._is_open:
            await self._send(payload)
        if self._failure is not None:
            raise self._failure

    async def _send(self, payload: Any) -> None:
        content = encode(payload, field="part", limit_bytes=self._parts.max_bytes)
        self._number += 1
        part = PartRow(self._number, content, checksum(content, None))
        self._waiting.append(part)
        self._size += part.size
        self._parts.request(self)
        while self._is_open and not self._has_room():
            await self._wait_for_room()

    def _has_room(self) -> bool:
        return has_room(Stream("", self._stream.parts + len(self._waiting), self._stream.size + self._size))

    async def _wait_for_room(self) -> None:
        await self._until_stored()
        if self._is_open and not self._has_room():
            room = self._parts.lots.room
            with room.expect((self._ask_id, self._claim), about=self._ask_id) as stream:
                room.hint([(self._ask_id, self._claim)])
                self._see(await stream)

    async def _until_stored(self) -> None:
        while self._waiting and self._is_open:
            self._parts.request(self)
            await self._progress.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The handler has ended: store what is left, before its answer or its failure, and send no more."""
        try:
            if kind is None or issubclass(kind, Exception):
                self.next_at = 0.0
                await self._until_stored()
        finally:
            self.close()
        if kind is None and self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Send no more."""
        self._is_open = False
        self._waiting.clear()
        self._progress.set()

    def fail(self, failure: Exception) -> None:
        """The store refuses the parts: without them the answer would seem to be whole."""
        self._failure = failure
        self.close()

    def batch(self) -> NewParts:
        """The parts to write next."""
        parts = take(self._waiting, lambda part: part.size, most=len(self._waiting), most_bytes=MAX_BYTES)
        return NewParts(self._ask_id, self._claim, parts)

    def wrote(self, batch: NewParts, stream: Stream) -> None:
        """A batch is stored, unless the stream is closed."""
        for _ in batch.parts if self._is_open else ():
            self._size -= self._waiting.popleft().size
        self._see(stream)
        self._progress.set()
        self._progress = asyncio.Event()
        if self._waiting:
            self._parts.request(self)

    def _see(self, stream: Stream) -> None:
        self._stream = stream
        if stream.reader is None:
            self.close()


class Reader:
    """Reads the parts of the answer to one ask, whose end is a future that is done when `finish` has returned."""

    def __init__(self, parts: Parts, ask_id: str) -> None:
        self._parts = parts
        self._cursor = PartCursor(ask_id)
        self._acknowledged = 0
        self._size = 0
        """Bytes of the parts that were given since the last acknowledgement."""
        self._parts_read: deque[PartRow] = deque()
        self._has_given = False
        """Whether parts of the run that it reads now were given."""
        self._is_anew = False
        self.is_closed = False
        self.failure: Exception | None = None
        """Why the last parts could not be read."""

    async def next(self, end: asyncio.Future[Any]) -> PartRow | None:
        """The next part; None when the ask has ended and all parts were given.

        Raises:
            PartsRestartedError: Another run has the message, after parts of an earlier run were given.
        """
        lot = self._parts.lots.parts
        while True:
            if self._is_anew:
                self._is_anew = self._has_given = False
                raise PartsRestartedError(ask_id=self._cursor.ask_id)
            if self._parts_read:
                part = self._parts_read.popleft()
                self._has_given = True
                self._size += part.size
                return part
            if end.done():
                if self.failure is not None:
                    raise self.failure
                return None
            self._acknowledge()
            with lot.expect(self._cursor, about=self._cursor.ask_id) as page:
                lot.hint([self._cursor])
                await asyncio.wait({page, end}, return_when=asyncio.FIRST_COMPLETED)
                if page.done():
                    self._turn(page.result())

    def _acknowledge(self) -> None:
        most, most_bytes = ACKNOWLEDGED_AFTER
        if self._cursor.number - self._acknowledged >= most or self._size >= most_bytes:
            self._acknowledged, self._size = self._cursor.number, 0
            self._parts.acknowledge(self._cursor)

    def _turn(self, page: PartPage) -> None:
        before = self._cursor
        if _position(page.cursor) < _position(before):
            return  # an earlier look, whose answer came later
        self._cursor = page.cursor
        if (before.seq, before.token) != (page.cursor.seq, page.cursor.token):
            self._parts_read.clear()
            self._acknowledged = self._size = 0
            self._is_anew = self._is_anew or self._has_given
            before = PartCursor(before.ask_id)
        self._parts_read.extend(part for part in page.parts if part.number > before.number)

    async def finish(self) -> None:
        """The ask has ended: read what is left."""
        try:
            while not self.is_closed:
                cursor = self._cursor
                page = await self._parts.read(cursor)
                if page is not None:
                    self._turn(page)
                elif cursor == self._cursor:
                    break
                # Otherwise the parts behind this cursor were given, and removed, while it was looked at.
        except (DatabaseError, OutcomeUnknownError) as error:
            self.failure = error

    def close(self) -> None:
        """Read no more. What was read is given yet."""
        if not self.is_closed:
            self.is_closed = True
            self._parts.leave(self._cursor.ask_id)


def _position(cursor: PartCursor) -> tuple[int, int, int]:
    return cursor.seq, cursor.token, cursor.number
