"""The history of a run: what every process of it did and saw, one JSON event a line, for `checker.check` to judge.

Each process appends to a file (one for all, or one each) with a single `write`, so that `kill -9` loses at most the
event in the making. Every event has

    t   CLOCK_MONOTONIC in nanoseconds: one clock for all processes of a boot, so a history is of one machine
    p   the process, by a name of its incarnation: a restarted process takes a new one
    e   the event

and the fields below; those in brackets may be absent. What takes effect at an unknown moment has `since`, the time
before it began, while `t` is the time after it was answered.

    event         written by     fields
    limits        the test       [max_attempts] [mailbox] [lease] [bystander_attempts] [takeover_kill] [takeover_pause]
    start         every process  [pid] [serves]: the agents it handles messages of, "*" for all; [] for a mere sender
    ready         every process  from now on it lets time pass in the store
    stall         every process  since: it was not given the processor, as if paused
    stop          every process  [since]: its orderly end; every call has returned, every claim is settled or given back
    kill          the nemesis    who, since: it died without warning (by its own hand too, written just before)
    pause         the nemesis    who, since: SIGSTOP, until `resume` (who) or `kill`
    cut           the nemesis,   [who] [since]: it lost its connection to the store, or its presence there
                  or the process
    send.try      a sender       n, instance, value, sender, to, kind, [hash] [org] [ids] [scheduled] [expires] [expect]
    send.ok       a sender       n, instance, value, ids: the message ids in the order of `to`
    send.no       a sender       n, instance, value, code: refused, nothing is stored
    send.unknown  a sender       n, instance, value, code: cancelled, or the store did not answer
    claim         a store        message, seq, token, attempt, owner, since, [again]: the answer to a repeated append
    h.start       a handler      message, attempt, recipient, [value] [hash] [org] [token] [left]: of its lease, seconds
    h.end         a handler      message, attempt, how: ok | err | cancelled | timeout, [token] [code] [answer]: hash
    h.wait        a handler      message: it waits for its asker not to wait any more
    h.told        a handler      message: it was told that nobody waits
    settle.ok     a store        [message], seq, token, how: done | retry | dead | returned, since, [reason]
    settle.stale  a store        the same: refused, because the token was not the newest
    withdraw      a store        message, since
    redrive       a store        message, since: a dead letter is queued again with attempt 0
    depth         anybody        recipient, depth: a sample of the open deliveries of a mailbox
    final         the test       message, state, attempt, token, max_attempts, reasons, [waits]: rightly open; state
                                 "missing": no such row, "removed": rightly none
    torn          `read_events`  a line that its writer could not finish

    ask.try       an asker       n, instance, value, sender, to, kind, hash, timeout, expires, [key] [org] [expect]
                                 [thread]: the one that is named
    ask.ret       an asker       n, instance, value, how: reply | timeout | ended | failed | refused | unknown,
                                 [answer]: its hash, [code] [path]: of a circle
    ask.open      a store        message, value, timeout, since, [thread]
    part          an asker       value, run: of the handler that sent it, n: its number there
    part.anew     an asker       value: another run begins its parts
    part.end      an asker       value, run: that answered, n: the parts that it has sent; the asker has read all
    answer        an answerer    value (of the ask), hash: it is about to answer otherwise than by its handler's result
    end.try       anybody        pair, [thread]: it is about to end their conversation
    wait          a store        recipient, sender: ids of agents; the wait is registered
    read          a reader       feed, items, since: the ids it was shown, from the first of the feed on
    act.ok        a store        meeting, act, since, [number]: meant, [value]: said, [ended_turn] [turn] [holder]:
                                current now
    act.no        a store        meeting, act, why, [number] [value]
    turn.shown    a participant  meeting, agent, turn, [deadline]
    speak.try     a participant  value, meeting, agent, turn, [next]
    speak.ok      a participant  value, meeting, agent, turn
    speak.no      a participant  value, meeting, agent, turn, code: refused, nothing is stored
    hop           the test       message, number, by, to, kept, seq: one step of an ask that was passed on, and the
                                 id and the number under which it stayed with the agent that passed it on
    ask.final     the test       message, state, [answer] [reason]
    session.final the test       session, bodies, unread: hashes, [waiting] [thread]
    meeting.final the test       meeting, utc, host, status, selection, seats, turns, said, timeouts, noted, [duration]
                                 [silent] [max_turns] [deadline] [reason] [endings] [endings_noted]

**A call** is (instance, n): `instance` names the SDK object (by default the process), `n` rises in the order in which
it was called. It has one send.try and at most one outcome; one without an outcome is unknown and may still take
effect later.

**A value** is the caller's own name for what it sends, unique in the history and part of the payload, so that a run
can be traced to its call although the sender died before it knew the message's id. Repeating a call (with its
idempotency key, or because it was refused) keeps the value.

`expect` is "dead" for a message that is meant to end as a dead letter; `scheduled` and `expires` are true for one
with `deliver_at` or `expires_in`.

**Limits**, judged where given: `max_attempts` of every message; `mailbox`, open deliveries of one; `lease`, the
seconds that a process must be silent before its claims may be taken over (without it, any pause explains a repeat);
`bystander_attempts` that a message may need which is not itself expected to die; `takeover_kill` and
`takeover_pause`, the seconds until the next run of a message whose process died or froze in its handler; `ask_slack`
(0.5), the seconds after its deadline by which an ask has returned; `abandoned` (15), those after which a run that waits
for it has been told that its asker has gone; `turn_slack` (1), those after which a turn has been
ended by time.

A program around the public SDK logs its calls and its handlers' runs:

    history = History("history.jsonl", "worker-1.0")

    with history.sending("alice", ["bob"], body, value=body["value"]) as call:
        call.accept(await sdk.one_way.send("alice", ["bob"], body))

    @sdk.register_handler("bob")
    async def handle(body, context):
        with history.running(context.message_id, context.attempt, recipient="bob", body=body, value=body["value"]):
            ...

and a store wrapped in `recording.RecordingStore` logs claims and settlements with their tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from ..exceptions import (
    AgentMessagingError,
    ConversationEndedError,
    ConversationTimeoutError,
    DatabaseError,
    HandlerError,
    TimeoutError,
)
from ..models import Kind, Receipt
from ..storage import ports
from ..system import BINARY

Event = dict[str, Any]

_DECODER = json.JSONDecoder()
_EVENT_START = '{"t":'


class Chronicle:
    """What one process tells of a run, from any of its threads. `History` keeps it in a file."""

    def __init__(self, process: str) -> None:
        self.process = process
        self._calls = itertools.count(1)

    def record(self, event: str, **fields: object) -> None:
        """Append one event; fields that are None are left out."""
        raise NotImplementedError

    def make(self, event: str, fields: Mapping[str, object]) -> Event:
        """Make an event of now."""
        record: Event = {"t": time.monotonic_ns(), "p": self.process, "e": event}
        record.update((name, value) for name, value in fields.items() if value is not None)
        return record

    def sending(
        self,
        sender: str,
        to: Sequence[str],
        body: object,
        *,
        value: str,
        kind: str = Kind.ONE_WAY,
        instance: str | None = None,
        org: str | None = None,
        ids: Sequence[str] | None = None,
        scheduled: bool = False,
        expires: bool = False,
        expect: Literal["dead"] | None = None,
    ) -> Sending:
        """Log a call that sends: send.try now, its outcome when the block has accepted ids or failed."""
        call = {"n": next(self._calls), "instance": instance or self.process, "value": value}
        self.record(
            "send.try",
            **call,
            sender=sender,
            to=list(to),
            kind=kind,
            hash=hash_body(body),
            org=org,
            ids=list(ids) if ids else None,
            scheduled=scheduled or None,
            expires=expires or None,
            expect=expect,
        )
        return Sending(self, call)

    @contextlib.contextmanager
    def asking(
        self,
        sender: str,
        recipient: str,
        body: object,
        *,
        value: str,
        timeout: float,
        key: bool = False,
        org: str | None = None,
        expect: Literal["dead"] | None = None,
        thread: str | None = None,
    ) -> Iterator[Asking]:
        """Log an ask: ask.try now, how it returned when the block has its answer or failed."""
        call = {"n": next(self._calls), "instance": self.process, "value": value}
        self.record(
            "ask.try",
            **call,
            sender=sender,
            to=[recipient],
            kind=Kind.CONVERSATION.value,
            hash=hash_body(body),
            timeout=timeout,
            expires=True,
            key=key or None,
            org=org,
            expect=expect,
            thread=thread,
        )
        asking, error = Asking(), None
        try:
            yield asking
        except BaseException as raised:
            error = raised
            raise
        finally:
            if asking.answer is not None:
                self.record("ask.ret", **call, how="reply", answer=asking.answer)
            else:
                code, path = getattr(error, "code", type(error).__name__), getattr(error, "path", None)
                self.record("ask.ret", **call, how=how_it_failed(error), code=code, path=path)

    def reading(self, feed: str, items: Iterable[object], since: int) -> None:
        """Log what a feed was seen to hold, by a reading that began at `since` (of the history's clock)."""
        self.record("read", feed=feed, items=[str(item) for item in items], since=since)

    @contextlib.contextmanager
    def running(
        self,
        message_id: object,
        attempt: int,
        *,
        recipient: str,
        body: object = None,
        value: str | None = None,
        org: str | None = None,
        token: int | None = None,
        left: float | None = None,
    ) -> Iterator[Running]:
        """Log a handler's run: h.start now, h.end with how the block ended."""
        run = {"message": str(message_id), "attempt": attempt, "token": token, "recipient": recipient}
        self.record(
            "h.start",
            **run,
            value=value,
            hash=None if body is None else hash_body(body),
            org=org,
            left=left,
        )
        running = Running()
        try:
            yield running
        except BaseException as error:
            how = "cancelled" if isinstance(error, asyncio.CancelledError) else "err"
            self.record("h.end", **run, how=how, code=type(error).__name__)
            raise
        self.record("h.end", **run, how="ok", answer=running.result)


class History(Chronicle):
    """The history that one process writes into a file."""

    def __init__(self, path: str | os.PathLike[str], process: str) -> None:
        super().__init__(process)
        self.path = Path(path)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | BINARY, 0o644)

    def record(self, event: str, **fields: object) -> None:
        """See `Chronicle`."""
        line = json.dumps(self.make(event, fields), separators=(",", ":"), default=str) + "\n"
        os.write(self._fd, line.encode())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sending:
    """One call that sends."""

    def __init__(self, history: Chronicle, call: dict[str, object]) -> None:
        self._history = history
        self._call = call
        self._ended = False

    def accept(self, ids: Iterable[object]) -> None:
        """The call returned these ids."""
        self._end("send.ok", ids=[str(id) for id in ids])

    def refuse(self, code: str) -> None:
        """The call was refused; nothing is stored."""
        self._end("send.no", code=code)

    def fail(self, error: BaseException | None) -> None:
        """The call raised this: a refusal, or an unknown outcome (as is that of a call that was never accepted)."""
        code = getattr(error, "code", type(error).__name__)
        if error is not None and is_refusal(error):
            self.refuse(code)
        else:
            self._end("send.unknown", code=code)

    def _end(self, event: str, **fields: object) -> None:
        self._ended = True
        self._history.record(event, **self._call, **fields)

    def __enter__(self) -> Sending:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._ended:
            self.fail(error)


