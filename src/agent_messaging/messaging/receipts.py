"""The fates of messages: receipts to look at and to wait for, and the dead letters."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, overload
from uuid import UUID

from ..arguments import check_external_id, check_page, check_patience, parse_choices, parse_id, parse_ids
from ..bodies import open_or_mark
from ..delivery.forwarding import Step, holders_of
from ..delivery.names import AgentName, external_or_id
from ..exceptions import InvalidArgumentError, MessageNotFoundError, TimeoutError
from ..kinds import KIND_OF_WORD
from ..models import DeadLetter, DeliveryState, Kind, Receipt, ReceiptEvent
from ..storage.ports import DeadRow, ReceiptRow
from .door import Door
from .listing import PAGE, make_wanted
from .missing import explain_missing

MessageId = str | UUID
R = TypeVar("R")


class Receipts(Door):
    """`sdk.receipts`: stored, claimed, handled, expired and dead are different facts, each durable."""

    async def get(self, message_id: MessageId) -> Receipt:
        """Look at the receipt of one message.

        Raises:
            MessageNotFoundError: There is no such message (any more); says whether it was pruned.
            InvalidArgumentError: The id is not a UUID.

        Example:
            receipt = await sdk.receipts.get(message_id)
            print(receipt.state, receipt.attempt)
        """
        id = parse_id(message_id, field="message_id")
        rows = await self.engine.store.deliveries.list_receipts([id])
        if not rows:
            raise await explain_missing(self.engine, MessageNotFoundError(message_id=id))
        return (await self._receipts(rows))[id]

    @overload
    async def wait(self, message_ids: MessageId, *, timeout: float | None = None) -> Receipt: ...
    @overload
    async def wait(
        self, message_ids: list[str] | list[UUID] | tuple[MessageId, ...], *, timeout: float | None = None
    ) -> list[Receipt]: ...
    async def wait(
        self, message_ids: MessageId | Sequence[MessageId], *, timeout: float | None = None
    ) -> Receipt | list[Receipt]:
        """Wait until messages are done, dead, expired or withdrawn, in whatever process that happens.

        It holds no connection and no thread while it waits. Cancelling it changes nothing in the store.

        Args:
            message_ids: One id, or a list of them as `send` returned it.
            timeout: Seconds; 0 only looks, None waits without limit.

        Returns:
            The final receipt, or the list of them in the order of the ids.

        Raises:
            TimeoutError: Some have not ended; the messages go on. Says how many, and what state the first is in.
            MessageNotFoundError: One does not exist, or was removed with its agent meanwhile.
            NotInitializedError: The SDK was closed meanwhile; the messages go on.

        Example:
            ids = await sdk.one_way.send("alice", ["bob", "carol"], "hi")
            for receipt in await sdk.receipts.wait(ids, timeout=10):
                print(receipt.recipient_id, receipt.state)
        """
        single = isinstance(message_ids, str | UUID)
        ids = parse_ids(message_ids, "message_ids")
        check_patience(timeout)
        try:
            rows = await self._look(ids) if timeout == 0 else await self._wait(ids, timeout)
        except MessageNotFoundError as error:
            raise await explain_missing(self.engine, error) from None
        except builtins.TimeoutError as error:
            if isinstance(error, TimeoutError):
                raise
            raise await self._explain_timeout(ids, timeout) from error
        receipts = await self._receipts(list(rows.values()))
        ordered = [receipts[id] for id in ids]
        return ordered[0] if single else ordered

    async def _wait(self, ids: list[str], timeout: float | None) -> dict[str, ReceiptRow]:
        async with asyncio.timeout(timeout):
            return await self.engine.lots.receipts.wait(set(ids))

    async def _look(self, ids: list[str]) -> dict[str, ReceiptRow]:
        rows = {row.message_id: row for row in await self.engine.store.deliveries.list_receipts(ids)}
        for id in ids:
            if id not in rows:
                raise MessageNotFoundError(message_id=id)
        if not all(row.state.is_final for row in rows.values()):
            raise builtins.TimeoutError
        return rows

    async def withdraw(self, message_ids: MessageId | Sequence[MessageId]) -> list[str]:
        """Take messages back that nobody has begun to handle.

        Returns:
            The ids of those that were withdrawn; the others were claimed or had ended already. Repeat-safe.

        Example:
            taken_back = await sdk.receipts.withdraw(ids)
        """
        ids = parse_ids(message_ids, "message_ids")
        engine = self.engine

        async def withdraw() -> list[str]:
            withdrawn = await engine.store.deliveries.withdraw(ids)
            engine.announcer.withdrawn(withdrawn)
            return withdrawn

        return await engine.commits.run(withdraw())

    async def _explain_timeout(self, ids: list[str], timeout: float | None) -> TimeoutError:
        rows = await self.engine.store.deliveries.list_receipts(ids)
        open_rows = [row for row in rows if not row.state.is_final]
        first = f" Message {open_rows[0].message_id} is {open_rows[0].state.value}." if open_rows else ""
        return TimeoutError(
            f"{len(open_rows)} of {len(ids)} messages have not ended after {timeout:g} seconds.{first} "
            "Wait longer, or see who serves the recipient with `agent-messaging doctor`."
        )

    async def _receipts(self, rows: Sequence[ReceiptRow]) -> dict[str, Receipt]:
        names = await self.engine.names.find_by_id({id for row in rows for id in (row.sender_id, row.recipient_id)})
        processes = {str(entry["process"]) for row in rows for entry in row.log if entry.get("process")}
        processes |= {row.owner for row in rows if row.owner is not None}
        places = await self.engine.incarnations.find(processes)
        ways = await self.engine.forwarding.find_ways([row.message_id for row in rows if row.kind is Kind.CONVERSATION])
        return {row.message_id: _receipt(row, names, places, ways.get(row.message_id, ())) for row in rows}


class DeadLetters(Door):
    """`sdk.dead_letters`: messages that were given up, kept with their reasons until they are redriven."""

    async def list(
        self,
        recipient_external_id: str | None = None,
        *,
        limit: int = 100,
        offset: int = 0,
        kinds: Iterable[Kind | str] | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
    ) -> list[DeadLetter]:
        """List dead letters, newest first: of one recipient, or (None) all.

        Args:
            recipient_external_id: Sent to this agent; None is any.
            limit: At most so many, 1 to 1,000.
            offset: So many of the newest are passed over.
            kinds: Of these kinds alone, such as ["one_way"]; None is all.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is refused; names it.

        Example:
            for letter in await sdk.dead_letters.list("bob"):
                print(letter.message_id, letter.reasons[-1])
        """
        check_page(limit, offset)
        words = parse_choices(Kind, kinds, "kinds")
        wanted = make_wanted(date_from=date_from, date_to=date_to, metadata_filter=metadata_filter)
        first, last = wanted.narrowing.date_from, wanted.narrowing.date_to

        def fits(row: DeadRow) -> bool:
            in_time = (first is None or row.created_at >= first) and (last is None or row.created_at <= last)
            return in_time and (words is None or row.kind in words) and wanted.fits(row)

        async def look(recipient_id: str | None) -> Sequence[DeadRow]:
            found: dict[str, DeadRow] = {}  # one that dies meanwhile moves the others on, into the next page too
            place = 0
            while len(found) < offset + limit:  # there are few of them, so they are narrowed here
                page = await self.engine.store.deliveries.list_dead(recipient_id, PAGE, place)
                found |= {row.message_id: row for row in page if fits(row)}
                place += PAGE
                if len(page) < PAGE:
                    break
            return [*found.values()][offset : offset + limit]

        async def look_at_page(recipient_id: str | None) -> Sequence[DeadRow]:
            return await self.engine.store.deliveries.list_dead(recipient_id, limit, offset)

        is_narrowed = words is not None or wanted != make_wanted()
        rows = await self._look_up(recipient_external_id, look if is_narrowed else look_at_page)
        names = await self.engine.names.find_by_id({id for row in rows for id in (row.sender_id, row.recipient_id)})
        return [_dead_letter(row, names) for row in rows]

    async def redrive(
        self, message_ids: MessageId | Sequence[MessageId] | None = None, *, recipient_external_id: str | None = None
    ) -> int:
        """Queue dead letters again, with all their attempts before them.

        Args:
            message_ids: Which; None means all of the recipient.
            recipient_external_id: Of whom; one of the two must be given.

        Returns:
            How many were queued; those that are not dead are passed over. Repeat-safe.

        Raises:
            InvalidArgumentError: Neither was given.
            AgentNotFoundError: There is no such agent.

        Example:
            number = await sdk.dead_letters.redrive(message_id)
        """
        if message_ids is None and recipient_external_id is None:
            raise InvalidArgumentError(
                field="message_ids",
                value=None,
                reason="and recipient_external_id are both missing; say what to redrive.",
            )
        ids = None if message_ids is None else parse_ids(message_ids, "message_ids")
        engine = self.engine

        async def redrive(recipient_id: str | None) -> int:
            moved = await engine.store.deliveries.redrive(ids, recipient_id)
            engine.announcer.redriven(message_id for message_id, _ in moved)
            for kind in KIND_OF_WORD.values():
                engine.announcer.queued({recipient_id for _, recipient_id in moved}, kind)
            return len(moved)

        return await self._look_up(recipient_external_id, lambda id: engine.commits.run(redrive(id)))

    async def _look_up(self, external_id: str | None, look: Callable[[str | None], Awaitable[R]]) -> R:
        if external_id is None:
            return await look(None)
        check_external_id(external_id, field="recipient_external_id")
        return await self.engine.names.look_up(external_id, lambda recipient: look(recipient.id), role="recipient")


def _receipt(
    row: ReceiptRow, names: dict[str, AgentName], places: dict[str, tuple[str, int]], way: Sequence[Step]
) -> Receipt:
    has_stayed = any(entry.get("event") == "forwarded" for entry in row.log)
    """It is what was left of an ask with an agent that passed it on."""
    created_at = way[0].stored_at if way and not has_stayed else row.created_at
    events = [ReceiptEvent(created_at, "stored")]
    if not has_stayed:
        events += [ReceiptEvent(step.at, "forwarded", reason=f"{step.from_id} → {step.to_id}") for step in way]

    def tell(at: datetime, event: str, run: int | None, process: str | None, reason: str | None = None) -> None:
        host, pid = places.get(process or "", (None, None))
        events.append(ReceiptEvent(at, event, run, process, reason, host, pid))

    reasons: list[str] = []
    for entry in row.log:
        at, claimed_at = _instant(entry.get("at")), _instant(entry.get("claimed_at"))
        attempt, process, reason = entry.get("attempt"), entry.get("process"), entry.get("reason")
        run = attempt if isinstance(attempt, int) else None
        where = str(process) if process else None
        event = str(entry.get("event", ""))
        if claimed_at is not None and event != "redriven":
            tell(claimed_at, "claimed", run, where)
        tell(at or row.created_at, event, run, where, str(reason) if reason else None)
        if reason:
            reasons.append(str(reason))
    ended_in_log = has_stayed or (bool(row.log) and row.log[-1].get("event") == row.state.value)
    if not has_stayed and row.state in (DeliveryState.CLAIMED, DeliveryState.DONE) and row.claimed_at is not None:
        tell(row.claimed_at, "claimed", row.attempt, row.owner)
    if row.state.is_final and row.settled_at is not None and not ended_in_log:
        tell(row.settled_at, row.state.value, row.attempt or None, row.owner)
    return Receipt(
        message_id=row.message_id,
        sender_id=external_or_id(names, row.sender_id),
        recipient_id=external_or_id(names, row.recipient_id),
        kind=row.kind,
        state=row.state,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        token=row.token,
        created_at=created_at,
        deliver_at=row.deliver_at,
        expires_at=row.expires_at,
        claimed_at=row.claimed_at,
        settled_at=row.settled_at,
        read_at=row.read_at,
        process=row.owner,
        reasons=tuple(reasons),
        events=tuple(events),
        way=holders_of(way),
    )


def _instant(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _dead_letter(row: DeadRow, names: dict[str, AgentName]) -> DeadLetter:
    body = open_or_mark(row, f"message {row.message_id}")  # damage may be why it is one, and must not hide the others
    return DeadLetter(
        message_id=row.message_id,
        sender_id=external_or_id(names, row.sender_id),
        recipient_id=external_or_id(names, row.recipient_id),
        kind=row.kind,
        content=body.content,
        metadata=body.metadata,
        attempt=row.attempt,
        reasons=tuple(str(entry["reason"]) for entry in row.log if entry.get("reason")),
        created_at=row.created_at,
        died_at=row.died_at,
        topic=row.topic,
    )
