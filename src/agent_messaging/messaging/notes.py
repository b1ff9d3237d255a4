"""What a note is made of, whether it is sent to agents or published on a topic: checked, encoded, and as a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..arguments import check_schedule
from ..config import MessagingConfig
from ..models import Kind
from ..payloads import fingerprint
from ..records import dataclass
from ..storage.ports import NewDelivery, NewGroup, Publication
from .posting import check_options, seal_body


@dataclass(frozen=True, slots=True)
class Note:
    """What a call is about to store, as often as it tries to."""

    settings: MessagingConfig
    call: str
    content: str
    metadata: str | None
    checksum: int
    expires_in: float | None
    deliver_at: datetime | None
    idempotency_key: str | None
    fingerprint: str

    def make_group(
        self, sender_id: str, deliveries: list[NewDelivery], publication: Publication | None = None
    ) -> NewGroup:
        """The group that stores it."""
        return NewGroup(
            kind=Kind.ONE_WAY,
            sender_id=sender_id,
            content=self.content,
            metadata=self.metadata,
            checksum=self.checksum,
            deliveries=deliveries,
            max_attempts=self.settings.max_attempts,
            run_limit=self.settings.handler_timeout,
            deliver_at=self.deliver_at,
            expires_in=self.expires_in,
            mailbox_limit=self.settings.mailbox_limit,
            call=self.call,
            idempotency_key=self.idempotency_key,
            fingerprint=self.fingerprint,
            publication=publication,
        )


def make_note(
    settings: MessagingConfig,
    call: str,
    goals: Sequence[str],
    message: Any,
    metadata: Mapping[str, Any] | None,
    *,
    idempotency_key: str | None,
    expires_in: float | None,
    deliver_at: datetime | None,
) -> Note:
    """Check and encode what a call was given.

    Args:
        goals: The external ids of its recipients, or its topic: a repeat under the key has the same.

    Raises:
        InvalidArgumentError, PayloadError: An argument was refused.
    """
    content, encoded, sum_ = seal_body(message, metadata, settings)
    if deliver_at is not None or expires_in is not None:
        deliver_at, expires_in = check_schedule(deliver_at, expires_in)
    mark = ""
    if idempotency_key is not None:
        check_options(None, idempotency_key)
        mark = fingerprint(goals, content, encoded, expires_in=expires_in, deliver_at=deliver_at)
    return Note(settings, call, content, encoded, sum_, expires_in, deliver_at, idempotency_key, mark)
