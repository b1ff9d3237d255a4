"""The fixtures every conformance class needs, made from the ones that the author of a backend gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from agent_messaging.storage.ports import Store

from .world import World

StoreFactory = Callable[[], Store]


def need_processes(store: Store) -> None:
    """Skip where the store cannot be shared."""
    if not store.capabilities.processes:
        pytest.skip("missing capability: processes")


class StoreFixtures:
    """An open store, another one on the same data, and a world in it. Each can be overridden."""

    def __init_subclass__(cls) -> None:
        """Refuse two bases with a test of the same name: one of them would never run."""
        tests: dict[str, type] = {}
        for base in cls.__mro__[1:]:
            for name in vars(base):
                if name.startswith("test_") and name not in vars(cls):
                    first = tests.setdefault(name, base)
                    assert issubclass(first, base), f"{name} of {base.__name__} is hidden by that of {first.__name__}"

    @pytest.fixture
    async def stores(self, make_store: StoreFactory) -> AsyncIterator[Callable[[], Awaitable[Store]]]:
        """Opens stores on this test's data and closes them when it ends."""
        async with AsyncExitStack() as stack:

            async def open_store() -> Store:
                store = make_store()
                stack.push_async_callback(store.aclose)
                await store.open()
                return store

            yield open_store

    @pytest.fixture
    async def store(self, stores: Callable[[], Awaitable[Store]]) -> Store:
        """An open store."""
        return await stores()

    @pytest.fixture
    async def second_store(self, store: Store, stores: Callable[[], Awaitable[Store]]) -> Store:
        """Another open store on the same data."""
        need_processes(store)
        return await stores()

    @pytest.fixture
    async def world(self, store: Store) -> World:
        """Agents in the store."""
        return await World.create(store)

    @pytest.fixture
    async def processes(self, stores: Callable[[], Awaitable[Store]], store: Store) -> Processes:
        """Makes live processes."""
        return Processes(store, stores)


class Processes:
    """Live processes to kill: each is an open store whose presence was started."""

    def __init__(self, store: Store, stores: Callable[[], Awaitable[Store]]) -> None:
        self.store = store
        self.stores = stores
        self.started = 0

    async def start(self) -> str:
        """Make one more process live and return its id. The first is the test's own store, others share its data."""
        if self.started == 0:
            store = self.store
        else:
            need_processes(self.store)
            store = await self.stores()
        self.started += 1
        await store.presence.start(lambda: None, lambda: None)
        return store.presence.process_id
