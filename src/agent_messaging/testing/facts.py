"""The facts of a history, grouped by call, value, message and process, for the checker to judge. No judgement here.

One pass over the events and sorts of what is nearly in order: linear but for the sorts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from .history import Event

SECOND = 1_000_000_000
EVERYBODY = "*"
ACCEPTED, REFUSED, UNKNOWN = "send.ok", "send.no", "send.unknown"
NEVER = 1 << 62
"""A time after every event."""
UNLOGGED_CLAIM = SECOND
"""A claim that no store recorded is believed to have been made at most so long before its run."""


def since(event: Event) -> int:
    """The earliest moment at which it may have taken effect."""
    return int(event["since"] if "since" in event else event["t"])


_STORED = {"reply": ACCEPTED, "failed": ACCEPTED, "ended": ACCEPTED, "refused": REFUSED}


def outcome_of(event: Event) -> str:
    """Say whether an outcome means that the message is stored; an ask may end without its asker's knowing."""
    return _STORED.get(event["how"], UNKNOWN) if event["e"] == "ask.ret" else str(event["e"])


@dataclass(slots=True)
class Call:
    """One call that sends: its try, and what came of it."""

    tried: Event | None = None
    outcomes: list[Event] = field(default_factory=list)
    retried: list[Event] = field(default_factory=list)
    """Further tries under its number, of which there should be none."""

    @property
    def outcome(self) -> str:
        """The event that ended it; without one, it is unknown."""
        return outcome_of(self.outcomes[0]) if self.outcomes else UNKNOWN


@dataclass(slots=True)
class Value:
    """A payload that a caller sent, in one call or in repeats of it."""

    name: str
    calls: list[Call] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    """Message ids by recipient, as far as a caller was told them or chose them."""

    @property
    def tried(self) -> Event | None:
        return next((call.tried for call in self.calls if call.tried), None)

    @property
    def outcome(self) -> str:
        """Accepted if one of its calls was, refused if all were, else unknown."""
        outcomes = {call.outcome for call in self.calls}
        if "send.ok" in outcomes:
            return "send.ok"
        return "send.no" if outcomes == {"send.no"} else "send.unknown"

    @property
    def recipients(self) -> list[str]:
        return self.tried["to"] if self.tried else []


@dataclass(slots=True)
class Message:
    """The life of one message, each list in the order of time."""

    id: str
    value: Value | None = None
    claims: list[Event] = field(default_factory=list)
    starts: list[Event] = field(default_factory=list)
    ends: list[Event] = field(default_factory=list)
    settled: list[Event] = field(default_factory=list)
    """Settlements that were accepted."""
    stale: list[Event] = field(default_factory=list)
    """Settlements that were refused."""
    withdrawn: list[Event] = field(default_factory=list)
    redriven: list[Event] = field(default_factory=list)
    final: Event | None = None
    passed_to: set[str] = field(default_factory=set)
    """Of an ask, and of what stayed of it: the agents that it was passed on to."""
    has_stayed: bool = False
    """It is what stayed of an ask with an agent that passed it on."""

    @property
    def state(self) -> str | None:
        return self.final["state"] if self.final else None

    @property
    def tried(self) -> Event | None:
        return self.value.tried if self.value else None

    def expects_death(self) -> bool:
        return self.tried is not None and self.tried.get("expect") == "dead"

    def redriven_between(self, earlier: int, later: int) -> bool:
        return any(since(event) <= later and event["t"] >= earlier for event in self.redriven)

    def claimed_by(self, start: Event) -> int:
        """The earliest moment at which the claim behind this run may have been made."""
        for claim in self.claims:
            if claim["p"] == start["p"] and _same_run(claim, start):
                return since(claim)
        earliest: int = start["t"] - UNLOGGED_CLAIM
        return earliest

    def end_of(self, start: Event) -> Event | None:
        """The end of this run, if its process lived to record it."""
        for end in self.ends:
            if end["p"] == start["p"] and end["t"] >= start["t"] and _same_run(end, start):
                return end
        return None


def _same_run(event: Event, start: Event) -> bool:
    if "token" in event and "token" in start:
        return bool(event["token"] == start["token"])
    return bool(event.get("attempt") == start.get("attempt"))


@dataclass(slots=True)
class Fault:
    """An event that may take a process's claims from it, at an unknown moment between `since` and `until`.

    A pause begins to count when it has lasted as long as a lease, and is dropped if it never did.
    """

    event: Event
    since: int
    until: int = NEVER

    @property
    def kind(self) -> str:
        name: str = self.event["e"]
        return name


