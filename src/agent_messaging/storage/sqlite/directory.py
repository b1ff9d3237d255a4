"""Organizations and agents in SQLite."""

from __future__ import annotations

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
from .rows import encode

_SQL = Queries(__package__, "directory")


class SQLiteDirectory:
    """See `ports.DirectoryStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    async def add_organization(self, id: str, external_id: str, name: str, *, update_name: bool) -> Organization:
        row = await self._add("add_organization", id=id, external_id=external_id, name=name, update_name=update_name)
        return read(_organization, row, "the organization")

    async def find_organization(self, external_id: str) -> Organization | None:
        row = await self._read("find_organization", external_id=external_id)
        return None if row is None else read(_organization, row, "the organization")

    async def find_organizations_by_id(self, ids: Collection[str]) -> list[Organization]:
        return self._organizations(await self._read("find_organizations_by_id", ids=_array(ids)))

    async def list_organizations(self, limit: int, offset: int) -> list[Organization]:
        return self._organizations(await self._read("list_organizations", limit=limit, offset=offset))

    async def remove_organization(self, external_id: str) -> bool:
        return await self._remove("remove_organization", external_id, organization=external_id)

    async def add_agent(
        self, id: str, external_id: str, organization_id: str, name: str, *, update_name: bool
    ) -> Agent | None:
        values = {"id": id, "external_id": external_id, "name": name, "update_name": update_name}
        row = await self._add("add_agent", organization_id=organization_id, **values)
        return None if row is None else read(_agent, row, "the agent")

    async def find_agents(self, external_ids: Collection[str]) -> list[Agent]:
        return self._agents(await self._read("find_agents", external_ids=_array(external_ids)))

    async def find_agents_by_id(self, ids: Collection[str]) -> list[Agent]:
        return self._agents(await self._read("find_agents_by_id", ids=_array(ids)))

    async def list_agents(
        self, organization_id: str | None, limit: int, offset: int, *, starting_with: str = ""
    ) -> list[Agent]:
        name = "list_agents" if organization_id is None else "list_agents_of"
        page = {"limit": limit, "offset": offset, "starting_with": starting_with}
        return self._agents(await self._read(name, organization_id=organization_id, **page))

    async def remove_agent(self, external_id: str) -> bool:
        return await self._remove("remove_agent", external_id, agent=external_id)

    async def _read(self, name: str, **parameters: object) -> Any:
        return await self._engine.read(lambda con: fetch(con, _SQL[name], parameters))

    async def _add(self, block: str, /, **parameters: object) -> Any:
        return await self._engine.write(lambda con: fetch(con, _SQL[block], {**parameters, "at": wall_clock()}))

    def _organizations(self, rows: Any) -> list[Organization]:
        return self._engine.aside.all(_organization, rows, "an organization")

    def _agents(self, rows: Any) -> list[Agent]:
        return self._engine.aside.all(_agent, rows, "an agent")

    async def _remove(self, name: str, external_id: str, **what: str) -> bool:
        def remove(connection: apsw.Connection) -> bool:
            acts.vanish(connection, self._clock.now(), **what)
            connection.execute(_SQL["remove_messages"], {"agent": None, "organization": None, **what})
            connection.execute(_SQL[name], {"external_id": external_id})
            return connection.changes() > 0

        return await self._engine.write(remove)


def _array(values: Collection[str]) -> str:
    return encode(sorted(set(values)))


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
