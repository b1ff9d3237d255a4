"""The kinds of messages and of handlers, and the one table that says what is true of each kind of message.

It imports nothing of the package, so the command line has the words at once.
"""

from __future__ import annotations

from enum import Enum, StrEnum

from .records import dataclass


class HandlerContext(Enum):
    """Which kind of handler is running."""

    ONE_WAY = "one_way"
    """It handles a note."""
    CONVERSATION = "conversation"
    """It handles a message of a conversation."""
    MESSAGE_NOTIFICATION = "message_notification"
    """It is told that a message came."""
    INVITATION = "invitation"
    """An agent's own handler is told of a meeting."""
    MEETING = "meeting"
    """A turn handler."""


class Kind(StrEnum):
    """What a delivery is of; ordering, handlers and slots are apart for each kind."""

    ONE_WAY = "one_way"
    """A note."""
    CONVERSATION = "conversation"
    """A message of a conversation."""
    MEETING = "meeting"
    """What is said in a meeting: a message without a delivery."""
    INVITATION = "invitation"
    """An invitation to a meeting."""
    TURN = "turn"
    """The duty of a turn handler to use its agent's turn."""
    NOTIFICATION = "notification"
    """Never of a delivery: what notification handlers serve."""
    EVENTS = "events"
    """Never of a delivery: what the handlers of meeting events serve."""


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What is true of a kind."""

    word: str | None = None
    """What the command line calls it in an agent's mailbox; None: it is never delivered."""
    context: HandlerContext | None = None
    """The handlers that serve it; None: none are registered for agents."""
    is_sent: bool = False
    """Agents send it to each other, and it is marked as read. The SDK itself makes every other kind."""
    is_of_meeting: bool = False
    """It is about a meeting."""


FACTS: dict[Kind, KindFacts] = {
    Kind.ONE_WAY: KindFacts("note", HandlerContext.ONE_WAY, is_sent=True),
    Kind.CONVERSATION: KindFacts("conversation", HandlerContext.CONVERSATION, is_sent=True),
    Kind.MEETING: KindFacts(is_of_meeting=True),
    Kind.INVITATION: KindFacts("invitation", HandlerContext.INVITATION, is_of_meeting=True),
    Kind.TURN: KindFacts("turn", HandlerContext.MEETING, is_of_meeting=True),
    Kind.NOTIFICATION: KindFacts(context=HandlerContext.MESSAGE_NOTIFICATION),
    Kind.EVENTS: KindFacts(is_of_meeting=True),
}
KIND_OF_WORD = {facts.word: kind for kind, facts in FACTS.items() if facts.word is not None}
"""The kinds that are delivered, by their words."""
SENT = [kind for kind, facts in FACTS.items() if facts.is_sent]
CONTEXT_OF_KIND = {kind: facts.context for kind, facts in FACTS.items() if facts.context is not None}
