"""Messages of agents as the store has them, and back."""

from __future__ import annotations

from datetime import datetime

from ..bodies import open_body
from ..clock import utc_now
from ..exceptions import StorageCorruptError
from ..payloads import checksum, encode, encode_metadata
from ..storage.ports import ClaimedQueueMessage, NewQueueMessage
from .message_protocol import MAX_MESSAGE_BYTES, AgentMessage, MessagePriority, MessageStatus, MessageType


def to_stored(message: AgentMessage, recipient: str) -> NewQueueMessage:
    """The message for the queue of a recipient.

    Raises:
        PayloadError: Its content is not JSON.
    """
    content = encode(dict(message.content), field="message.content", limit_bytes=MAX_MESSAGE_BYTES)
    said = {"timestamp": message.timestamp.isoformat(), "parent_message_id": message.parent_message_id}
    metadata = encode_metadata({name: value for name, value in said.items() if value is not None})
    expires_at = message.expires_at
    return NewQueueMessage(
        message_id=message.message_id,
        agent_id=recipient,
        sender_id=message.from_agent,
        type=message.message_type.value,
        priority=message.priority.rank,
        content=content,
        metadata=metadata,
        checksum=checksum(content, metadata),
        max_attempts=message.max_retries + 1,
        expires_in=None if expires_at is None else (expires_at - utc_now()).total_seconds(),
    )


def from_stored(claimed: ClaimedQueueMessage) -> AgentMessage:
    """The message that an agent has taken.

    Raises:
        StorageCorruptError: It is not what was stored, or not a message of this protocol.
    """
    name = f"message {claimed.claim.message_id!r} of the queue {claimed.claim.agent_id!r}"
    body = open_body(claimed, name)
    said = body.metadata
    try:
        if not isinstance(body.content, dict):
            raise TypeError("its content is no JSON object")
        return AgentMessage(
            message_id=claimed.claim.message_id,
            from_agent=claimed.sender_id,
            to_agent=claimed.claim.agent_id,
            message_type=MessageType(claimed.type),
            content=body.content,
            priority=list(MessagePriority)[claimed.priority],
            timestamp=datetime.fromisoformat(said["timestamp"]) if "timestamp" in said else claimed.created_at,
            parent_message_id=said.get("parent_message_id"),
            status=MessageStatus.PROCESSING,
            retry_count=claimed.attempt - 1,
            max_retries=claimed.max_attempts - 1,
            expires_at=claimed.expires_at,
        )
    except (ValueError, TypeError, IndexError) as error:
        raise StorageCorruptError(
            f"The {name} cannot be read ({error}). Run `agent-messaging doctor --deep`."
        ) from error