class Asking:
    """One ask."""

    answer: str | None = None

    def reply(self, answer: object) -> None:
        """The ask returned this."""
        self.answer = hash_body(answer)


def how_it_failed(error: BaseException | None) -> str:
    """Say how an ask ended, from its error."""
    match error:
        case ConversationTimeoutError():
            return "timeout"
        case ConversationEndedError():
            return "ended"
        case HandlerError():
            return "failed"
        case None:
            return "unknown"
    return "refused" if is_refusal(error) else "unknown"


class Running:
    """One run of a handler."""

    result: str | None = None

    def answer(self, body: object) -> None:
        """The handler is about to return this."""
        self.result = hash_body(body)


def is_refusal(error: BaseException) -> bool:
    """Whether the error says that nothing was stored; any other (a timeout, a cancellation) leaves that unknown."""
    return (
        isinstance(error, AgentMessagingError)
        and not isinstance(error, TimeoutError)
        and type(error) not in (AgentMessagingError, DatabaseError)
    )


def hash_body(body: object) -> str:
    """A short hash of a JSON value: equal for what was sent and what its handler got, if nothing changed on the way."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


# --- reading ----------------------------------------------------------------------------------------------------------


def read_events(*paths: str | os.PathLike[str]) -> list[Event]:
    """Read all events of these files, in the order of their time.

    A line cut short by the death of its writer becomes a `torn` event; what another process appended to it is kept.
    """
    events: list[Event] = []
    for path in paths:
        with open(path, "rb") as file:
            for line in file:
                events.extend(parse_line(line.decode(errors="replace")))
    events.sort(key=lambda event: event["t"])
    return events


def parse_line(line: str) -> Iterator[Event]:
    """The events of a line: one, as a rule; none of a blank one."""
    rest = line.rstrip("\n")
    while rest:
        try:
            event, end = _DECODER.raw_decode(rest)
        except ValueError:
            event, end = None, len(rest)
        if isinstance(event, dict) and {"t", "p", "e"} <= event.keys():
            yield event
        else:
            yield {"t": 0, "p": "?", "e": "torn"}
            end = rest.find(_EVENT_START, 1)
        rest = rest[end:] if end > 0 else ""


def known_ids(events: Iterable[Event]) -> list[str]:
    """Every message id that the history names, each once, in the order of its first mention."""
    ids: dict[str, None] = {}
    for event in events:
        ids.update(dict.fromkeys(event.get("ids", ())))
        if event.get("message"):
            ids[event["message"]] = None
    return list(ids)


ListReceipts = Callable[[Collection[str]], Awaitable[Iterable[Receipt | ports.ReceiptRow]]]


async def record_final(history: Chronicle, message_ids: Collection[str], list_receipts: ListReceipts) -> None:
    """Dump the final state of these messages, once the run is drained.

    `list_receipts` returns the receipts of those that exist: a store's `deliveries.list_receipts`, or a function around
    the SDK's receipts. A message without one is recorded as missing.
    """
    ids = list(message_ids)
    for start in range(0, len(ids), 500):
        page = ids[start : start + 500]
        receipts = {receipt.message_id: receipt for receipt in await list_receipts(page)}
        for id in page:
            receipt = receipts.get(id)
            if receipt is None:
                history.record("final", message=id, state="missing")
                continue
            if isinstance(receipt, Receipt):
                reasons: list[object] = list(receipt.reasons)
            else:
                reasons = [entry["reason"] for entry in receipt.log if entry.get("reason")]
            history.record(
                "final",
                message=id,
                state=receipt.state.value,
                attempt=receipt.attempt,
                token=receipt.token,
                max_attempts=receipt.max_attempts,
                reasons=reasons,
            )
