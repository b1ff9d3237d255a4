"""Parts, on every backend; and the model of them finds what it is there to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent_messaging.storage.ports import NewParts, PartCursor, PartPage, Store, Stream
from tests.conformance import PartConformance

from .base import StoreFactory
from .parts import run_programs


class TestParts(PartConformance):
    """Every verb of `PartStore`."""


class _Faulty:
    """A `PartStore` that is passed on to; a fault replaces one verb."""

    def __init__(self, store: Store) -> None:
        self.inner = store.parts

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _Unfenced(_Faulty):
    """A run that has lost the message writes on under the claim of the run that has it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.newest: dict[str, Any] = {}

    async def write(self, batches: Sequence[NewParts]) -> list[Stream]:
        for batch in batches:
            known = self.newest.setdefault(batch.ask_id, batch.claim)
            self.newest[batch.ask_id] = max(known, batch.claim, key=lambda claim: claim.token)
        return await self.inner.write([replace(batch, claim=self.newest[batch.ask_id]) for batch in batches])


class _Silent(_Faulty):
    """Nobody tells the reader that another run has the message: its parts go on as if they were the same."""

    async def read(self, cursors: Sequence[PartCursor], limit: int) -> list[PartPage]:
        pages = await self.inner.read(cursors, limit)
        before = {cursor.ask_id: cursor for cursor in cursors}
        return [
            replace(p, cursor=replace(p.cursor, token=before[p.cursor.ask_id].token or p.cursor.token)) for p in pages
        ]


class _Forgetful(_Faulty):
    """Parts that nobody has acknowledged are lost."""

    async def read(self, cursors: Sequence[PartCursor], limit: int) -> list[PartPage]:
        pages = await self.inner.read(cursors, limit)
        return [replace(page, parts=page.parts[:1]) for page in pages]


@pytest.mark.parametrize("fault", [_Unfenced, _Silent, _Forgetful])
def test_the_model_finds_a_planted_fault(make_store: StoreFactory, fault: type[_Faulty]) -> None:
    with pytest.raises(AssertionError):
        run_programs(make_store, fault, examples=2_000)
