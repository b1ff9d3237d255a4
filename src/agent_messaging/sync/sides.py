"""The sides of conversations, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.messaging.sides`: change that, and run it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from typing_extensions import TypeForm

from ..arguments import MISSING_MESSAGE
from ..messaging.sides import AsyncConversation as AsyncAsyncConversation
from ..messaging.sides import SyncConversation as AsyncSyncConversation
from ..models import T
from .running import Blocking

R = TypeVar("R")


class SyncConversation(Blocking[AsyncSyncConversation[T]], Generic[T]):
    """Ask, answer, end. Each call is the one of `sdk.conversation`, which has more options."""

    @overload
    def send_and_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        *,
        response_type: TypeForm[R],
        metadata: Mapping[str, Any] | None = None,
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> R: ...
    @overload
    def send_and_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = ...,
        timeout: float | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        thread: str | None = None,
        wait_for_session: bool = False,
        idempotency_key: str | None = None,
        require_handler: bool | None = None,
    ) -> Any: ...

    def send_and_wait(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        """Ask and wait for the answer; see `Conversation.send_and_wait`.

        Example:
            answer = sdk.sync_conversation.send_and_wait("alice", "bob", "Ready?", timeout=30)
        """
        return self._run(
            lambda: self._any.send_and_wait(sender_external_id, recipient_external_id, message, timeout, **options)
        )

    def reply(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        *,
        thread: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Answer an agent that waits; see `Conversation.reply`.

        Example:
            sdk.sync_conversation.reply("bob", "alice", "Yes.")
        """
        self._run(
            lambda: self._async.reply(
                sender_external_id, recipient_external_id, message, thread=thread, idempotency_key=idempotency_key
            )
        )

    def end_conversation(
        self, requester_external_id: str, other_external_id: str, *, thread: str | None = None
    ) -> None:
        """End the open session of the two; see `Conversation.end_conversation`.

        Example:
            sdk.sync_conversation.end_conversation("alice", "bob")
        """
        self._run(lambda: self._async.end_conversation(requester_external_id, other_external_id, thread=thread))


class AsyncConversation(Blocking[AsyncAsyncConversation[T]], Generic[T]):
    """Send without waiting, read when ready. Each call is the one of `sdk.conversation`."""

    def send(
        self,
        sender_external_id: str,
        recipient_external_id: str,
        message: T = MISSING_MESSAGE,
        metadata: Mapping[str, Any] | None = None,
        *,
        thread: str | None = None,
        idempotency_key: str | None = None,
        expires_in: float | None = None,
        deliver_at: datetime | None = None,
    ) -> None:
        """Send and go on; see `Conversation.send_no_wait`.

        Example:
            sdk.async_conversation.send("alice", "bob", "Draft 1")
        """
        self._run(
            lambda: self._async.send(
                sender_external_id,
                recipient_external_id,
                message,
                metadata,
                thread=thread,
                idempotency_key=idempotency_key,
                expires_in=expires_in,
                deliver_at=deliver_at,
            )
        )

    send_message = send

    def get_unread_messages(self, agent_external_id: str, *, thread: str | None = None) -> list[T]:
        """Take an agent's unread messages; see `Conversation.get_unread_messages`.

        Example:
            for message in sdk.async_conversation.get_unread_messages("bob"):
                print(message)
        """
        return self._run(lambda: self._async.get_unread_messages(agent_external_id, thread=thread))

    def get_messages_from_agent(
        self, recipient_external_id: str, sender_external_id: str, mark_read: bool = True, *, thread: str | None = None
    ) -> list[T]:
        """Take the unread messages of one sender; see `Conversation.get_messages_from_agent`.

        Example:
            drafts = sdk.async_conversation.get_messages_from_agent("bob", "alice")
        """
        return self._run(
            lambda: self._async.get_messages_from_agent(
                recipient_external_id, sender_external_id, mark_read, thread=thread
            )
        )

    def wait_for_message(
        self,
        recipient_external_id: str,
        sender_external_id: str,
        timeout: float | None = None,
        *,
        thread: str | None = None,
    ) -> T | None:
        """Take the next message of one sender; see `Conversation.wait_for_message`.

        Example:
            message = sdk.async_conversation.wait_for_message("bob", "alice", timeout=10)
        """
        return self._run(
            lambda: self._async.wait_for_message(recipient_external_id, sender_external_id, timeout, thread=thread)
        )

    def resume_agent_handler(self, agent_external_id: str) -> None:
        """Have an agent's handler take up what waits; see `Conversation.resume_agent_handler`.

        Example:
            sdk.async_conversation.resume_agent_handler("bob")
        """
        self._run(lambda: self._async.resume_agent_handler(agent_external_id))
