"""Organizations and agents. Agents leave the meetings of others before they are removed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ...models import Agent, Organization
from ..sql import Queries
from . import acts
from .engine import Connection, Engine

_SQL = Queries(__package__, "directory")

_LONG = 600.0
"""Seconds for a removal, which takes all messages with it."""


class PostgresDirectory:
    """See `ports.DirectoryStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add_organization(self, id: str, external_id: str, name: str, *, update_name: bool) -> Organization:
        (row,) = await self._engine.change(
            _SQL["add_organization"], id, external_id, name, update_name, repeatable=True
        )
        return _organization(row)

    async def find_organization(self, external_id: str) -> Organization | None:
        rows = await self._engine.fetch(_SQL["find_organization"], external_id)
        return _organization(rows[0]) if rows else None

    async def find_organizations_by_id(self, ids: Collection[str]) -> list[Organization]:
        return [_organization(row) for row in await self._engine.fetch(_SQL["find_organizations_by_id"], list(ids))]

    async def list_organizations(self, limit: int, offset: int) -> list[Organization]:
        return [_organization(row) for row in await self._engine.fetch(_SQL["list_organizations"], limit, offset)]

    async def remove_organization(self, external_id: str) -> bool:
        async def work(connection: Connection) -> bool:
            await _take_turn(connection)
            found = await connection.fetch(_SQL["remove_organization_lock"], external_id)
            if not found:
                return False
            rows = await connection.fetch(_SQL["remove_organization_lock_agents"], found[0]["id"])
            await acts.vanish(connection, {row["id"] for row in rows})
            await connection.execute(_SQL["remove_organization"], found[0]["id"])
            return True

        return await self._engine.run(work, write=True, budget=_LONG)

    async def add_agent(
        self, id: str, external_id: str, organization_id: str, name: str, *, update_name: bool
    ) -> Agent | None:
        rows = await self._engine.change(
            _SQL["add_agent"], id, external_id, organization_id, name, update_name, repeatable=True
        )
        return _agent(rows[0]) if rows else None

    async def find_agents(self, external_ids: Collection[str]) -> list[Agent]:
        return [_agent(row) for row in await self._engine.fetch(_SQL["find_agents"], list(external_ids))]

    async def find_agents_by_id(self, ids: Collection[str]) -> list[Agent]:
        return [_agent(row) for row in await self._engine.fetch(_SQL["find_agents_by_id"], list(ids))]

    async def list_agents(
        self, organization_id: str | None, limit: int, offset: int, *, starting_with: str = ""
    ) -> list[Agent]:
        if organization_id is None:
            rows = await self._engine.fetch(_SQL["list_agents"], limit, offset, starting_with)
        else:
            rows = await self._engine.fetch(_SQL["list_agents_of"], organization_id, limit, offset, starting_with)
        return [_agent(row) for row in rows]

    async def remove_agent(self, external_id: str) -> bool:
        async def work(connection: Connection) -> bool:
            await _take_turn(connection)
            found = await connection.fetch(_SQL["remove_agent_lock"], external_id)
            if not found:
                return False
            await acts.vanish(connection, {found[0]["id"]})
            await connection.execute(_SQL["remove_agent"], found[0]["id"])
            return True

        return await self._engine.run(work, write=True, budget=_LONG)


async def _take_turn(connection: Connection) -> None:
    """Wait until no other removal is under way: as long as a removal may take, and not as long as a lock of a row."""
    usual = await connection.fetchval(_SQL["remove_patience"])
    await connection.execute(_SQL["remove_be_patient"], str(int(_LONG * 1000)))
    await connection.execute(_SQL["remove_take_turn"])
    await connection.execute(_SQL["remove_be_patient"], usual)


def _organization(row: Any) -> Organization:
    return Organization(**{**row, "name": row["name"] or row["external_id"]})


def _agent(row: Any) -> Agent:
    return Agent(**{**row, "name": row["name"] or row["external_id"]})
