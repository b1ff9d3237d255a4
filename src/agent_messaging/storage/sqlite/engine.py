"""The threads and connections under a SQLite store: one writer that groups waiting transactions, and two readers.

A job is a function of a connection. `write` runs it inside a transaction and answers when that is committed and synced;
jobs that wait together share one commit. So a write job must be repeatable: if one of a group fails, all are rolled
back and run again, each on its own. No transaction spans an await, and cancelling whoever waits does not stop a job.
What nobody waits for is done behind the answers, while the event loop works on them: what a job leaves there
(`Writing.behind`), and the checkpoints of the log.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import apsw

from ...exceptions import (
    ConfigurationError,
    NotInitializedError,
    StorageBusyError,
    StorageCorruptError,
    StorageReplacedError,
    copy_error,
)
from ...futures import fail
from ...loggers import get_logger
from ..aside import Aside
from ..batches import MAX_BYTES, take
from . import forks, statistics
from .errors import translate, translate_commit
from .files import ReplacedGuard
from .jobs import Answer, I, Job, JointJob, T, Waiting, deliver, joint, run_jobs
from .locks import WriteLock
from .names import NameLock

if TYPE_CHECKING:
    from ...observing.figures import PoolFigures

logger = get_logger("agent_messaging.storage")

Connect = Callable[[], apsw.Connection]

_READERS = 2
_GROUP = 256
"""The most jobs that share a commit."""
_LOG_PAGES = 4_000
"""Pages of 4 KiB in the log with which a checkpoint is made. Twice as many cost a third less, and are read back longer
after a crash; each checkpoint waits for the disk twice."""
_decode = json.JSONDecoder().raw_decode
"""Without a look for white space around the text, where SQLite writes none: half the time of `json.loads`."""


def fetch(connection: apsw.Connection, sql: str, parameters: Mapping[str, Any]) -> Any:
    """The value of a statement's one row, decoded from JSON; None if there is no row.

    Every step of a statement gives up Python's lock, and beside a busy thread it takes 5 ms to get it back (the switch
    interval). So SQLite gathers rows into one JSON text, and rows go in the same way; nobody steps through them.
    """
    cursor = connection.execute(sql, parameters)
    try:
        text = cursor.get
    except UnicodeDecodeError:
        cursor.close(True)
        return fetch_damaged(connection, sql, parameters)
    return None if text is None else _decode(text)[0]


def fetch_damaged(connection: apsw.Connection, sql: str, parameters: Mapping[str, Any], errors: str = "replace") -> Any:
    """The same where one row holds text that is not UTF-8, which must not hide all other rows.

    Args:
        connection: Where to read.
        sql: A SELECT.
        parameters: Its parameters.
        errors: The stand-in for bytes that are no text. With U+FFFD, the default, a body does not fit its checksum, and
            an id is nobody's.

    Raises:
        StorageCorruptError: The statement writes, so it is not run a second time.
    """
    if "returning" in sql:
        raise StorageCorruptError(
            "What is stored under this name holds text that is not UTF-8; nothing was stored. "
            "Run `agent-messaging doctor --deep`, and restore the store from a backup."
        )
    (raw,) = next(connection.execute(f"select cast(({sql}) as blob)", parameters))
    return None if raw is None else json.loads(raw.decode("utf-8", errors))


def fetch_with_damage(connection: apsw.Connection, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
    """The rows, in which bytes that are no text differ from every character."""
    cursor = connection.execute(sql, parameters)
    try:
        return json.loads(next(cursor)[0])  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        cursor.close(True)
        return list(fetch_damaged(connection, sql, parameters, "surrogateescape"))


def fetch_page(connection: apsw.Connection, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
    """The rows of a statement with :limit and :offset, in pieces where they are too big for one text (a gigabyte)."""
    try:
        return list(fetch(connection, sql, parameters))
    except apsw.TooBigError:
        limit, offset = parameters["limit"], parameters["offset"]
        if limit < 2:
            raise
        rows: list[Any] = []
        for begin, size in ((offset, limit // 2), (offset + limit // 2, limit - limit // 2)):
            rows += fetch_page(connection, sql, {**parameters, "limit": size, "offset": begin})
        return rows


def fetch_many(connection: apsw.Connection, sql: str, ids: Sequence[str]) -> list[Any]:
    """The rows of a statement with :ids, likewise."""
    try:
        return list(fetch(connection, sql, {"ids": json.dumps(ids)}))
    except apsw.TooBigError:
        if len(ids) < 2:
            raise
        middle = len(ids) // 2
        return fetch_many(connection, sql, ids[:middle]) + fetch_many(connection, sql, ids[middle:])


class Writing(apsw.Connection):
    """The connection of the writer. Its commits make no checkpoints by themselves."""

    behind: Job[Any] | None = None
    """What a job leaves to be done behind the answers of its commit, in a transaction of its own.

    It is done at most once, and not if the process ends before, so somebody else has to come to the same work later.
    What a job left that was rolled back is forgotten: it may speak of rows that are not there.
    """
    log_pages = 0
    """Pages in the log after the last commit."""

    def take_over_checkpoints(self) -> None:
        """Note the size of the log at each commit. It replaces SQLite's own hook, which makes the checkpoints."""

        def note(_: apsw.Connection, __: str, pages: int) -> int:
            self.log_pages = pages
            return apsw.SQLITE_OK

        self.set_wal_hook(note)