@dataclass(slots=True)
class Process:
    """One incarnation of a process."""

    name: str
    started: Event | None = None
    ended: Event | None = None
    """Its `stop` or `kill`."""
    ready: Event | None = None
    faults: list[Fault] = field(default_factory=list)
    """In the order of `since`."""
    frozen: list[tuple[int, int]] = field(default_factory=list)
    """When it did nothing: paused, or starved by its machine."""
    _since: list[int] = field(default_factory=list)
    _reach: list[int] = field(default_factory=list)

    @property
    def ended_at(self) -> int:
        """When it served nobody any more: a stopping process serves to the end, a killed one may not."""
        if self.ended is None:
            return NEVER
        return since(self.ended) if self.ended["e"] == "kill" else int(self.ended["t"])

    def grace(self, deadline: int, slack: int) -> int:
        """The moment by which it must have acted on the deadline: a frozen process as soon as it goes on."""
        by = deadline + slack
        for begin, end in sorted(self.frozen):
            if begin <= by < end + slack:
                by = end + slack
        return by

    def index(self) -> None:
        """Sort the faults, so that they can be looked up."""
        self.faults.sort(key=lambda fault: fault.since)
        self._since = [fault.since for fault in self.faults]
        self._reach = list(accumulate((fault.until for fault in self.faults), max))

    def faulted(self, earlier: int, later: int) -> bool:
        """Whether one of its faults may have taken effect between these moments."""
        at = bisect_right(self._since, later) - 1
        return at >= 0 and self._reach[at] >= earlier

    def first_fault(self, after: int) -> Fault | None:
        """The first death or freeze that may have come after this moment."""
        for fault in self.faults[max(0, bisect_left(self._reach, after)) :]:
            if fault.until >= after and fault.kind in ("kill", "pause"):
                return fault
        return None


class Presence:
    """The number of processes that are there for a recipient, as a function of time."""

    def __init__(self) -> None:
        self._changes: list[tuple[int, int]] = []
        self._times: list[int] = []
        self._counts: list[int] = []

    def add(self, begin: int, end: int) -> None:
        if end > begin:
            self._changes += [(begin, 1), (end, -1)]

    def index(self) -> None:
        self._changes.sort()
        self._times = [moment for moment, _ in self._changes]
        self._counts = list(accumulate(change for _, change in self._changes))

    def most(self, earlier: int, later: int) -> int:
        """The greatest number in this span."""
        at = max(0, bisect_right(self._times, earlier) - 1)
        end = bisect_right(self._times, later)
        return max(self._counts[at:end], default=0)

    def first(self, after: int) -> int:
        """The first moment from `after` on at which there is one."""
        at = bisect_right(self._times, after) - 1
        if at >= 0 and self._counts[at] > 0:
            return after
        while at + 1 < len(self._times):
            at += 1
            if self._counts[at] > 0:
                return self._times[at]
        return after


