"""Conversations: their sessions, what is read of them, asks, waits and notices. Storing and settling are elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg

from ...models import AskState, SessionStatus, SessionType
from ..aside import ask_state, read
from ..batches import MAX_BYTES
from ..ports import (
    EVERYTHING,
    MAIN,
    AnswerRow,
    AskRow,
    EndedAsk,
    EndedSession,
    MessageRow,
    Narrowing,
    NewEnding,
    NewWait,
    ReadPage,
    SessionCounts,
    SessionRow,
    SessionStatistics,
    WaitingQuestion,
    WaitRow,
)
from ..sql import Queries
from . import asks, floors
from .engine import Connection, Engine
from .messages import narrow, spell, to_message

_SQL = Queries(__package__, "sessions")


class PostgresSessions:
    """See `ports.SessionStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.most_bytes = MAX_BYTES
        """Of the contents that one statement reads."""

    # --- sessions ---

    async def find_session(self, session_id: str) -> SessionRow | None:
        rows = await self._fetch("find_session", session_id)
        return read(_session, rows[0], "the session") if rows else None

    async def find_open_session(self, agent_id: str, other_id: str, thread: str = MAIN) -> SessionRow | None:
        rows = await self._fetch("find_open_session", agent_id, other_id, thread)
        return read(_session, rows[0], "the session") if rows else None

    async def list_sessions(
        self,
        agent_id: str,
        *,
        open_only: bool = False,
        status: SessionStatus | None = None,
        limit: int,
        offset: int = 0,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        before_id: str | None = None,
    ) -> list[SessionRow]:
        wanted = (open_only, limit, offset, thread, status, date_from, date_to, before_id)
        rows = await self._fetch("list_sessions", agent_id, *wanted)
        return self._engine.aside.all(_session, rows, "a session")

    async def end_session(
        self, agent_id: str, other_id: str, ending: NewEnding, thread: str = MAIN, *, now: datetime | None = None
    ) -> EndedSession | None:
        awaited = thread or None

        async def work(connection: Connection) -> EndedSession | None:
            found = await connection.fetch(_SQL["end_session_find"], agent_id, other_id, thread)
            if not found:
                return await _find_ended(connection, ending.message_id, awaited)
            session_id = found[0]["session_id"]
            ended = await connection.fetch(_SQL["end_session"], session_id, agent_id, ending.message_id, now)
            if not ended:
                return await _find_ended(connection, ending.message_id, awaited)
            moment = ended[0]["ended_at"]
            rows = await connection.fetch(_SQL["end_session_asks"], session_id, moment)
            seqs = [row["seq"] for row in rows]
            workers = await asks.find_workers(connection, seqs)
            await asks.settle_deliveries(connection, seqs, moment)
            waits = await connection.fetch(_SQL["end_session_waits"], agent_id, other_id, awaited)
            await connection.execute(
                _SQL["end_session_store"],
                ending.message_id,
                agent_id,
                other_id,
                session_id,
                ending.content,
                ending.checksum,
                moment,
                thread,
            )
            return _ended(session_id, rows, workers | {row["process_id"] for row in waits})

        return await self._engine.run(work, write=True, repeatable=True)

    async def count_messages(self, session_id: str) -> SessionCounts:
        (row,) = await self._fetch("count_messages", session_id)
        return SessionCounts(**row)

    async def statistics(self, agent_id: str, thread: str | None = None) -> SessionStatistics:
        (row,) = await self._fetch("statistics", agent_id, thread)
        return SessionStatistics(**row)

    async def list_messages(
        self,
        session_id: str,
        *,
        limit: int,
        offset: int = 0,
        after_seq: int | None = None,
        before_seq: int | None = None,
        newest_first: bool = False,
        unread_only: bool = False,
        narrowing: Narrowing = EVERYTHING,
    ) -> list[MessageRow]:
        page = (session_id, limit, offset, after_seq, before_seq, *narrow(narrowing))
        name = "list_messages_newest" if newest_first else "list_messages"
        rows = await self._fetch(name, *page, unread_only, spell(narrowing.states))
        return [to_message(row) for row in rows]

    # --- reading ---

    async def read_messages(
        self,
        recipient_id: str,
        *,
        sender_id: str | None = None,
        thread: str | None = None,
        mark: bool = True,
        limit: int,
        after_seq: int | None = None,
        within: str | None = None,
        now: datetime | None = None,
    ) -> ReadPage:
        values = (recipient_id, after_seq, limit + 1)  # one more tells whether the page is the last
        if thread is not None:
            rows = await self._fetch("read_find_in", *values, sender_id, self.most_bytes, thread, now)
        elif sender_id is None:
            rows = await self._fetch("read_find", *values, self.most_bytes, now)
        else:
            rows = await self._fetch("read_find_from", *values, sender_id, self.most_bytes, now)
        found = [dict(row) for row in rows]
        is_last = not found or found[0]["found"] == len(found) <= limit
        messages = [to_message({name: row[name] for name in row if name != "found"}) for row in found[:limit]]
        if not mark or not messages:
            return ReadPage(messages, is_last)
        marked = await self._change("read_mark", [message.seq for message in messages], now, within)
        read_at = {row["seq"]: row["read_at"] for row in marked}
        return ReadPage(
            [replace(message, read_at=read_at[message.seq]) for message in messages if message.seq in read_at], is_last
        )

    async def return_messages(self, messages: Collection[MessageRow], *, now: datetime | None = None) -> set[str]:
        taken = _taken(messages)
        if not taken:
            return set()

        async def work(connection: Connection) -> set[str]:
            held = await connection.fetch(_SQL["return_messages_lock"], *zip(*taken, strict=True))
            seqs = [row["seq"] for row in held]
            await connection.execute(_SQL["return_messages"], seqs)
            await floors.lower(connection, seqs)
            await asks.settle_deliveries(connection, seqs, now)
            # Of all that were taken: a repeat finds none held any more, and tells the same.
            every = [seq for seq, _ in taken]
            return {row["waiter"] for row in await connection.fetch(_SQL["return_messages_waits"], every, now)}

        return await self._engine.run(work, write=True, repeatable=True)

    async def reject_messages(
        self, messages: Collection[MessageRow], reason: str, *, owner: str, now: datetime | None = None
    ) -> list[EndedAsk]:
        taken = _taken(messages)
        if not taken:
            return []

        async def work(connection: Connection) -> list[EndedAsk]:
            dead = await connection.fetch(_SQL["reject_messages"], *zip(*taken, strict=True), now, owner, reason)
            return await asks.fail(connection, [(row["seq"], reason, True) for row in dead], now)

        return await self._engine.run(work, write=True)

    # --- asks ---

    async def find_asks(self, ask_ids: Collection[str]) -> list[AskRow]:
        if not ask_ids:
            return []

        async def work(connection: Connection) -> list[Any]:
            return await self._fetch_asks(connection, "find_asks", "ask_id", list(ask_ids))

        return [_ask(row) for row in await self._engine.run(work, write=False)]

    async def find_ended_asks(self, ask_ids: Sequence[str]) -> dict[str, AskRow | None]:
        if not ask_ids:
            return {}

        async def work(connection: Connection) -> list[Any]:
            return await self._fetch_asks(connection, "find_ended_asks", "asked_id", list(ask_ids))

        rows = await self._engine.run(work, write=False)
        return {row["asked_id"]: None if row["state"] is None else _ask(row) for row in rows}

    async def list_open_asks(self, responder_id: str, *, limit: int, offset: int = 0) -> list[WaitingQuestion]:
        rows = await self._fetch("list_open_asks", responder_id, limit, offset)
        found = [dict(row) for row in rows]
        return [WaitingQuestion(deadline_at=row.pop("deadline_at"), message=to_message(row)) for row in found]

    async def close_asks(
        self,
        ask_ids: Collection[str],
        state: AskState,
        *,
        responder_id: str | None = None,
        reason: str | None = None,
        now: datetime | None = None,
    ) -> list[AskRow]:
        if not ask_ids:
            return []
        ids = list(ask_ids)

        async def work(connection: Connection) -> list[AskRow]:
            found: list[Any] = []
            left = ids
            while left:
                closed = await connection.fetch(_SQL["close_asks"], left, str(state), now, reason, responder_id)
                await asks.settle_deliveries(connection, [row["seq"] for row in closed], now)
                rest = list(set(left) - {row["ask_id"] for row in closed})
                if rest and state is AskState.CANCELLED:
                    await connection.execute(_SQL["close_asks_unread"], rest)
                before = await self._fetch_asks(connection, "find_asks", "ask_id", rest)
                # Passed on while this waited for its delivery, it has another one now.
                again = [row for row in before if row["state"] == AskState.OPEN]
                if responder_id is not None:
                    again = [row for row in again if row["responder_id"] == responder_id]
                left = [row["ask_id"] for row in again]
                found += [*closed, *(row for row in before if row not in again)]
            return [_ask(row) for row in found]

        await self._engine.outlast()  # one that was cut off may be stored only now
        return await self._engine.run(work, write=True, repeatable=True)

    async def _fetch_asks(self, connection: Connection, name: str, id: str, ids: list[str]) -> list[Any]:
        """All of these, with their answers: in pieces that are bounded by bytes, so that no statement takes long."""
        found: list[Any] = []
        while ids:
            rows = await connection.fetch(_SQL[name], ids, self.most_bytes)
            found += [row for row in rows if not row["is_left"]]
            ids = [row[id] for row in rows if row["is_left"]]
        return found

    # --- waits ---

    async def register_wait(self, wait: NewWait, *, owner: str, now: datetime | None = None) -> bool:
        async def work(connection: Connection) -> bool:
            try:
                await connection.execute(
                    _SQL["register_wait"],
                    wait.wait_id,
                    wait.recipient_id,
                    wait.sender_id,
                    wait.timeout,
                    owner,
                    now,
                    wait.within,
                    wait.thread,
                )
            except asyncpg.ForeignKeyViolationError:
                return False
            return True

        return await self._engine.run(work, write=True, single=True, repeatable=True)

    async def find_waits(self, wait_ids: Sequence[str], now: datetime | None = None) -> dict[str, WaitRow | None]:
        if not wait_ids:
            return {}
        return {
            row["wait_id"]: WaitRow(row["wait_id"], row["is_ready"], row["is_ended"]) if row["is_known"] else None
            for row in await self._fetch("find_waits", list(wait_ids), now)
        }

    async def take_awaited(
        self,
        recipient_id: str,
        sender_id: str,
        *,
        thread: str | None = None,
        within: str | None = None,
        now: datetime | None = None,
    ) -> MessageRow | None:
        while found := await self._fetch("take_find", recipient_id, sender_id, now, thread):
            # Nothing, if somebody else has taken or claimed it meanwhile: it is not found again.
            if taken := await self._change("take", found[0]["seq"], now, within):
                return to_message(taken[0])
        return None

    async def remove_wait(self, wait_id: str) -> None:
        await self._engine.outlast()  # as for asks
        await self._engine.change(_SQL["remove_wait"], wait_id, repeatable=True)

    # --- notices ---

    async def take_notices(
        self, recipient_ids: Collection[str] | None, limit: int, *, now: datetime | None = None
    ) -> list[MessageRow]:
        if recipient_ids is not None and not recipient_ids:
            return []
        ids = None if recipient_ids is None else list(recipient_ids)
        (row,) = await self._fetch("take_notices_find", ids, now)
        if not row["found"]:
            return []

        async def work(connection: Connection) -> Any:
            await connection.execute(_SQL["drop_notices"], now)
            return await connection.fetch(_SQL["take_notices"], ids, limit, self.most_bytes, now)

        return [to_message(row) for row in await self._engine.run(work, write=True)]

    async def _fetch(self, name: str, *values: object) -> Any:
        return await self._engine.fetch(_SQL[name], *values)

    async def _change(self, name: str, *values: object) -> Any:
        return await self._engine.change(_SQL[name], *values)


def _taken(messages: Collection[MessageRow]) -> list[tuple[int, datetime]]:
    return [(row.seq, row.read_at) for row in messages if row.read_at is not None]


async def _find_ended(connection: Connection, ending_id: str, awaited: str | None) -> EndedSession | None:
    """What an earlier try with the same ending has ended."""
    rows = await connection.fetch(_SQL["end_session_again"], ending_id, awaited)
    if not rows:
        return None
    ended = [row for row in rows if row["ask_id"] is not None]
    return _ended(rows[0]["session_id"], ended, (row["waiter"] for row in rows if row["waiter"] is not None))


def _ended(session_id: str, rows: Sequence[Any], waiters: Any) -> EndedSession:
    ended = [EndedAsk(row["ask_id"], AskState.ENDED, row["origin"]) for row in rows]
    return EndedSession(session_id, ended, {ask.origin for ask in ended if ask.origin is not None} | set(waiters))


def _session(row: Any) -> SessionRow:
    return SessionRow(**{**row, "session_type": SessionType(row["session_type"])})


def _ask(row: Any) -> AskRow:
    state, reason = ask_state(row["state"], row["reason"])
    answer = None
    if row["answer_id"] is not None:
        answer = AnswerRow(row["answer_id"], row["content"], row["metadata"], row["checksum"])
    return AskRow(
        ask_id=row["ask_id"],
        session_id=row["session_id"],
        asker_id=row["asker_id"],
        responder_id=row["responder_id"],
        state=state,
        origin=row["origin"],
        deadline_at=row["deadline_at"],
        answer=answer,
        reason=reason,
        worker=row.get("worker"),
    )
