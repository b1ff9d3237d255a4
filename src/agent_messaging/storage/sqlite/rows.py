"""The forms in which rows go into statements and come out of them."""

from __future__ import annotations

import json
from typing import Any

from ...models import Kind, MessageType
from ..ports import MessageRow
from .clock import to_datetime, to_datetime_or_none

encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
"""Rows as one parameter."""


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
