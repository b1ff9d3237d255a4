"""The messages of every kind that an agent receives, as the commands show them, and the commands that answer them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from ..exceptions import StorageCorruptError
from ..kinds import FACTS, KIND_OF_WORD, Kind
from .commands import command
from .external import read_names
from .output import clean, content, note, say
from .spoken import clock, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .. import AgentMessaging
    from ..messaging.listing import Wanted
    from ..storage.ports import MessageRow

PAGE = 200


def kinds_of(words: Collection[str]) -> list[Kind]:
    """The kinds that these words name; without any, all."""
    return [kind for word, kind in KIND_OF_WORD.items() if not words or word in words]


async def read_mailbox(
    sdk: AgentMessaging,
    agent_id: str,
    kinds: Sequence[Kind],
    *,
    unread: bool,
    limit: int,
    offset: int,
    thread: str | None = None,
    wanted: Wanted | None = None,
    before: str | None = None,
    sender_id: str | None = None,
) -> list[dict[str, Any]]:
    """A page of what an agent received of these kinds, newest first; in this thread alone. It changes nothing.

    Args:
        wanted: What it is narrowed to; None is nothing.
        before: The id of a message; only older ones.
        sender_id: Only what this agent sent; None is any.
    """
    from ..messaging.listing import make_wanted

    wanted = make_wanted() if wanted is None else wanted
    streams = [_Stream(sdk, agent_id, kind, unread, thread, wanted, before, sender_id) for kind in kinds]
    found: list[MessageRow] = []
    while len(found) < offset + limit:
        for stream in streams:
            await stream.fill()
        filled = [stream.rows for stream in streams if stream.rows]
        if not filled:
            break
        found.append(max(filled, key=lambda rows: rows[-1].seq).pop())
    return await describe(sdk, found[offset:])


class _Stream:
    """The messages of one kind, read in pages by position."""

    def __init__(
        self,
        sdk: AgentMessaging,
        agent_id: str,
        kind: Kind,
        unread: bool,
        thread: str | None,
        wanted: Wanted,
        before: str | None,
        sender_id: str | None,
    ) -> None:
        self._sdk, self._agent_id, self._kind, self._unread, self._thread = sdk, agent_id, kind, unread, thread
        self._wanted, self._before, self._sender_id, self._is_read = wanted, before, sender_id, False
        self.rows: list[MessageRow] = []
        """The newest is the last."""

    async def fill(self) -> None:
        from ..storage.ports import Role

        while not self.rows and not self._is_read:
            page = await self._sdk.store.messages.list_messages(
                self._agent_id,
                Role.RECIPIENT,
                self._kind,
                limit=PAGE,
                unread_only=self._unread,
                before_id=self._before,
                other_id=self._sender_id,
                narrowing=self._wanted.narrowing,
            )
            self._is_read = len(page) < PAGE
            self._before = page[-1].message_id if page else None
            self.rows = [row for row in reversed(page) if is_in(row, self._thread) and self._wanted.fits(row)]


def is_in(row: MessageRow, thread: str | None) -> bool:
    """Whether it was said in this thread; None is any."""
    return thread is None or row.thread == thread


async def describe(sdk: AgentMessaging, rows: Sequence[MessageRow]) -> list[dict[str, Any]]:
    """Describe messages as the commands show them.

    `kind` is the SDK's; `ask` the state of the ask that a message is, else None; `reply` the command that answers it
    where somebody waits for that. A message that cannot be read has no content, and `damage` says why.
    """
    from ..models import AskState

    names = await read_names(sdk.store, {id for row in rows for id in (row.sender_id, row.recipient_id) if id})
    spoken = [row.message_id for row in rows if row.kind is Kind.CONVERSATION]
    asks = {ask.ask_id: ask.state for ask in await sdk.store.sessions.find_asks(spoken)} if spoken else {}
    documents = []
    for row in rows:
        sender, recipient = names.get(row.sender_id, row.sender_id), names.get(row.recipient_id or "", row.recipient_id)
        ask = asks.get(row.message_id)
        content, metadata, damage = _open(row)
        documents.append(
            {
                "message_id": row.message_id,
                "kind": row.kind,
                "message_type": row.message_type,
                "sender_id": sender,
                "recipient_id": recipient,
                "content": content,
                "metadata": metadata,
                "topic": row.topic,
                "thread": row.thread or None,
                "created_at": row.created_at,
                "read_at": row.read_at,
                "ask": ask,
                "reply": reply_command(recipient or "", sender, row.thread) if ask is AskState.OPEN else None,
                "damage": damage,
            }
        )
    return documents


def _open(row: MessageRow) -> tuple[Any, Any, str | None]:
    from ..bodies import open_body

    try:
        body = open_body(row, f"message {row.message_id}")
        return body.content, body.metadata, None
    except StorageCorruptError as error:
        return None, None, str(error)


def reply_command(recipient: str, sender: str, thread: str | None = None) -> str:
    """The command by which `recipient` answers the ask of `sender` in this thread; without one, in the main one."""
    where = {"thread": thread} if thread else {}
    return command("reply", recipient, sender, text="…", **where)


def word_for(message: Mapping[str, Any]) -> str:
    """The word that people use for it."""
    if message["ask"] is not None:
        return "question"
    if message["kind"] in (Kind.CONVERSATION, Kind.MEETING):
        type_, word = message["message_type"].value, "message" if message["kind"] is Kind.CONVERSATION else "speech"
        return word if type_ == "user_defined" else str(type_)
    return str(FACTS[message["kind"]].word)


def line_of(message: Mapping[str, Any]) -> str:
    """Its content on one line, behind the topic on which it was published, or the thread in which it was said."""
    where = message["topic"] or message["thread"]
    return _text_of(message) if where is None else f"{clean(where)}: {_text_of(message)}"


def _text_of(message: Mapping[str, Any]) -> str:
    if message["damage"] is not None:
        return clean(f"[{message['damage']}]")
    said = message["content"]
    match message["kind"], said:
        case Kind.INVITATION, {"meeting_id": id, "participants": list(participants)}:
            return clean(f"meeting {id} with {', '.join(map(str, participants[1:])) or 'nobody else'}")
        case Kind.TURN, {"meeting_id": id, "turn": number}:
            return clean(f"turn {number} of meeting {id}")
    if message["message_type"].value in ("user_defined", "forwarded"):
        return content(said)
    return sentence(said, message["sender_id"] or "?")


def print_message(message: Mapping[str, Any]) -> None:
    """Print a message on one line, with the time of day; under a question that waits, on stderr, how to answer it."""
    to = "" if message["recipient_id"] is None else f" → {clean(message['recipient_id'])}"
    who = f"{clean(message['sender_id'])}{to}"
    say(f"{clock(message['created_at'])}  {word_for(message):<10}  {who}  {line_of(message)}")
    if message["reply"] is not None:
        note(clean(f"{'':14}{message['sender_id']} waits for the answer:"))
        note(clean(f"{'':14}{message['reply']}"))
