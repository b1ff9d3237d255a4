"""Changing what is stored behind the SDK's back, as a flipped bit, a careless script or another program would."""

from __future__ import annotations

from typing import Any

from agent_messaging.payloads import checksum
from tests.client.support import Sdk

DAMAGES = ["its checksum does not match", "it is not JSON"]
"""How a stored body can be damaged, in the words of the error."""


async def execute(sdk: Sdk, query: str) -> None:
    """Run one statement on the SDK's store."""
    engine: Any = sdk.store.engine  # type: ignore[attr-defined]
    if hasattr(engine, "read"):
        await engine.write(lambda connection: connection.execute(query).close())
    else:
        await engine.run(lambda connection: connection.execute(query), write=True)


async def fetch(sdk: Sdk, query: str) -> list[Any]:
    """The rows of a query on the SDK's store."""
    engine: Any = sdk.store.engine  # type: ignore[attr-defined]
    if hasattr(engine, "read"):
        return await engine.write(lambda connection: connection.execute(query).fetchall())  # type: ignore[no-any-return]
    return await engine.run(lambda connection: connection.fetch(query), write=False)  # type: ignore[no-any-return]


async def damage(sdk: Sdk, message_id: str, how: str) -> None:
    """Change the stored payload of a message."""
    await _damage(sdk, "messages", "content", how, f"id = '{message_id}'")


async def damage_events(sdk: Sdk, type: str, how: str) -> None:
    """Change the stored data of the meeting events of one type."""
    await _damage(sdk, "meeting_events", "data", how, f"type = '{type}'")


async def _damage(sdk: Sdk, table: str, column: str, how: str, where: str) -> None:
    change = f"{column} = '\"other\"'"
    if how == "it is not JSON":
        change = f"{column} = 'torn', checksum = {checksum('torn', None)}"
    await execute(sdk, f"update {table} set {change} where {where}")
