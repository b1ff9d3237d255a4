"""`sdk.sync_conversation`: the asking side of `Conversation` under names of its own; the same sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, overload

from typing_extensions import TypeForm

from ..arguments import MISSING_MESSAGE
from ..completion import Calls
from ..models import T
from .conversation import Conversation

R = TypeVar("R")


class SyncConversation(Calls, Generic[T]):
    """Ask, answer, end. Each call is the one of `sdk.conversation`, which has more options."""

    def __init__(self, conversation: Conversation[T]) -> None:
        self.conversation = conversation

    @overload
    async def send_and_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        *,
        response_type: TypeForm[R],
        metadata: Mapping[str, Any] | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> R: ...
    @overload
    async def send_and_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> Any: ...
    async def send_and_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        """Ask and wait for the answer; see `Conversation.send_and_wait`."""
        return await self.conversation.send_and_wait(
            sender_external_id, recipient_external_id, message, timeout, **options
        )

    async def reply(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        *,
        idempotency_key: str | None = None,
    ) -> None:
        """Answer an agent that waits; see `Conversation.reply`."""
        await self.conversation.reply(
            sender_external_id, recipient_external_id, message, idempotency_key=idempotency_key
        )

    async def end_conversation(self, requester_external_id: str, other_external_id: str) -> None:
        """End the open session of the two; see `Conversation.end_conversation`."""
        await self.conversation.end_conversation(requester_external_id, other_external_id)
