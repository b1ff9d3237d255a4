"""The forms in which rows go into statements and come out of them, and what several statements write alike."""

from __future__ import annotations

import json
from typing import Any

from ...models import Kind, MessageType
from ..ports import CLAIM_MARGIN, MessageRow
from .clock import to_datetime, to_datetime_or_none

encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
"""Rows as one parameter."""


def claim_limit(run_limit: float, ask_timeout: float | None) -> float:
    """Seconds from a claim to its hard end. The run of an ask may take as long as its asker waits.

    A run limit may be negative: a lease shorter than the margin.
    """
    return (run_limit if ask_timeout is None else max(run_limit, ask_timeout)) + CLAIM_MARGIN


def message_row(row: list[Any]) -> MessageRow:
    """A message as all listings select it."""
    (seq, id, kind, sender_id, recipient_id, content, metadata, checksum, created_at, read_at, session_id, type_) = row
    return MessageRow(
        seq=seq,
        message_id=id,
        kind=Kind(kind),
        sender_id=sender_id,
        recipient_id=recipient_id,
        content=content,
        metadata=metadata,
        checksum=checksum,
        created_at=to_datetime(created_at),
        read_at=to_datetime_or_none(read_at),
        session_id=session_id,
        message_type=MessageType(type_),
    )