class Facts:
    """The whole history, grouped."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.limits: Event = {}
        self.count = 0
        self.torn = 0
        self.calls: dict[tuple[str, int], Call] = defaultdict(Call)
        self.values: dict[str, Value] = {}
        self.messages: dict[str, Message] = {}
        self.processes: dict[str, Process] = {}
        self.depths: list[Event] = []
        self.others: dict[str, list[Event]] = defaultdict(list)
        """The events that concern asks, meetings and readings alone, by their names; each list in the order of time."""
        self.until = 0
        """The newest event."""
        self._unnamed: list[Event] = []
        for event in sorted(events, key=lambda event: event["t"]):
            self.count += 1
            self.until = event["t"]
            self._take(event)
        self._name_settlements()
        self._follow_hops()
        self._link_values()
        self._index_processes()
        self.alive, self.serving = self._index_presence()

    def message(self, id: str) -> Message:
        return self.messages.get(id) or self.messages.setdefault(id, Message(id))

    def value(self, name: str) -> Value:
        return self.values.get(name) or self.values.setdefault(name, Value(name))

    def process(self, name: str) -> Process:
        return self.processes.get(name) or self.processes.setdefault(name, Process(name))

    def _take(self, event: Event) -> None:
        match event["e"]:
            case "limits":
                self.limits = event
            case "torn":
                self.torn += 1
            case "start":
                self.process(event["p"]).started = event
            case "ready":
                self.process(event["p"]).ready = event
            case "stall":
                self.process(event["p"]).frozen.append((event["since"], event["t"]))
            case "stop" | "kill" | "pause" | "cut" as fault:
                process = self.process(str(event.get("who", event["p"])))
                process.faults.append(Fault(event, since(event), NEVER if fault == "pause" else event["t"]))
                if fault in ("stop", "kill"):
                    process.ended = event
            case "resume":
                process = self.process(str(event["who"]))
                for pause in process.faults:
                    if pause.kind == "pause" and pause.until == NEVER:
                        pause.until = event["t"]
                        process.frozen.append((pause.since, event["t"]))
            case "send.try" | "ask.try":
                call = self.calls[event["instance"], event["n"]]
                if call.tried is None:
                    call.tried = event
                    self.value(event["value"]).calls.append(call)
                else:
                    call.retried.append(event)
            case "send.ok" | "send.no" | "send.unknown" | "ask.ret":
                self.calls[event["instance"], event["n"]].outcomes.append(event)
            case "claim":
                self.message(event["message"]).claims.append(event)
            case "h.start":
                self.message(event["message"]).starts.append(event)
            case "h.end":
                self.message(event["message"]).ends.append(event)
            case "settle.ok" | "settle.stale":
                if "message" in event:
                    self._take_settlement(event["message"], event)
                else:
                    self._unnamed.append(event)
            case "withdraw":
                self.message(event["message"]).withdrawn.append(event)
            case "redrive":
                self.message(event["message"]).redriven.append(event)
            case "depth":
                self.depths.append(event)
            case "final":
                self.message(event["message"]).final = event
            case name:
                self.others[name].append(event)

    def _take_settlement(self, message_id: str, event: Event) -> None:
        message = self.message(message_id)
        (message.settled if event["e"] == "settle.ok" else message.stale).append(event)

    def _name_settlements(self) -> None:
        """A claim whose answer was lost is settled by its seq alone; what else has claimed it knows the message."""
        if not self._unnamed:
            return
        ids = {claim["seq"]: message.id for message in self.messages.values() for claim in message.claims}
        for event in self._unnamed:
            if event["seq"] in ids:
                self._take_settlement(ids[event["seq"]], event)

    def _follow_hops(self) -> None:
        """Give each agent that passed an ask on what it did with it: under the id of what stayed there.

        The id went along, so all of them have recorded the same.
        """
        for hop in sorted(self.others["hop"], key=lambda hop: int(hop["number"])):
            ask, kept = self.message(hop["message"]), self.message(hop["kept"])
            kept.has_stayed, kept.passed_to = True, ask.passed_to
            ask.passed_to.add(hop["to"])
            for name, key, mine in (
                ("claims", "seq", hop["seq"]),
                ("settled", "seq", hop["seq"]),
                ("stale", "seq", hop["seq"]),
                ("starts", "recipient", hop["by"]),
                ("ends", "recipient", hop["by"]),
            ):
                events: list[Event] = getattr(ask, name)
                setattr(kept, name, [event for event in events if event.get(key) == mine])
                setattr(ask, name, [event for event in events if event.get(key) != mine])

    def _link_values(self) -> None:
        """Tie messages to what was sent: by the ids that callers were told, then those they chose, then by value."""
        for opened in self.others["ask.open"]:
            value = self.values.get(opened.get("value", ""))
            if value is not None:
                value.ids.update((recipient, opened["message"]) for recipient in value.recipients)
        for value in self.values.values():
            for call in value.calls:
                for outcome in call.outcomes:
                    if outcome["e"] == "send.ok":
                        value.ids.update(zip(value.recipients, outcome["ids"], strict=False))
            if not value.ids and value.tried:
                value.ids.update(zip(value.recipients, value.tried.get("ids", ()), strict=False))
            for id in value.ids.values():
                message = self.message(id)
                message.value = message.value or value
        for message in self.messages.values():
            if message.value is None:
                names = (start.get("value") for start in message.starts)
                message.value = next((self.values[name] for name in names if name in self.values), None)

    def _index_processes(self) -> None:
        silence = int(self.limits.get("lease", 0) * SECOND)
        for process in self.processes.values():
            for fault in process.faults:
                if fault.kind == "pause":
                    if fault.until == NEVER:
                        process.frozen.append((fault.since, NEVER))
                    fault.since += silence
                    fault.until = min(fault.until, process.ended["t"] if process.ended else NEVER)
            process.faults = [fault for fault in process.faults if fault.since <= fault.until]
            process.index()

    def _index_presence(self) -> tuple[dict[str, Presence], dict[str, Presence]]:
        """The processes that serve each recipient: `alive` has those that said so and are not frozen, `serving` all.

        A process that did not say what it serves is taken to serve a recipient from its first run to its last.
        """
        runs: dict[tuple[str, str], tuple[int, int]] = {}
        recipients: set[str] = set()
        for message in self.messages.values():
            for start in message.starts:
                recipient = start.get("recipient", "")
                recipients.add(recipient)
                key = recipient, start["p"]
                begin, end = runs.get(key, (start["t"], start["t"]))
                runs[key] = min(begin, start["t"]), max(end, start["t"])
        alive = {recipient: Presence() for recipient in recipients}
        serving = {recipient: Presence() for recipient in recipients}

        declared = [process for process in self.processes.values() if process.started is not None]
        for process in declared:
            assert process.started is not None
            serves = process.started.get("serves", ())
            for recipient in recipients if EVERYBODY in serves else recipients.intersection(serves):
                begin, end = process.started["t"], process.ended_at
                serving[recipient].add(begin, end)
                for pause in process.faults:
                    if pause.kind == "pause":
                        alive[recipient].add(begin, min(since(pause.event), end))
                        begin = max(begin, pause.until)
                alive[recipient].add(begin, end)
        named = {process.name for process in declared}
        for (recipient, name), (begin, end) in runs.items():
            if name not in named:
                serving[recipient].add(begin, end + 1)
        for presence in (*alive.values(), *serving.values()):
            presence.index()
        return alive, serving
