"""Conversations in SQLite: sessions, reading, asks, waits and notices. `append` and `settling` store their messages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

import apsw

from ...models import AskState, SessionStatus, SessionType
from ..aside import ask_state, read
from ..batches import MAX_BYTES, size_of
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
from . import asks, notices
from .clock import (
    SECOND,
    Instant,
    StoreClock,
    to_datetime,
    to_datetime_or_none,
    to_microseconds,
    to_microseconds_or_none,
)
from .engine import Engine, fetch, fetch_many, fetch_page
from .filing import file, find_next
from .rows import encode, message_row, narrow

_SQL = Queries(__package__, "sessions")
_READ_AT = 9
"""Where the listings select it; see `rows.message_row`."""
_DROPPED = 100
"""So many of the oldest notices are looked at, and dropped if they are old, where some are taken."""


class SQLiteSessions:
    """See `ports.SessionStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock
        self.most_bytes = MAX_BYTES
        """Of the contents that are read at once."""

    # --- sessions ---

    async def find_session(self, session_id: str) -> SessionRow | None:
        row = await self._engine.read(lambda con: fetch(con, _SQL["find_session"], {"session": session_id}))
        return None if row is None else read(_session, row, "the session")

    async def find_open_session(self, agent_id: str, other_id: str, thread: str = MAIN) -> SessionRow | None:
        parameters = {"agent": agent_id, "other": other_id, "thread": thread}
        row = await self._engine.read(lambda con: fetch(con, _SQL["find_open_session"], parameters))
        return None if row is None else read(_session, row, "the session")

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
        parameters: dict[str, Any] = {"agent": agent_id, "open_only": open_only, "status": status, "thread": thread}
        parameters |= {"from": to_microseconds_or_none(date_from), "to": to_microseconds_or_none(date_to)}
        parameters |= {"before": before_id, "limit": limit, "offset": offset}
        rows = await self._engine.read(lambda con: fetch(con, _SQL["list_sessions"], parameters))
        return self._engine.aside.all(_session, rows, "a session")

    async def end_session(
        self, agent_id: str, other_id: str, ending: NewEnding, thread: str = MAIN, *, now: datetime | None = None
    ) -> EndedSession | None:

        def end(connection: apsw.Connection) -> EndedSession | None:
            instant = self._clock.now(now)
            parameters: dict[str, Any] = {"agent": agent_id, "other": other_id, "ending": ending.message_id}
            parameters |= {"thread": thread, "awaited": thread or None}
            found = fetch(connection, _SQL["end_session_find"], parameters)
            if found is None:
                return None
            session_id, is_open, open_asks, waiting = found
            if is_open:
                parameters |= {"session": session_id, "at": instant.at, "now": instant.due}
                connection.execute(_SQL["end_session"], parameters)
                connection.execute(_SQL["end_session_waits"], parameters)
                asks.give_up(connection, [seq for seq, _, _ in open_asks], AskState.ENDED, instant)
                seq = find_next(connection)
                parameters |= {"seq": seq, "content": ending.content, "checksum": ending.checksum}
                connection.execute(_SQL["end_session_store"], parameters)
                file(connection, seq, seq)
            ended = [EndedAsk(ask_id, AskState.ENDED, origin) for _, ask_id, origin in open_asks]
            processes = {*waiting, *(ask.origin for ask in ended if ask.origin is not None)}
            processes |= asks.find_workers(connection, [seq for seq, _, _ in open_asks])
            return EndedSession(session_id, ended, processes)

        return await self._engine.write(end)

    async def count_messages(self, session_id: str) -> SessionCounts:
        counts = await self._engine.read(lambda con: fetch(con, _SQL["count_messages"], {"session": session_id}))
        return SessionCounts(*counts)

    async def statistics(self, agent_id: str, thread: str | None = None) -> SessionStatistics:
        parameters = {"agent": agent_id, "thread": thread}
        counts = await self._engine.read(lambda con: fetch(con, _SQL["statistics"], parameters))
        return SessionStatistics(*counts)

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
        parameters: dict[str, Any] = {"session": session_id, "limit": limit, "offset": offset, "unread": unread_only}
        parameters |= {"after": after_seq, "before": before_seq, **narrow(narrowing)}
        sql = _SQL["list_messages_newest" if newest_first else "list_messages"]
        return [message_row(row) for row in await self._engine.read(lambda con: fetch_page(con, sql, parameters))]

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
        name = "read_find_in" if thread is not None else "read_find" if sender_id is None else "read_find_from"
        parameters: dict[str, Any] = {"recipient": recipient_id, "after_seq": after_seq or 0}
        parameters |= {"sender": sender_id, "thread": thread, "most_bytes": self.most_bytes}
        parameters["now"] = self._clock.now(now).due
        parameters["limit"] = limit + 1  # one more, to know whether it is the last page

        def read(connection: apsw.Connection) -> list[Any]:
            return list(fetch(connection, _SQL[name], parameters))

        def read_and_mark(connection: apsw.Connection) -> list[Any]:
            rows = read(connection)
            _mark(connection, rows[:limit], within, self._clock.now(now))
            return rows

        rows = await (self._engine.write(read_and_mark) if mark else self._engine.read(read))
        messages = [message_row(row) for row in rows]
        size = sum(size_of(message.content, message.metadata) for message in messages)
        return ReadPage(messages[:limit], is_last=len(messages) <= limit and size < self.most_bytes)

    async def return_messages(self, messages: Collection[MessageRow], *, now: datetime | None = None) -> set[str]:
        taken = _taken(messages)
        seqs = [seq for seq, _ in taken]

        def give_back(connection: apsw.Connection) -> set[str]:
            instant = self._clock.now(now)
            connection.execute(_SQL["return_messages"], {"taken": encode(taken)})
            asks.settle_deliveries(connection, seqs, instant)
            parameters = {"seqs": encode(seqs), "now": instant.due}
            return set(fetch(connection, _SQL["return_messages_waits"], parameters))

        return await self._engine.write(give_back) if taken else set()

    async def reject_messages(
        self, messages: Collection[MessageRow], reason: str, *, owner: str, now: datetime | None = None
    ) -> list[EndedAsk]:
        taken = _taken(messages)

        def reject(connection: apsw.Connection) -> list[EndedAsk]:
            instant = self._clock.now(now)
            parameters = {"taken": encode(taken), "at": instant.at, "owner": owner, "reason": reason}
            connection.execute(_SQL["reject_messages"], parameters)
            failed, _ = asks.follow(connection, [seq for seq, _ in taken], instant)
            return failed

        return await self._engine.write(reject) if taken else []

    # --- asks ---

    async def find_asks(self, ask_ids: Collection[str]) -> list[AskRow]:
        ids = sorted(set(ask_ids))
        return await self._engine.read(lambda con: _find_asks(con, ids)) if ids else []

    async def find_ended_asks(self, ask_ids: Sequence[str]) -> dict[str, AskRow | None]:
        if not ask_ids:
            return {}
        rows = await self._engine.read(lambda con: fetch_many(con, _SQL["find_ended_asks"], list(ask_ids)))
        return {row[0]: None if row[1] is None else _ask(row) for row in rows}

    async def list_open_asks(self, responder_id: str, *, limit: int, offset: int = 0) -> list[WaitingQuestion]:
        parameters = {"responder": responder_id, "limit": limit, "offset": offset}
        rows = await self._engine.read(lambda con: fetch_page(con, _SQL["list_open_asks"], parameters))
        return [WaitingQuestion(message_row(row), to_datetime(deadline_at)) for *row, deadline_at in rows]

    async def close_asks(
        self,
        ask_ids: Collection[str],
        state: AskState,
        *,
        responder_id: str | None = None,
        reason: str | None = None,
        now: datetime | None = None,
    ) -> list[AskRow]:
        ids = sorted(set(ask_ids))

        def close(connection: apsw.Connection) -> list[AskRow]:
            instant = self._clock.now(now)
            parameters = {"ids": encode(ids), "responder": responder_id}
            found = fetch(connection, _SQL["close_asks_find"], parameters)
            asks.give_up(connection, [seq for seq, was, _ in found if was == AskState.OPEN], state, instant, reason)
            answers = [answer_seq for _, was, answer_seq in found if was == AskState.REPLIED]
            if answers and state is AskState.CANCELLED:
                connection.execute(_SQL["close_asks_unread"], {"seqs": encode(answers)})
            return _find_asks(connection, ids)

        return await self._engine.write(close) if ids else []

    # --- waits ---

    async def register_wait(self, wait: NewWait, *, owner: str, now: datetime | None = None) -> bool:

        def register(connection: apsw.Connection) -> bool:
            due = self._clock.now(now).due
            parameters = {
                "wait": wait.wait_id,
                "recipient": wait.recipient_id,
                "sender": wait.sender_id,
                "thread": wait.thread,
                "owner": owner,
                "until": None if wait.timeout is None else due + int(wait.timeout * SECOND),
                "within": wait.within,
            }
            connection.execute(_SQL["register_wait"], parameters)
            # Nothing was inserted without the agents, and by a repeat.
            return connection.changes() > 0 or bool(connection.execute(_SQL["has_wait"], {"wait": wait.wait_id}).get)

        return await self._engine.write(register)

    async def find_waits(self, wait_ids: Sequence[str], now: datetime | None = None) -> dict[str, WaitRow | None]:
        if not wait_ids:
            return {}
        parameters = {"ids": encode(list(wait_ids)), "now": self._clock.now(now).due}
        rows = await self._engine.read(lambda con: fetch(con, _SQL["find_waits"], parameters))
        return {
            id: WaitRow(id, is_ready=bool(is_ready), is_ended=bool(is_ended)) if is_there else None
            for id, is_there, is_ready, is_ended in rows
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
        instant = self._clock.now(now)
        parameters = {"recipient": recipient_id, "sender": sender_id, "thread": thread, "now": instant.due}

        def find(connection: apsw.Connection) -> list[Any] | None:
            row: list[Any] | None = fetch(connection, _SQL["take_find"], parameters)
            return row

        def take(connection: apsw.Connection) -> list[Any] | None:
            row = find(connection)
            _mark(connection, [] if row is None else [row], within, instant)
            return row

        row = await self._look_then_write(find, take)
        return None if row is None else message_row(row)

    async def remove_wait(self, wait_id: str) -> None:
        await self._engine.write(lambda con: con.execute(_SQL["remove_wait"], {"wait": wait_id}).close())

    # --- notices ---

    async def take_notices(
        self, recipient_ids: Collection[str] | None, limit: int, *, now: datetime | None = None
    ) -> list[MessageRow]:
        instant = self._clock.now(now)

        def find(connection: apsw.Connection) -> list[Any]:
            return notices.find(connection, recipient_ids, limit, self.most_bytes, instant)

        def take(connection: apsw.Connection) -> list[Any]:
            rows = find(connection)
            notices.remove(connection, [row[0] for row in rows])
            notices.drop(connection, _DROPPED, instant)
            return rows

        return [message_row(row) for row in await self._look_then_write(find, take) or ()]

    async def _look_then_write(
        self, find: Callable[[apsw.Connection], list[Any] | None], take: Callable[[apsw.Connection], list[Any] | None]
    ) -> list[Any] | None:
        """For what is called again and again: takes the turn to write only if there is something."""
        if not self._engine.in_memory and not await self._engine.read(find):
            return None
        return await self._engine.write(take)


def _mark(connection: apsw.Connection, rows: list[Any], within: str | None, instant: Instant) -> None:
    """Mark them as read, in the store and in what is answered of them."""
    if rows:
        parameters = {"seqs": encode([row[0] for row in rows]), "within": within, "at": instant.at}
        connection.execute(_SQL["read_mark"], parameters)
        for row in rows:
            row[_READ_AT] = instant.at


def _taken(messages: Collection[MessageRow]) -> list[tuple[int, int]]:
    return [(row.seq, to_microseconds(row.read_at)) for row in messages if row.read_at is not None]


def _find_asks(connection: apsw.Connection, ids: list[str]) -> list[AskRow]:
    return [_ask(row) for row in fetch_many(connection, _SQL["find_asks"], ids)]


def _session(row: list[Any]) -> SessionRow:
    session_id, agent_a_id, agent_b_id, thread, session_type, waiting_id, created_at, last_at, ended_at = row
    return SessionRow(
        session_id=session_id,
        agent_a_id=agent_a_id,
        agent_b_id=agent_b_id,
        thread=thread,
        session_type=SessionType(session_type),
        waiting_id=waiting_id,
        created_at=to_datetime(created_at),
        # The last message may be a late answer, stored after the end.
        updated_at=to_datetime(max(created_at, last_at or 0, ended_at or 0)),
        ended_at=to_datetime_or_none(ended_at),
    )


def _ask(row: list[Any]) -> AskRow:
    (ask_id, session_id, asker_id, responder_id, state, origin, deadline_at, reason, worker, answer_id, *answer) = row
    content, metadata, checksum = answer
    known, why = ask_state(state, reason)
    return AskRow(
        ask_id=ask_id,
        session_id=session_id,
        asker_id=asker_id,
        responder_id=responder_id,
        state=known,
        origin=origin,
        deadline_at=to_datetime(deadline_at),
        answer=None if answer_id is None else AnswerRow(answer_id, content, metadata, checksum),
        reason=why,
        worker=worker,
    )
