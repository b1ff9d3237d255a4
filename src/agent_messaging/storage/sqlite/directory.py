"""Organizations and agents in SQLite."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from uuid import UUID

import apsw

from ...models import Agent, Organization
from ..aside import read
from ..sql import Queries
from . import acts
from .clock import StoreClock, to_datetime, wall_clock
from .engine import Engine, fetch

_SQL = Queries(__package__, "directory")


class SQLiteDirectory:
    """See ports.DirectoryStore."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def add_organization(self, id: str, external_id: str, name: str, *, update_name: bool) -> Organization:
        """See the port."""
        parameters = {
            "id": id,
            "external_id": external_id,
            "name": name,
            "update_name": update_name,
            "at": wall_clock(),
        }
        row = await self._engine.write(lambda con: fetch(con, _SQL["add_organization"], parameters))
        return read(_organization, row, "the organization")

    async def find_organization(self, external_id: str) -> Organization | None:
        """See the port."""
        row = await self._read("find_organization", external_id=external_id)
        return None if row is None else read(_organization, row, "the organization")

    async def find_organizations_by_id(self, ids: Collection[str]) -> list[Organization]:
        """See the port."""
        return self._engine.aside.all(
            _organization, await self._read("find_organizations_by_id", ids=_array(ids)), "an organization"
        )

    async def list_organizations(self, limit: int, offset: int) -> list[Organization]:
        """See the port."""
        return self._engine.aside.all(
            _organization, await self._read("list_organizations", limit=limit, offset=offset), "an organization"
        )

    async def remove_organization(self, external_id: str) -> bool:
        """See the port."""
        return await self._remove("remove_organization", external_id, organization=external_id)

    async def add_agent(
        self, id: str, external_id: str, organization_id: str, name: str, *, update_name: bool
    ) -> Agent | None:
        """See the port."""
        parameters = {
            "id": id,
            "external_id": external_id,
            "organization_id": organization_id,
            "name": name,
            "update_name": update_name,
            "at": wall_clock(),
        }
        row = await self._engine.write(lambda con: fetch(con, _SQL["add_agent"], parameters))
        return None if row is None else read(_agent, row, "the agent")

    async def find_agents(self, external_ids: Collection[str]) -> list[Agent]:
        """See the port."""
        return self._engine.aside.all(
            _agent, await self._read("find_agents", external_ids=_array(external_ids)), "an agent"
        )

    async def find_agents_by_id(self, ids: Collection[str]) -> list[Agent]:
        """See the port."""
        rows = await self._read("find_agents_by_id", ids=_array(ids))
        return self._engine.aside.all(_agent, rows, "an agent")

    async def list_agents(self, organization_id: str | None, limit: int, offset: int) -> list[Agent]:
        """See the port."""
        if organization_id is None:
            rows = await self._read("list_agents", limit=limit, offset=offset)
        else:
            rows = await self._read("list_agents_of", organization_id=organization_id, limit=limit, offset=offset)
        return self._engine.aside.all(_agent, rows, "an agent")

    async def remove_agent(self, external_id: str) -> bool:
        """See the port."""
        return await self._remove("remove_agent", external_id, agent=external_id)

    async def _read(self, name: str, **parameters: object) -> Any:
        return await self._engine.read(lambda con: fetch(con, _SQL[name], parameters))

    async def _remove(
        self, name: str, external_id: str, *, agent: str | None = None, organization: str | None = None
    ) -> bool:
        def remove(connection: apsw.Connection) -> bool:
            acts.vanish(connection, self._clock.now(), agent=agent, organization=organization)
            connection.execute(_SQL[name], {"external_id": external_id})
            return connection.changes() > 0

        return await self._engine.write(remove)


def _array(values: Collection[str]) -> str:
    return json.dumps(sorted(set(values)))


def _organization(row: list[Any]) -> Organization:
    id, external_id, name, created_at, updated_at = row
    return Organization(
        id=UUID(id),
        external_id=external_id,
        name=name or external_id,
        created_at=to_datetime(created_at),
        updated_at=to_datetime(updated_at),
    )


def _agent(row: list[Any]) -> Agent:
    id, external_id, organization_id, name, created_at, updated_at = row
    return Agent(
        id=UUID(id),
        external_id=external_id,
        organization_id=UUID(organization_id),
        name=name or external_id,
        created_at=to_datetime(created_at),
        updated_at=to_datetime(updated_at),
    )
