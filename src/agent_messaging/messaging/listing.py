"""How stored messages look in the lists that users read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..delivery.names import Names
from ..exceptions import StorageCorruptError
from ..models import Record
from ..payloads import decode_metadata, verify
from ..storage.ports import DeadRow, MessageRow

DAMAGED = "PayloadError: The stored payload is damaged. Run `agent-messaging doctor --deep`."
"""The reason of a dead letter."""


def read_content(row: MessageRow | DeadRow) -> Any:
    """The payload as plain JSON values.

    Raises:
        StorageCorruptError: It is not what was stored.
    """
    if not verify(row.content, row.metadata, row.checksum):
        problem = "its checksum does not match"
    else:
        try:
            return json.loads(row.content)
        except ValueError:
            problem = "it is not JSON"
    raise StorageCorruptError(
        f"The stored payload of message {row.message_id} is damaged: {problem}. "
        "Run `agent-messaging doctor --deep`, and restore the store from a backup."
    )


async def to_records(names: Names, rows: Sequence[MessageRow]) -> list[Record]:
    """Turn rows into the mappings that users get, with external ids."""
    agents = await names.find_by_id(
        {row.sender_id for row in rows} | {row.recipient_id for row in rows if row.recipient_id is not None}
    )

    def external(id: str | None) -> str | None:
        return agents[id].external_id if id in agents else None

    return [
        Record(
            message_id=row.message_id,
            sender_id=external(row.sender_id),
            recipient_id=external(row.recipient_id),
            content=read_content(row),
            read_at=row.read_at,
            created_at=row.created_at,
            metadata=decode_metadata(row.metadata),
        )
        for row in rows
    ]
