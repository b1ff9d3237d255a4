"""Waiting for things to happen to rows: futures in a dict, one query for all of them, no connection held meanwhile.

Hints (a commit here, a ring or a poll from elsewhere) only say when to look; what a waiter is told is what the row
says. A commit made here says it too: then nobody has to look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from ..exceptions import NotInitializedError
from ..futures import fail
from ..single_flight import SingleFlight
from ..storage.batches import pages
from .services import Service

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

PAGE = 1_000
"""Ids asked for in one query."""
_CLOSED = "The SDK was closed while this waited. What it waited for goes on: open the SDK, and wait again."


class Waiters(Service, Generic[K, R]):
    """Callers that wait for rows, by their ids of type K; they are told an R.

    Args:
        find: Answers, of these ids, those that have what is waited for, and None for those that do not exist.
        gone: Makes the error for an id that does not exist.
    """

    def __init__(
        self, find: Callable[[list[K]], Awaitable[Mapping[K, R | None]]], gone: Callable[[K], Exception]
    ) -> None:
        self.find = find
        self.gone = gone
        self._futures: dict[K, list[asyncio.Future[R]]] = {}
        self._about: dict[Hashable, list[K]] = {}
        """The ids by the subject that hints may name instead."""
        self._early: dict[K, bool] = {}
        """Ids that are not stored yet, with whether somebody wanted to look at them meanwhile."""
        self._looking = SingleFlight(self._look_once, "looking at what is waited for")
        self._ids: set[K] = set()
        self._looks_at_all = False
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._futures)

    def has(self, id: K) -> bool:
        """Whether somebody waits for this."""
        return id in self._futures

    async def wait(self, ids: Collection[K]) -> dict[K, R]:
        """Return what is waited for, of all of these, which are stored.

        Registers before it looks, so that nothing happening in between is missed.

        Raises:
            AgentMessagingError: One does not exist (any more); at once, whatever the others do.
            NotInitializedError: The SDK was closed meanwhile.
        """
        with contextlib.ExitStack() as stack:
            mine = {id: stack.enter_context(self.expect(id)) for id in ids}
            await self._check(mine)  # raises here if the store cannot be reached now
            if mine:
                done, _ = await asyncio.wait(mine.values(), return_when=asyncio.FIRST_EXCEPTION)
                for future in done:
                    future.result()  # raises what the first that failed has raised
            return {id: future.result() for id, future in mine.items()}

    def expect(
        self, id: K, *, about: Hashable = None, is_stored: bool = True
    ) -> contextlib.AbstractContextManager[asyncio.Future[R], None]:
        """Register within. The caller looks first itself, or knows that nothing can have happened yet.

        Args:
            id: What is waited for.
            about: What else a hint may name it by.
            is_stored: False: the row does not exist yet, and nobody looks before `stored`.
        """
        return _Expectation(self, id, about, is_stored)

    def enter(self, id: K, about: Hashable, is_stored: bool) -> asyncio.Future[R]:
        """Register; see `expect`."""
        if self._is_closed:
            self.check_open()
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if (waiting := self._futures.get(id)) is None:
            self._futures[id] = [future]
        else:
            waiting.append(future)
        if about is not None:
            self._about.setdefault(about, []).append(id)
        if not is_stored:
            self._early[id] = False
        return future

    def leave(self, id: K, about: Hashable, future: asyncio.Future[R]) -> None:
        """Wait no more; see `expect`."""
        future.cancel()
        self._early.pop(id, None)
        waiting = self._futures[id]
        waiting.remove(future)
        if not waiting:
            del self._futures[id]
        if about is not None:
            ids = self._about[about]
            ids.remove(id)
            if not ids:
                del self._about[about]

    def check_open(self) -> None:
        """Refuse to wait after the end: nobody would look any more.

        Raises:
            NotInitializedError: It is closed.
        """
        if self._is_closed:
            raise NotInitializedError(_CLOSED)

    def stored(self, id: K) -> None:
        """The row is there now; what was hinted at meanwhile is looked at."""
        if self._early.pop(id, False):
            self.hint([id])

    def tell(self, id: K, result: R | None) -> None:
        """A commit made here said so; None: it does not exist."""
        if result is None:
            self.fail(id, self.gone(id))
            return
        for future in self._futures.get(id, ()):
            if not future.done():
                future.set_result(result)

    def fail(self, id: K, error: BaseException) -> None:
        """Raise this in the callers that wait for the id."""
        for future in self._futures.get(id, ()):
            fail(future, error)

    def fail_all(self, error: BaseException) -> bool:
        """Raise this in every caller that waits; returns whether there is one."""
        waiting = [future for futures in self._futures.values() for future in futures if not future.done()]
        for future in waiting:
            fail(future, error)
        return bool(waiting)

    def hint(self, ids: Iterable[K]) -> None:
        """Something may have happened to these: look."""
        if self._futures:
            wanted = {id for id in ids if id in self._futures}
            if wanted:
                self._ids |= wanted
                self._looking.request()

    def hint_about(self, subject: Hashable) -> None:
        """Something may have happened to what is waited for about this: look."""
        self.hint(self._about.get(subject, ()))

    def look(self) -> None:
        """Anything may have happened: look at all that is waited for.

        Called for each of a thousand messages of one commit, it costs nothing: one look comes after them all.
        """
        if self._futures:
            self._looks_at_all = True
            self._looking.request()

    async def aclose(self, timeout: float = 0.0) -> None:
        """Stop looking, and release the callers that still wait."""
        self._is_closed = True
        await self._looking.aclose()
        self.fail_all(NotInitializedError(_CLOSED))

    async def _look_once(self) -> None:
        ids = self._futures.keys() if self._looks_at_all else self._futures.keys() & self._ids
        ids = {id for id in ids if not all(future.done() for future in self._futures[id])}
        self._ids, self._looks_at_all = set(), False
        await self._check(ids)

    async def _check(self, ids: Collection[K]) -> None:
        if not ids:
            return
        for id in self._early.keys() & set(ids):
            self._early[id] = True
        wanted = [id for id in ids if id in self._futures and id not in self._early]  # others have left meanwhile
        for page in pages(wanted, PAGE):
            for id, result in (await self.find(page)).items():
                self.tell(id, result)


class _Expectation(Generic[K, R]):
    """The place of one waiting caller, as `Waiters.expect` returns it.

    It is a class, because a generator takes five times as much memory.
    """

    __slots__ = ("_about", "_future", "_id", "_is_stored", "_waiters")

    def __init__(self, waiters: Waiters[K, R], id: K, about: Hashable, is_stored: bool) -> None:
        self._waiters = waiters
        self._id = id
        self._about = about
        self._is_stored = is_stored
        self._future: asyncio.Future[R]

    def __enter__(self) -> asyncio.Future[R]:
        self._future = self._waiters.enter(self._id, self._about, self._is_stored)
        return self._future

    def __exit__(self, *_: object) -> None:
        self._waiters.leave(self._id, self._about, self._future)
