"""A small mailbox in virtual time, to make histories that keep every promise under crashes, freezes, stops and retries.

It shares no code with the SDK: the checker is to be tested by a second opinion of what a right history looks like.
Events are recorded as real processes would record them: late, never after a `kill -9`, by a frozen one once it goes on.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent_messaging.testing.history import Event

MS = 1_000_000
LEASE = 400 * MS
MAX_ATTEMPTS = 5
MAILBOX = 30
SLOTS = 3
AGENTS = ("bob", "carol")


@dataclass
class Delivery:
    id: str
    value: str
    sender: str
    recipient: str
    number: int
    body: str
    state: str = "queued"
    token: int = 0
    attempt: int = 0
    owner: Worker | None = None
    due: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass
class Worker:
    name: str
    serves: list[str]
    alive: bool = True
    stopping: bool = False
    frozen_until: int = 0
    doomed: bool = False
    """A fault is on its way to it."""
    running: int = 0


class Simulation:
    """Two senders, some workers and a nemesis, all driven by one seed."""

    def __init__(
        self,
        seed: int,
        *,
        messages: int = 60,
        workers: int = 3,
        kills: int = 2,
        pauses: int = 1,
        stops: int = 1,
        failure: float = 0.1,
        tokens: bool = True,
    ) -> None:
        self.random = random.Random(seed)
        self.events: list[Event] = []
        self.now = 1_000 * MS
        self.tokens = tokens
        """Whether the store records, or only what a program around the SDK can see."""
        self.failure = failure
        self.deliveries: list[Delivery] = []
        self.workers: list[Worker] = []
        self.incarnations = itertools.count()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.record("test", "limits", max_attempts=MAX_ATTEMPTS, mailbox=MAILBOX, lease=0.3, takeover_kill=30.0)
        # dave is served by one process at a time, so that the promise of order holds for him.
        self.spawn(["dave"])
        for _ in range(workers - 1):
            self.spawn(list(AGENTS))
        self.send_all(messages)
        span = messages * 10 * MS
        for action, count in ((self.kill, kills), (self.pause, pauses), (self.stop, stops), (self.sample, 5)):
            for _ in range(count):
                self.at(self.random.randrange(span), action)

    def run(self) -> list[Event]:
        while self._heap:
            moment, _, action = heapq.heappop(self._heap)
            self.now = max(self.now, moment)
            action()
        for delivery in self.deliveries:
            reasons = delivery.reasons if delivery.state == "dead" else []
            self.record(
                "test",
                "final",
                message=delivery.id,
                state=delivery.state,
                attempt=delivery.attempt,
                token=delivery.token,
                max_attempts=MAX_ATTEMPTS,
                reasons=reasons,
            )
        return self.events

    # --- time and events ----------------------------------------------------------------------------------------------

    def at(self, delay: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._order), action))

    def by(self, worker: Worker, delay: int, action: Callable[[], None]) -> None:
        """Let a worker do this, unless it is dead by then, or later, if it is frozen."""

        def act() -> None:
            if not worker.alive:
                return
            if worker.frozen_until > self.now:
                self.by(worker, worker.frozen_until - self.now + self.soon(), action)
            else:
                action()

        self.at(delay, act)

    def soon(self) -> int:
        return self.random.randrange(1, 2 * MS)

    def record(self, process: str, event: str, **fields: Any) -> None:
        self.events.append({"t": self.now, "p": process, "e": event, **fields})

    # --- senders ------------------------------------------------------------------------------------------------------

    def send_all(self, messages: int) -> None:
        for sender in ("alice", "alex"):
            numbers = itertools.count(1)
            moment = 0
            for _ in range(messages // 2):
                moment += self.random.randrange(15 * MS)
                recipients = self.random.choice((["dave"], ["dave"], ["bob"], ["bob", "carol"]))
                self.at(moment, lambda s=sender, r=recipients, n=numbers: self.send(s, r, next(n)))  # type: ignore[misc]

    def send(self, sender: str, recipients: list[str], number: int) -> None:
        process = f"sender-{sender}"
        value = f"{sender}-{number}"
        body = f"hash of {value}"
        call: dict[str, Any] = {"n": number, "instance": process, "value": value}
        self.record(process, "send.try", **call, sender=sender, to=recipients, kind="one_way", hash=body)
        full = any(self.depth(recipient) >= MAILBOX for recipient in recipients)
        fate = self.random.random()
        if full or fate < 0.03:
            self.at(self.soon(), lambda: self.record(process, "send.no", **call, code="mailbox_full"))
            return
        if fate < 0.06:  # lost on the way: its sender never learns that nothing is stored
            self.at(self.soon(), lambda: self.record(process, "send.unknown", **call, code="outcome_unknown"))
            return
        ids = [f"{value}-to-{recipient}" for recipient in recipients]
        for id, recipient in zip(ids, recipients, strict=True):
            self.deliveries.append(Delivery(id, value, sender, recipient, number, body))
        if fate < 0.09:
            self.at(self.soon(), lambda: self.record(process, "send.unknown", **call, code="CancelledError"))
        elif fate > 0.12:  # else it is cut off in the call: neither
            self.at(self.soon(), lambda: self.record(process, "send.ok", **call, ids=ids))
        self.wake()

    def depth(self, recipient: str) -> int:
        return sum(
            delivery.recipient == recipient and delivery.state in ("queued", "claimed") for delivery in self.deliveries
        )

    def sample(self) -> None:
        for agent in AGENTS:
            self.record("test", "depth", recipient=agent, depth=self.depth(agent))

    # --- workers ------------------------------------------------------------------------------------------------------

    def spawn(self, serves: list[str]) -> None:
        worker = Worker(f"worker-{next(self.incarnations)}", serves)
        self.workers.append(worker)
        self.record(worker.name, "start", serves=serves)
        self.by(worker, self.soon(), lambda: self.claim(worker))

    def wake(self) -> None:
        for worker in self.workers:
            if worker.alive and worker.running < SLOTS:
                self.by(worker, self.soon(), lambda w=worker: self.claim(w))  # type: ignore[misc]

    def claim(self, worker: Worker) -> None:
        if worker.stopping:
            return
        asked = self.now
        while worker.running < SLOTS:
            delivery = self.find(worker)
            if delivery is None:
                return
            delivery.state, delivery.owner = "claimed", worker
            delivery.token += 1
            delivery.attempt += 1
            worker.running += 1
            token, attempt = delivery.token, delivery.attempt
            self.by(worker, self.soon(), lambda d=delivery, t=token, a=attempt: self.start(worker, d, t, a, asked))  # type: ignore[misc]

    def find(self, worker: Worker) -> Delivery | None:
        busy = {(d.sender, d.recipient) for d in self.deliveries if d.state == "claimed"}
        for delivery in self.deliveries:
            lane = delivery.sender, delivery.recipient
            if delivery.recipient in worker.serves and delivery.state == "queued" and lane not in busy:
                if delivery.due > self.now:
                    continue
                return delivery
        return None

    def start(self, worker: Worker, delivery: Delivery, token: int, attempt: int, asked: int) -> None:
        if self.tokens:
            self.record(worker.name, "claim", message=delivery.id, seq=0, token=token, attempt=attempt, since=asked)
        self.by(worker, self.soon(), lambda: self.handle(worker, delivery, token, attempt))

    def handle(self, worker: Worker, delivery: Delivery, token: int, attempt: int) -> None:
        run: dict[str, Any] = {"message": delivery.id, "attempt": attempt}
        if self.tokens:
            run["token"] = token
        self.record(
            worker.name, "h.start", **run, recipient=delivery.recipient, value=delivery.value, hash=delivery.body
        )
        how = "err" if self.random.random() < self.failure else "ok"

        def end() -> None:
            outcome = "cancelled" if worker.stopping else how
            self.record(worker.name, "h.end", **run, how=outcome)
            asked = self.now
            self.by(worker, self.soon(), lambda: self.settle(worker, delivery, token, outcome, asked))

        self.by(worker, self.random.randrange(40 * MS), end)

    def settle(self, worker: Worker, delivery: Delivery, token: int, outcome: str, asked: int) -> None:
        moved = delivery.token == token and delivery.state == "claimed"
        how = {"ok": "done", "cancelled": "returned"}.get(outcome, "retry")
        if how == "retry" and delivery.attempt >= MAX_ATTEMPTS:
            how = "dead"
        if moved:
            self.move(delivery, how)
        worker.running -= 1
        if self.tokens:
            self.by(
                worker,
                self.soon(),
                lambda: self.record(
                    worker.name,
                    "settle.ok" if moved else "settle.stale",
                    message=delivery.id,
                    seq=0,
                    token=token,
                    how=how,
                    since=asked,
                ),
            )
        self.wake()

    def move(self, delivery: Delivery, how: str) -> None:
        if how in ("retry", "dead"):
            delivery.reasons.append("it failed")
        if how in ("done", "dead"):
            delivery.state = how
            return
        if how == "returned":
            delivery.attempt -= 1
        if how == "retry":
            delivery.due = self.now + 20 * MS
            self.at(21 * MS, self.wake)
        delivery.state, delivery.owner = "queued", None

    def release(self, worker: Worker) -> None:
        for delivery in self.deliveries:
            if delivery.owner is worker and delivery.state == "claimed":
                delivery.reasons.append("its process died")
                delivery.state, delivery.owner = "queued", None
                if delivery.attempt >= MAX_ATTEMPTS:
                    delivery.state = "dead"
        self.wake()

    # --- the nemesis --------------------------------------------------------------------------------------------------

    def victim(self, *, frozen: bool = False) -> Worker | None:
        candidates = [
            worker
            for worker in self.workers
            if worker.alive and not (worker.stopping or worker.doomed) and (frozen or worker.frozen_until <= self.now)
        ]
        if not candidates:
            return None
        worker = self.random.choice(candidates)
        worker.doomed = True
        return worker

    def kill(self) -> None:
        worker = self.victim(frozen=True)
        if worker is None:
            return
        asked = self.now

        def die() -> None:
            worker.alive = False
            self.at(self.soon(), lambda: self.record("nemesis", "kill", who=worker.name, since=asked))
            self.at(self.random.randrange(100 * MS), lambda: self.release(worker))
            self.at(self.random.randrange(200 * MS) + 3 * MS, lambda: self.spawn(worker.serves))

        self.at(self.soon(), die)

    def pause(self) -> None:
        worker = self.victim()
        if worker is None:
            return
        asked, length = self.now, self.random.randrange(2 * LEASE) + MS

        def freeze() -> None:
            worker.frozen_until = self.now + length
            self.at(0, lambda: self.record("nemesis", "pause", who=worker.name, since=asked))
            if length > LEASE:
                self.at(LEASE, lambda: self.release(worker))
            worker.doomed = False  # the next fault may come while it is frozen
            self.at(length, thaw)

        def thaw() -> None:
            if worker.alive:
                self.record("nemesis", "resume", who=worker.name)

        self.at(self.soon(), freeze)

    def stop(self) -> None:
        worker = self.victim()
        if worker is None:
            return
        worker.stopping = True
        serves = worker.serves

        def leave() -> None:
            worker.alive = False
            self.record(worker.name, "stop")
            self.spawn(serves)

        # Long enough for every handler to have been cancelled and every claim to have been given back.
        self.by(worker, 100 * MS, leave)
