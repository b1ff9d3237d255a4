"""Transcripts of sessions and meetings, as pages for people. They are read page by page, and mark nothing as read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from ...arguments import refuse
from ...exceptions import InvalidArgumentError
from ...models import MessageType, Record
from .notes import ENDS, spell
from .pages import Entry, Head, Html, Markdown

_PAGE = 500
_FORMATS: dict[str, type[Markdown | Html]] = {"markdown": Markdown, "md": Markdown, "html": Html}


def check_format(format: object) -> type[Markdown | Html]:
    """The writer of pages in this form.

    Raises:
        InvalidArgumentError: There is none.
    """
    found = _FORMATS.get(format) if isinstance(format, str) else None
    if found is None:
        raise refuse("format", format, "must be 'markdown' (or 'md') or 'html'.")
    return found


async def session_pieces(conversation: Any, session_id: Any, format: str) -> AsyncIterator[str]:
    """The transcript of a session, in pieces; see `Conversation.get_transcript`."""
    page = check_format(format)()
    info = await conversation.get_session_info(session_id)
    names = [one.name or one.id or "?" for one in (info.agent_a, info.agent_b)]
    facts = [("Session", info.session_id), *([("Thread", info.thread)] if info.thread else [])]
    facts += [("Agents", ", ".join(sorted(one.id or "?" for one in (info.agent_a, info.agent_b))))]
    facts += _times(("Opened", info.created_at), ("Ended", info.ended_at))
    facts += [("Messages", f"{info.message_count:,}"), *([("Waiting", info.locked_by)] if info.locked_by else [])]
    yield page.begin(Head(f"{' and '.join(sorted(names))}", facts))
    async for message in _all(lambda after: conversation.get_messages_in_session(session_id, limit=_PAGE, after=after)):
        sender = message.sender_id or "?"
        way = " → ".join(message.way)
        yield page.write(_entry(message, sender, f"passed on: {way}" if way else ""))
    yield page.end()


async def meeting_pieces(meeting: Any, meeting_id: Any, format: str) -> AsyncIterator[str]:
    """The transcript of a meeting, in pieces; see `MeetingManager.get_transcript`."""
    page = check_format(format)()
    details = await meeting.get_meeting_details(meeting_id)
    seats = await meeting.get_participant_history(meeting_id)
    host = details.host.name if details.host is not None else "?"
    facts = [("Meeting", str(details.meeting_id)), ("Host", host)]
    facts += [("Participants", ", ".join(one.agent_name or one.agent_id or "?" for one in seats))]
    facts += _times(("Created", details.created_at), ("Started", details.started_at), ("Ended", details.ended_at))
    if details.end_reason is not None:
        facts.append(("Why it ended", ENDS.get(str(details.end_reason), str(details.end_reason))))
    yield page.begin(Head(f"Meeting of {host}", facts))
    async for message in _all(lambda after: meeting.get_meeting_history(meeting_id, limit=_PAGE, after=after)):
        yield page.write(_entry(message, message.sender_id or "?", ""))
    yield page.end()


async def join(pieces: AsyncIterator[str]) -> str:
    """The pieces as one text."""
    return "".join([piece async for piece in pieces])


async def _all(read: Callable[[Any], Awaitable[list[Record]]]) -> AsyncIterator[Record]:
    page = await read(None)
    while page:
        for message in page:
            yield message
        page = await _read_behind(read, page) if len(page) == _PAGE else []


async def _read_behind(read: Callable[[Any], Awaitable[list[Record]]], page: list[Record]) -> list[Record]:
    """The page behind this one: behind its last message that was not pruned meanwhile."""
    for last in reversed(page[1:]):
        with suppress(InvalidArgumentError):
            return await read(last.message_id)
    return await read(page[0].message_id)


def _entry(message: Record, sender: str, remark: str) -> Entry:
    said = message.message_type in (MessageType.USER_DEFINED, MessageType.FORWARDED)
    note = None if said or message.is_damaged else spell(message.content, sender)
    return Entry(
        at=message.created_at,
        speaker=sender,
        name=message.sender_name or sender,
        content=message.content if note is None else note,
        is_note=note is not None,
        is_damaged=message.is_damaged,
        remark=remark,
        metadata=message.metadata,
    )


def _times(*times: tuple[str, datetime | None]) -> list[tuple[str, str]]:
    return [(name, f"{at:%Y-%m-%d %H:%M:%S} UTC") for name, at in times if at is not None]
