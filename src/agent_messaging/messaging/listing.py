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


def read_content(row: MessageRow | DeadRow) -> Any:
    """The payload as plain JSON values.

    Raises:
        StorageCorruptError: It is not what was stored.
    """
    if not verify(row.content, row.metadata, row.checksum):
        raise StorageCorruptError(
            f"The stored payload of message {row.message_id} is damaged: its checksum does not match. "
            "Run `agent-messaging doctor`, and restore the store from a backup."
        )
    return json.loads(row.content)


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
