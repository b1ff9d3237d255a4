"""What a note is made of, whether it is sent to agents or published on a topic: checked, encoded, and as a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..arguments import check_given, check_timeout, refuse
from ..config import MessagingConfig
from ..exceptions import InvalidArgumentError
from ..models import Kind
from ..payloads import checksum, encode, encode_metadata, fingerprint
from ..storage.ports import NewDelivery, NewGroup, Publication
from .posting import check_options


@dataclass(frozen=True, slots=True)
class Note:
    """What a call is about to store, as often as it tries to."""

    settings: MessagingConfig
    call: str
    content: str
    metadata: str | None
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
            checksum=checksum(self.content, self.metadata),
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
    check_given(message)
    content = encode(message, field="message", limit_bytes=settings.max_payload_bytes)
    encoded = encode_metadata(metadata, field="metadata")
    expires_in = check_timeout(expires_in, field="expires_in", allow_none=True)
    deliver_at = check_instant(deliver_at, "deliver_at")
    _check_span(expires_in, deliver_at)
    check_options(None, idempotency_key)
    mark = ""
    if idempotency_key is not None:
        mark = fingerprint(goals, content, encoded, expires_in=expires_in, deliver_at=deliver_at)
    return Note(settings, call, content, encoded, expires_in, deliver_at, idempotency_key, mark)


def check_instant(value: datetime | None, field: str) -> datetime | None:
    """Return the instant in UTC: the same one in two zones is the same argument."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise refuse(field, value, "must be a datetime with a time zone.")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidArgumentError(
            field=field, value=value, reason="has no time zone. Use datetime.now(UTC), or add tzinfo=."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidArgumentError(
            field=field, value=value, reason="is, in UTC, outside the years 1 to 9999. Use None for no bound."
        ) from None


def _check_span(expires_in: float | None, deliver_at: datetime | None) -> None:
    if expires_in is None or deliver_at is None:
        return
    if (deliver_at - datetime.now(UTC)).total_seconds() >= expires_in:
        raise InvalidArgumentError(
            field="expires_in",
            value=expires_in,
            reason=f"seconds, counted from now, are over before deliver_at ({deliver_at.isoformat()}): nobody could "
            "ever handle the message. Give more of them, or leave one of the two out.",
        )