class Lookout:
    """A look at the store every so often, which wakes nobody unless it finds something.

    Args:
        look: Whether there is something to tell. An error is.
        pause: Seconds until the next look.
        tell: Called in the reader's thread.
    """

    def __init__(self, look: Job[bool], pause: Callable[[], float], tell: Callable[[], None]) -> None:
        self._look = look
        self._pause = pause
        self._tell = tell
        self._due_at = time.monotonic() + pause()

    def due_in(self) -> float:
        """Seconds until it is to look."""
        return self._due_at - time.monotonic()

    def look(self, connection: apsw.Connection) -> None:
        """Look, and tell."""
        self._due_at = time.monotonic() + self._pause()
        try:
            has_news = self._look(connection)
        except Exception:  # who is told looks too, and meets it where it can be raised
            has_news = True
        if has_news:
            self._tell()


class Engine:
    """The threads of one open store.

    Args:
        location: The path of the file, or ":memory:".
        busy_timeout: Seconds a write may wait for its turn.
    """

    def __init__(self, location: str, busy_timeout: float) -> None:
        self.location = location
        self.busy_timeout = busy_timeout
        self.in_memory = location == ":memory:"
        self.most_bytes = MAX_BYTES
        """Bytes of contents with which a group of jobs is full."""
        self.aside = Aside()
        self.guard: ReplacedGuard | None = None
        self._write_lock: WriteLock | None = None
        self._name_lock: NameLock | None = None
        self._pid = 0
        self._open = False
        self._replaced: StorageReplacedError | None = None
        self._threads: list[tuple[threading.Thread, concurrent.futures.Future[None]]] = []
        self._writes: deque[Waiting[Any]] = deque()
        self._awake = False
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._reads: list[queue.SimpleQueue[Waiting[Any] | None]] = []
        self._next_reader = 0
        self._statistics_at = time.monotonic() + statistics.EVERY
        """When the writer looks again for statistics of the planner (monotonic clock)."""
        self._lookout: Lookout | None = None
        """What the first reader does beside its reads."""
        self._at_work: dict[int, bool] = {}
        """The threads that work on something just now: the writer is 0, the readers follow."""
        self._watch: asyncio.TimerHandle | None = None

    # --- start and stop ---

    async def start(
        self,
        connect_writer: Callable[[], tuple[Writing, WriteLock | None, NameLock | None]],
        connect_reader: Connect,
    ) -> None:
        """Start the threads; each opens its own connection, the writer first.

        Raises:
            StorageBusyError: Others kept the file busy.
            ConfigurationError: This process was forked in a moment after which SQLite may hang in it.
        """
        forks.check()
        self._pid = os.getpid()
        self._open = True
        self._replaced = self.guard = None

        def connect() -> apsw.Connection:
            connection, self._write_lock, self._name_lock = connect_writer()
            return connection

        await self._start_thread("writer", connect, self._run_writer)
        if self.in_memory:
            return
        for number in range(_READERS):
            reads: queue.SimpleQueue[Waiting[Any] | None] = queue.SimpleQueue()
            self._reads.append(reads)
            await self._start_thread(f"reader-{number}", connect_reader, partial(self._run_reader, number + 1, reads))
        self.guard = ReplacedGuard(self.location)

    def measure(self) -> PoolFigures:
        """How the connections stand; each has a thread."""
        from ...observing.figures import PoolFigures  # few programs read them

        size = len(self._threads)
        in_use = min(sum(self._at_work.values()), size)
        waiting = len(self._writes) + sum(reads.qsize() for reads in list(self._reads))
        most = 1 if self.in_memory else 1 + _READERS
        return PoolFigures(max_size=most, size=size, in_use=in_use, available=size - in_use, waiting=waiting)

    async def _start_thread(
        self, name: str, connect: Connect, run: Callable[[apsw.Connection, forks.Inside], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        connected = Waiting(lambda connection: None, loop)
        ended: concurrent.futures.Future[None] = concurrent.futures.Future()

        def main() -> None:
            inside = forks.Inside()
            try:
                with inside:
                    connection = inside.connection = connect()
            except BaseException as error:
                deliver([(connected, None, translate(error, self.location))])
            else:
                deliver([(connected, None, None)])
                try:
                    run(connection, inside)
                finally:
                    with inside:
                        self._disconnect(connection)
                        inside.connection = None
            finally:
                ended.set_result(None)

        thread = threading.Thread(target=main, name=f"agent-messaging-{name}", daemon=True)
        self._threads.append((thread, ended))
        thread.start()
        try:
            async with asyncio.timeout(self.busy_timeout * 2 + 1):
                await connected.future
        except TimeoutError:
            self._threads.pop()  # a daemon, which ends when it has got through
            raise self._busy() from None

    def _disconnect(self, connection: apsw.Connection) -> None:
        if self.guard is not None and not self.guard.holds():
            # The last one to close removes the -wal file by its name, which is another database's now.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close()

    async def aclose(self) -> None:
        """Finish what waits, then end the threads, the readers first: the writer closes the file. Idempotent.

        On any loop: the one on which it was opened may have been closed.
        """
        self._open = False
        if self.is_forked:
            return  # the child has none of the threads, and the connections are the parent's
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._reads:
            self._reads.pop().put(None)
        while self._threads:
            if len(self._threads) == 1:
                self._bell.put(None)
            thread, ended = self._threads[-1]
            await asyncio.wait([asyncio.wrap_future(ended)], timeout=self.busy_timeout + 1)
            if ended.done():  # otherwise it hangs in the system; being a daemon it does not hold up the process
                thread.join(1)
            self._threads.pop()
        while self._writes:
            with suppress(IndexError, RuntimeError):  # the last: its loop is closed
                fail(self._writes.popleft().future, self._busy())

    # --- jobs ---

    async def write(self, job: Job[T], *, size: int = 0) -> T:
        """Run a job in a transaction, which is committed and synced when this returns.

        Args:
            size: Bytes of the contents that it brings along; they bound how many jobs share a commit.
        """
        self._check_usable()
        loop = asyncio.get_running_loop()
        return await self._write(Waiting(job, loop, loop.time() + self.busy_timeout), size)

    async def write_together(self, job: JointJob[I, T], item: I, *, size: int = 0) -> T:
        """Write one item, by a job that runs once for all items that wait for it, and for each alone if that fails."""
        self._check_usable()
        loop = asyncio.get_running_loop()
        return await self._write(joint(job, item, loop, loop.time() + self.busy_timeout), size)

    async def _write(self, waiting: Waiting[T], size: int) -> T:
        waiting.size = size
        self._writes.append(waiting)
        if not self._awake:
            self._awake = True
            self._bell.put(None)
        if self._watch is None:
            self._watch = waiting.loop.call_at(waiting.deadline, self._withdraw_late)
        return await waiting.future

    async def read(self, job: Job[T], *, reader: int | None = None) -> T:
        """Run a job on a reading connection, or, in memory, where there is one connection, among the writes.

        Args:
            reader: Always this connection; None is the next one.
        """
        if self.in_memory:
            return await self.write(job)
        self._check_usable()
        return await self._read(Waiting(job, asyncio.get_running_loop()), reader)

    async def read_together(self, job: JointJob[I, T], item: I) -> T:
        """Read one item, as `write_together` writes. All items are answered together, so it is for short reads."""
        if self.in_memory:
            return await self.write_together(job, item)
        self._check_usable()
        return await self._read(joint(job, item, asyncio.get_running_loop()), None)

    async def _read(self, waiting: Waiting[T], reader: int | None) -> T:
        if reader is None:
            reader = self._next_reader = (self._next_reader + 1) % len(self._reads)
        self._reads[reader].put(waiting)
        return await waiting.future

    def keep_lookout(self, lookout: Lookout) -> None:
        """Have the first reader look, beside its reads and on its connection, until `end_lookout` or the end."""
        self._lookout = lookout
        if self._reads:
            self._reads[0].put(Waiting(lambda connection: None, asyncio.get_running_loop()))  # it may sleep

    def end_lookout(self) -> None:
        """Have nobody look any more."""
        self._lookout = None

    def renew_write_lock(self) -> None:
        """The file of the turn to write was removed: take turns with those who have the one in its place."""
        if self._write_lock is not None:
            self._write_lock.renew()

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of the process that opened the store."""
        return self._pid not in (0, os.getpid())

    def _check_usable(self) -> None:
        if self.is_forked:
            raise ConfigurationError(
                f"This store was opened in process {self._pid} and cannot be used in its forked child {os.getpid()}. "
                "Open a new AgentMessaging in the child, or start the child before opening."
            )
        if self._replaced is not None:
            raise copy_error(self._replaced)
        if not self._open:
            raise NotInitializedError("The store is not open.")

    def _withdraw_late(self) -> None:
        # The writer may be stuck behind a process that was stopped while it had the turn to write. What the writer has
        # not yet taken is withdrawn here: taking and withdrawing are each one atomic step of the deque, so it is never
        # both.
        self._watch = None
        now = asyncio.get_running_loop().time()
        while self._writes:
            try:
                waiting = self._writes.popleft()
            except IndexError:
                return
            if waiting.deadline > now:
                self._writes.appendleft(waiting)
                self._watch = waiting.loop.call_at(waiting.deadline, self._withdraw_late)
                return
            fail(waiting.future, self._busy())

    def _busy(self) -> StorageBusyError:
        return StorageBusyError(
            f"The database {self.location!r} stayed busy for {self.busy_timeout:g} s: another process has the turn to "
            "write and does not end it. Nothing was stored. Try again; if it lasts, look for a stopped process on "
            "this file."
        )

    # --- the threads ---

    def _run_reader(
        self,
        number: int,
        reads: queue.SimpleQueue[Waiting[Any] | None],
        connection: apsw.Connection,
        inside: forks.Inside,
    ) -> None:
        following: list[Waiting[Any] | None] = []
        while (
            waiting := following.pop() if following else self._next_read(number, reads, connection, inside)
        ) is not None:
            self._at_work[number] = True
            group = [waiting]
            if waiting.joint is not None:
                with suppress(queue.Empty):
                    while len(group) < _GROUP and not following:
                        another = reads.get_nowait()
                        if another is not None and another.joint == waiting.joint:
                            group.append(another)
                        else:
                            following.append(another)
            with inside:
                answers = self._look_up(connection, group)
            self._at_work[number] = False
            deliver(answers)
            del waiting, group, answers  # while it waits a thread keeps nothing alive

    def _next_read(
        self,
        number: int,
        reads: queue.SimpleQueue[Waiting[Any] | None],
        connection: apsw.Connection,
        inside: forks.Inside,
    ) -> Waiting[Any] | None:
        while number == 1 and (lookout := self._lookout) is not None:
            with suppress(queue.Empty):
                if (pause := lookout.due_in()) > 0:
                    return reads.get(timeout=pause)
            with inside:
                lookout.look(connection)
            del lookout
        return reads.get()

    def _look_up(self, connection: apsw.Connection, group: list[Waiting[Any]]) -> list[Answer]:
        try:
            results = run_jobs(connection, group) if len(group) > 1 else [group[0].job(connection)]
        except BaseException as error:
            if len(group) > 1:
                return [answer for waiting in group for answer in self._look_up(connection, [waiting])]
            failed = translate(error, self.location, connection.system_errno)
            if isinstance(failed, StorageReplacedError):
                self._replaced = failed
            return [(group[0], None, failed)]
        return [(waiting, result, None) for waiting, result in zip(group, results, strict=True)]

    def _run_writer(self, connection: apsw.Connection, inside: forks.Inside) -> None:
        while self._open or self._writes:
            self._bell.get()
            self._awake = False  # before looking: who puts a job later rings again
            self._at_work[0] = True
            while self._writes:
                try:
                    with self._write_lock or nullcontext(), inside:
                        group = self._take()
                        answers = self._commit(connection, group) if group else []
                except OSError as error:  # from the lock
                    group = self._take()
                    answers = [(waiting, None, translate(error, self.location)) for waiting in group]
                deliver(answers)
                del group, answers
                self._follow(connection, inside)
            self._at_work[0] = False
        for lock in (self._write_lock, self._name_lock):
            if lock is not None:
                lock.close()

    def _follow(self, connection: apsw.Connection, inside: forks.Inside) -> None:
        """Do what was left for behind the answers. Nobody waits for it, so its failure fails nobody."""
        assert isinstance(connection, Writing)
        job, connection.behind = connection.behind, None
        jobs = [] if job is None else [job]
        if (now := time.monotonic()) >= self._statistics_at:
            self._statistics_at = now + statistics.EVERY
            jobs.append(partial(statistics.forget, location=self.location))
        if not jobs and connection.log_pages < _LOG_PAGES:
            return
        with suppress(OSError), self._write_lock or nullcontext(), inside:
            try:
                for each in jobs:
                    connection.execute("begin immediate")
                    each(connection)
                    if self.guard is not None:
                        self.guard.check()
                    connection.execute("commit")
                if connection.log_pages >= _LOG_PAGES:
                    # With the turn to write, so that nobody lengthens the log meanwhile: it begins anew only when all
                    # of it is in the database.
                    connection.log_pages = 0
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except Exception:
                self._roll_back(connection)
                logger.debug("what was left for behind a commit failed, a later one comes to it again", exc_info=True)

    def _take(self) -> list[Waiting[Any]]:
        return take(self._drawn(), attrgetter("size"), most=_GROUP, most_bytes=self.most_bytes)

    def _drawn(self) -> Iterator[Waiting[Any]]:
        with suppress(IndexError):
            while True:
                yield self._writes.popleft()

    def _commit(self, connection: apsw.Connection, group: list[Waiting[Any]]) -> list[Answer]:
        failed: BaseException
        running = False
        assert isinstance(connection, Writing)
        behind = connection.behind  # left by others of its group, which are committed
        try:
            connection.execute("begin immediate")
            running = True
            results = run_jobs(connection, group)
            running = False
            if self.is_forked:
                os._exit(1)  # a job forked and its child came back here, where nothing belongs to it
            if self.guard is not None:
                self.guard.check()
        except BaseException as error:
            failed = translate(error, self.location, connection.system_errno)
            self._roll_back(connection)
            connection.behind = behind
            if isinstance(failed, StorageReplacedError):
                self._replaced = failed
            elif running and len(group) > 1:
                return [answer for waiting in group for answer in self._commit(connection, [waiting])]
        else:
            try:
                connection.execute("commit")
            except BaseException as error:
                failed = translate_commit(error, self.location, connection.system_errno)
                self._roll_back(connection)
                connection.behind = behind
            else:
                return [(waiting, result, None) for waiting, result in zip(group, results, strict=True)]
        return [(group[0], None, failed), *((waiting, None, copy_error(failed)) for waiting in group[1:])]

    @staticmethod
    def _roll_back(connection: apsw.Connection) -> None:
        # Some errors end the transaction by themselves.
        if connection.in_transaction:
            with suppress(apsw.Error):
                connection.execute("rollback")
