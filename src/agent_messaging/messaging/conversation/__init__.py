"""Conversations of two agents: asking and answering, correspondence, and what was said."""

from __future__ import annotations

from ...models import T
from .correspondence import ConversationCorrespondence
from .mailbox import ConversationMailbox
from .polls import ConversationPolls, Outcome
from .questions import ConversationQuestions
from .sessions import ConversationSessions
from .streams import AskStream

__all__ = ["AskStream", "Conversation", "Outcome"]


class Conversation(
    ConversationQuestions[T],
    ConversationPolls[T],
    ConversationCorrespondence[T],
    ConversationMailbox[T],
    ConversationSessions[T],
):
    """`sdk.conversation`: questions with answers, and correspondence. Every message is durable.

    Two agents have one open session at a time: their first message opens it, `end_conversation` ends it, and the next
    message opens another one. Calls that name a `thread` have sessions of their own, one in each, side by side with
    that one. Calls that read are about all threads, unless one is named.
    """
