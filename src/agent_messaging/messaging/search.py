"""Finding messages again, by their ids, words and metadata: the calls of the SDK object, and their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..arguments import (
    check_external_id,
    check_instant,
    check_page,
    check_pair,
    check_thread,
    parse_choices,
    parse_id,
    refuse,
)
from ..bodies import open_body
from ..exceptions import MessageNotFoundError
from ..models import Kind, Message, Record
from ..storage.ports import SEARCHED, Scope
from .missing import explain_missing

if TYPE_CHECKING:
    from ..delivery.engine import Engine
    from ..search.language import Query


class Search:
    """The share of `AgentMessaging` that finds messages again."""

    def _started(self) -> Engine:
        """The engine that is started now."""
        raise NotImplementedError

    async def get_message(self, message_id: UUID | str) -> Message[Any]:
        """Look a message up: a note, a message of a conversation, or what was said in a meeting.

        All ids are UUIDs. It neither marks the message as read nor settles it; `sdk.receipts.get` tells its life.

        Args:
            message_id: As `send` returned it, or `context.message_id`.

        Returns:
            The message, with its content as plain JSON.

        Raises:
            MessageNotFoundError: There is no such message; says whether it was pruned.
            StorageCorruptError: What is stored is not what was sent.
            InvalidArgumentError: The id is not a UUID.

        Example:
            message = await sdk.get_message(message_id)
            print(message.created_at, message.content)
        """
        engine = self._started()
        id = parse_id(message_id, "message_id")
        row = await engine.store.messages.find_message(id)
        if row is None:
            raise await explain_missing(engine, MessageNotFoundError(message_id=id))
        body = open_body(row, f"message {id}")
        return Message(
            id=UUID(row.message_id),
            sender_id=UUID(row.sender_id),
            recipient_id=_uuid_or_none(row.recipient_id),
            session_id=_uuid_or_none(row.session_id),
            thread=row.thread or None,
            meeting_id=_uuid_or_none(row.meeting_id),
            message_type=row.message_type,
            content=body.content,
            read_at=row.read_at,
            created_at=row.created_at,
            metadata=body.metadata,
        )

    async def search_messages(
        self,
        search_query: str,
        sender_id: str | None = None,
        recipient_id: str | None = None,
        session_id: UUID | str | None = None,
        meeting_id: UUID | str | None = None,
        limit: int = 50,
        offset: int = 0,
        *,
        metadata_filter: Mapping[str, Any] | None = None,
        kinds: Iterable[Kind | str] | None = None,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
    ) -> list[Record]:
        """Find messages by their words: notes, conversations and what was said in meetings, the best matches first.

        A message is found as soon as the call that sent it has returned, in whatever process. All strings of its
        payload are searched, up to 100,000 characters; keys, numbers and metadata are not. It neither marks messages as
        read nor settles them.

        A query is words that must all occur, `"phrases in quotes"`, `OR` between alternatives, `-word` for what must
        not occur, `begin*` for words that begin so, and `from:alice` and `to:bob`. Case and accents do not matter.
        `snake_case`, `CamelCase`, e-mail addresses and URLs are found whole and by their parts, and Chinese, Japanese,
        Korean and Thai by any of their characters. No text is a wrong query: what is no word separates words.

        Args:
            search_query: The query; at most 1,000 characters.
            sender_id: The external id of who sent it.
            recipient_id: The external id of whom it was sent to; what is said in meetings has no recipient.
            session_id: Of this conversation.
            meeting_id: Said in this meeting.
            limit: At most so many, 1 to 500.
            offset: So many of the best are passed over.
            metadata_filter: Conditions on the metadata, which all must hold: `{"priority": "high"}` (equal, with JSON's
                types apart: neither 1 nor "true" is True), `{"tags__contains": "urgent"}` (an array with this entry),
                `{"region__in": ["eu", "us"]}`, `{"ticket__exists": True}`; dots step into objects
                (`"order.id"`). At most 32.
            kinds: Of these kinds alone: "one_way", "conversation", "meeting". None is all.
            thread: Of this thread of a conversation.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.

        Returns:
            Mappings with attribute access: id (and message_id), sender, recipient (and sender_id, recipient_id;
            external ids), content (plain JSON), timestamp (and created_at), ts_rank (and rank; more is better, compare
            it only within one call), snippet (a piece of the text with `**` around the words that match), snippet_hits
            (where they are in the piece without the marks, which is `excerpt`), kind, session_id, meeting_id, thread,
            topic, metadata. Equal ranks are in the order of time, the newest first. Of more than 1,000 matches the
            newest 1,000 are ranked and come first, then the next 1,000. Empty if nothing matches. Damaged messages are
            left out.

        Raises:
            InvalidArgumentError: The query names nothing to look for, or an argument is out of range; a `ValueError`.
            AgentNotFoundError: sender_id or recipient_id is not registered; names the closest.
            NotInitializedError: The SDK is not started; a `RuntimeError`.
            DatabaseError: The store failed.

        Example:
            for match in await sdk.search_messages('"database migration" -draft', sender_id="alice", limit=20):
                print(match.timestamp, match.snippet)
        """
        from .searching import parse  # a start does not wait for what is loaded with it

        engine = self._started()
        query = parse(search_query)
        check_page(limit, offset, max_limit=500)
        scope = _make_scope(kinds, session_id, meeting_id, thread, date_from, date_to)
        return await _search(engine, query, metadata_filter, scope, sender_id, recipient_id, limit, offset)

    async def get_messages_by_metadata(
        self,
        metadata_filter: Mapping[str, Any],
        recipient_id: str | None = None,
        sender_id: str | None = None,
        session_id: UUID | str | None = None,
        meeting_id: UUID | str | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        kinds: Iterable[Kind | str] | None = None,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
    ) -> list[Record]:
        """List messages by their metadata, whatever their words: notes, conversations and meetings, the newest first.

        It neither marks messages as read nor settles them.

        Args:
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; all must hold. Empty is none.
            recipient_id: The external id of whom it was sent to; what is said in meetings has no recipient.
            sender_id: The external id of who sent it.
            session_id: Of this conversation.
            meeting_id: Said in this meeting.
            limit: At most so many, 1 to 500.
            offset: So many of the newest are passed over.
            kinds: Of these kinds alone: "one_way", "conversation", "meeting". None is all.
            thread: Of this thread of a conversation.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.

        Returns:
            Mappings as of `search_messages`. All ranks are equal, and the snippet is the beginning of the text. Empty
            if nothing fits. Damaged messages are left out.

        Raises:
            InvalidArgumentError: The filter is no mapping, or an argument is out of range; a `ValueError`.
            AgentNotFoundError: sender_id or recipient_id is not registered; names the closest.
            NotInitializedError: The SDK is not started; a `RuntimeError`.
            DatabaseError: The store failed.

        Example:
            urgent = await sdk.get_messages_by_metadata({"tags__contains": "urgent"}, recipient_id="bob")
        """
        from .searching import EVERYTHING

        engine = self._started()
        if metadata_filter is None:
            raise refuse("metadata_filter", None, "is no mapping. Pass {} for no condition.")
        check_page(limit, offset, max_limit=500)
        scope = _make_scope(kinds, session_id, meeting_id, thread, date_from, date_to)
        return await _search(engine, EVERYTHING, metadata_filter, scope, sender_id, recipient_id, limit, offset)

    async def get_messages_between_agents(
        self,
        agent_a_external_id: str,
        agent_b_external_id: str,
        limit: int = 100,
        offset: int = 0,
        *,
        metadata_filter: Mapping[str, Any] | None = None,
        kinds: Iterable[Kind | str] | None = None,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
    ) -> list[Record]:
        """List all that two agents have sent to each other, notes and conversations of all sessions, the newest first.

        It neither marks messages as read nor settles them. It walks the messages of the store, so where the two wrote
        little among a million others it takes half a second.

        Args:
            agent_a_external_id: The one.
            agent_b_external_id: The other.
            limit: At most so many, 1 to 500.
            offset: So many of the newest are passed over.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.
            kinds: Of these kinds alone: "one_way", "conversation". None is both.
            thread: Of this thread of their conversation.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.

        Returns:
            Mappings as of `get_messages_by_metadata`. Empty if there are none.

        Raises:
            InvalidArgumentError: The two are the same, or an argument is out of range; a `ValueError`.
            AgentNotFoundError: One of the two is not registered; names the closest.
            NotInitializedError: The SDK is not started; a `RuntimeError`.
            DatabaseError: The store failed.

        Example:
            for message in await sdk.get_messages_between_agents("alice", "bob", kinds=["conversation"]):
                print(message.timestamp, message.sender, message.content)
        """
        from .searching import EVERYTHING, Searching, make_filter

        engine = self._started()
        pair = (agent_a_external_id, agent_b_external_id)
        check_pair(*pair, fields=("agent_a_external_id", "agent_b_external_id"))
        check_page(limit, offset, max_limit=500)
        filter = make_filter(metadata_filter)
        scope = _make_scope(kinds, None, None, thread, date_from, date_to)
        scope = replace(scope, needles=filter.needles if filter is not None else ())
        return await Searching(engine, EVERYTHING, filter).run_between(scope, pair, limit, offset)


def _uuid_or_none(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


async def _search(
    engine: Engine,
    query: Query,
    metadata_filter: Mapping[str, Any] | None,
    scope: Scope,
    sender_id: str | None,
    recipient_id: str | None,
    limit: int,
    offset: int,
) -> list[Record]:
    from .searching import Searching, make_filter

    filter = make_filter(metadata_filter)
    for field, external_id in (("sender_id", sender_id), ("recipient_id", recipient_id)):
        if external_id is not None:
            check_external_id(external_id, field=field)
    scope = replace(scope, needles=filter.needles if filter is not None else ())
    return await Searching(engine, query, filter).run(scope, sender_id, recipient_id, limit, offset)


def _make_scope(
    kinds: Iterable[Kind | str] | None,
    session_id: UUID | str | None,
    meeting_id: UUID | str | None,
    thread: str | None,
    date_from: datetime | None,
    date_to: datetime | None,
) -> Scope:
    return Scope(
        kinds=_check_kinds(kinds),
        session_id=None if session_id is None else parse_id(session_id, "session_id"),
        meeting_id=None if meeting_id is None else parse_id(meeting_id, "meeting_id"),
        thread=check_thread(thread),
        date_from=check_instant(date_from, "date_from"),
        date_to=check_instant(date_to, "date_to"),
    )


def _check_kinds(kinds: Iterable[Kind | str] | None) -> Sequence[Kind]:
    found = parse_choices(Kind, kinds, "kinds")
    for kind in found or ():
        if kind not in SEARCHED:
            raise refuse("kinds", str(kind), f"is not searched. Pass some of {', '.join(SEARCHED)}.")
    return SEARCHED if found is None else found
