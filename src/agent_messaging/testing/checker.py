"""Judges a history: whether a run kept the promises, decided from what its processes recorded (see `history`).

The invariants, by the numbers of the reliability document:

    I1   no loss: what was accepted ends done after a run that ended well, or dead, expired or withdrawn, says the store
    I2   no ghosts: what runs was sent, once, to this recipient, with this body, and was not refused
    I3   settled once: one settlement ends a claim, one ends a message, and nothing runs or is claimed after it
    I4   fencing: tokens rise from claim to claim, and only the newest settles
    I5   justified repeats: a message runs again only after its process died, froze, stopped or lost the store, its run
         failed, its lease ended, or it was redriven
    I6   take-over: what a process held in a handler when it died or froze runs again in time
    I7   askers released: see `asks`
    I8   turn exclusion, and
    I9   turn timeouts: see `meetings`
    I10  logs only grow: see `feeds`
    I11  order: first runs in a thread come in the order of the calls of one SDK object, while one process serves the
         recipient
    I12  containment: attempts stay within the limit and have causes; what must die does, and costs nobody else
    I13  bounds: no mailbox over its limit; every call has one outcome, and no message ends without a reason

No search is needed: the store hands out tokens and the callers number their calls, so each invariant is one pass over
the grouped facts. An event that was recorded later than it took effect has the benefit of the doubt (`since`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from .asks import judge_asks
from .facts import ACCEPTED, REFUSED, SECOND, UNKNOWN, Facts, Message, Value, outcome_of, since
from .feeds import judge_feeds
from .history import Event
from .meetings import judge_meetings
from .report import Report

OPEN_STATES = ("queued", "claimed")


def check(events: Iterable[Event]) -> Report:
    """Judge a history, in any order of its events."""
    return _Judge(Facts(events)).judge()


class _Judge:
    """One method per invariant; each adds to the report what it counts and what it finds broken."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.faults = sum(fault.kind != "stop" for process in facts.processes.values() for fault in process.faults)
        self.report = Report(events=facts.count, processes=len(facts.processes), torn=facts.torn)
        self.blame = self.report.blame

    def judge(self) -> Report:
        self.no_loss()
        self.no_ghosts()
        for message in self.facts.messages.values():
            self.settled_once(message)
            self.fencing(message)
            self.repeats(message)
            self.takeovers(message)
            self.containment(message)
            self.reasons(message)
        self.order()
        self.bounds()
        judge_asks(self.facts, self.report)
        judge_meetings(self.facts, self.report)
        judge_feeds(self.facts, self.report)
        self.report.takeovers_after_kill.sort()
        self.report.takeovers_after_pause.sort()
        return self.report

    # --- I1 -----------------------------------------------------------------------------------------------------------

    def no_loss(self) -> None:
        drained = any(message.final for message in self.facts.messages.values())
        acked: set[str] = set()
        for value in self.facts.values.values():
            if value.outcome == ACCEPTED:
                acked.update(value.ids.values())
            elif value.outcome == UNKNOWN:
                self.report.unknown += len(value.recipients)
            else:
                self.report.refused += len(value.recipients)
        self.report.acked = len(acked)
        if acked and not drained:
            self.report.lost = len(acked)
            self.blame("I1", None, "no final state was recorded, so nothing shows that what was accepted is not lost")
            return
        for message in self.facts.messages.values():
            if message.value is not None and message.value.outcome == UNKNOWN:
                self.report.recovered += bool(message.starts)
            # What was claimed or ran was stored, whether or not its sender knows.
            if message.id in acked or message.starts or message.claims:
                self.lost(message)

    def lost(self, message: Message) -> None:
        if message.state in (None, "missing"):
            text = "it was stored, and is not in the store"
        elif message.final is not None and message.final.get("waits"):
            return
        elif message.state in OPEN_STATES:
            text = f"it is still {message.state} although the run was drained"
        elif message.state == "done" and not message.starts and _is_note(message):
            text = "it is done, and no handler ever ran"
        elif message.state == "done" and _is_note(message) and not any(end["how"] == "ok" for end in message.ends):
            text = "it is done, and no run of it ended well"
        else:
            return
        self.report.lost += 1
        self.blame("I1", message.id, f"lost: {text}", message.tried, message.final)

    # --- I2 -----------------------------------------------------------------------------------------------------------

    def no_ghosts(self) -> None:
        places: dict[tuple[str, str], str] = {}
        for value in self.facts.values.values():
            places.update({(value.name, recipient): id for recipient, id in value.ids.items()})
        for message in self.facts.messages.values():
            if message.value is None:
                if message.starts:
                    self.ghost(message, "it was never sent", message.starts[0])
                continue
            value = message.value
            if value.outcome == REFUSED and (message.starts or message.state not in (None, "missing")):
                self.ghost(message, "it was refused", value.tried, *message.starts[:1], message.final)
            else:
                for start in message.starts:
                    text = self.foreign(message, value, start, places)
                    if text:
                        self.ghost(message, text, value.tried, start)
                        break

    def foreign(self, message: Message, value: Value, start: Event, places: dict[tuple[str, str], str]) -> str | None:
        """Say what about this run was not sent like that, if anything."""
        tried = value.tried
        if tried is None:
            return "nobody tried to send it"
        recipient = start.get("recipient", tried["to"][0])
        if recipient not in tried["to"] and recipient not in message.passed_to:
            return f"it was not sent to {recipient!r}"
        if start.get("value", value.name) != value.name:
            return f"it has the body of {start['value']!r}"
        for name in ("hash", "org"):
            if name in tried and name in start and tried[name] != start[name]:
                return f"it runs with another {'body' if name == 'hash' else 'organization'} than it was sent with"
        if message.has_stayed:  # the ask was there under its own id
            return None
        other = places.setdefault((value.name, recipient), message.id)
        if other != message.id:
            return f"it was sent once and stored twice, also as {other}"
        return None

    def ghost(self, message: Message, text: str, *events: Event | None) -> None:
        self.report.ghosts += 1
        self.blame("I2", message.id, f"ghost: {text}", *events)

    # --- I3 -----------------------------------------------------------------------------------------------------------

    def settled_once(self, message: Message) -> None:
        for settled in message.settled if message.has_stayed else ():
            if settled["how"] in ("done", "dead"):
                self.report.settled_twice += 1
                self.blame("I3", message.id, "a run that passed it on has settled it too", settled)
        by_token: dict[int, Event] = {}
        endings: list[Event] = []
        for settled in message.settled:
            first = by_token.setdefault(settled["token"], settled)
            if first is not settled:
                self.report.settled_twice += 1
                self.blame("I3", message.id, "its claim was settled twice", first, settled)
            elif settled["how"] in ("done", "dead"):
                if endings and not message.redriven_between(since(endings[-1]), settled["t"]):
                    self.report.settled_twice += 1
                    self.blame("I3", message.id, "settled twice: two claims ended it", endings[-1], settled)
                endings.append(settled)
        for ending in endings:
            for claim in message.claims:
                if since(claim) > ending["t"] and not message.redriven_between(since(ending), claim["t"]):
                    self.blame("I3", message.id, "it was claimed after it had been settled", ending, claim)
            for start in message.starts:
                if start["t"] <= ending["t"] or message.redriven_between(since(ending), start["t"]):
                    continue
                if not (start.get("token") != ending["token"] and self.was_frozen(message, start)):
                    self.blame("I3", message.id, "it ran after it had been settled", ending, start)

    def was_frozen(self, message: Message, start: Event) -> bool:
        """Whether this run's process may have lost its claim, without a chance to know, before the run began."""
        return self.facts.process(start["p"]).faulted(message.claimed_by(start), start["t"])

    # --- I4 -----------------------------------------------------------------------------------------------------------

    def fencing(self, message: Message) -> None:
        self.report.stale_refused += len(message.stale)
        granted: dict[int, Event] = {}
        for claim in message.claims:
            first = granted.setdefault(claim["token"], claim)
            if first is not claim and not (claim.get("again") and claim["p"] == first["p"]):
                self.blame("I4", message.id, f"token {claim['token']} was given to two claims", first, claim)
        higher: Event | None = None
        """The claim with a higher token that was answered first."""
        for token in sorted(granted, reverse=True):
            claim = granted[token]
            if higher is not None and since(claim) > higher["t"]:
                self.blame("I4", message.id, f"token {token} was given after token {higher['token']}", higher, claim)
            for settled in message.settled:
                if settled["token"] < token and claim["t"] < since(settled):
                    self.report.wrong_accepted += 1
                    text = f"a settlement under token {settled['token']} was accepted after token {token} was given"
                    self.blame("I4", message.id, text, claim, settled)
                elif settled["token"] == token and settled["p"] != claim["p"]:
                    self.report.wrong_accepted += 1
                    self.blame("I4", message.id, "it was settled under another process's token", claim, settled)
            if higher is None or claim["t"] < higher["t"]:
                higher = claim

    # --- I5 -----------------------------------------------------------------------------------------------------------

    def repeats(self, message: Message) -> None:
        newest: Event | None = None
        for start in message.starts:
            if newest is None:
                newest = start
                continue
            # A run that begins after a newer claim's run had its cause in its own process, which could not know.
            late = _is_older(start, newest) and not message.redriven_between(newest["t"], start["t"])
            if self.was_frozen(message, start) if late else self.has_cause(message, newest, start):
                self.report.justified_repeats += 1
            else:
                self.report.unjustified_repeats += 1
                self.blame("I5", message.id, "it ran again without a cause", newest, start)
            if not late:
                newest = start

    def has_cause(self, message: Message, run: Event, repeat: Event) -> bool:
        """Whether something between this run and its repeat explains that it was repeated."""
        begin, end = run["t"], repeat["t"]
        if "left" in run and begin + int(run["left"] * SECOND) <= end:
            return True
        ended = message.end_of(run)
        if ended is not None and ended["how"] != "ok" and ended["t"] <= end:
            return True
        if message.redriven_between(begin, end):
            return True
        return self.facts.process(run["p"]).faulted(message.claimed_by(run), end)

    # --- I6 -----------------------------------------------------------------------------------------------------------

    def takeovers(self, message: Message) -> None:
        for run, repeat in pairwise(message.starts):
            fault = self.facts.process(run["p"]).first_fault(run["t"])
            ended = message.end_of(run)
            if fault is None or repeat["t"] < since(fault.event) or (ended is not None and ended["t"] <= repeat["t"]):
                continue
            # While nobody serves the recipient, nobody can take over.
            possible = self.facts.alive[run.get("recipient", "")].first(since(fault.event))
            seconds = max(0, repeat["t"] - possible) / SECOND
            times = self.report.takeovers_after_kill if fault.kind == "kill" else self.report.takeovers_after_pause
            times.append(seconds)
            limit = self.facts.limits.get(f"takeover_{fault.kind}")
            if limit is not None and seconds > limit:
                text = (
                    f"it was taken over {seconds:.3f} s after the {fault.kind} of its process, promised are {limit:g} s"
                )
                self.blame("I6", message.id, text, run, fault.event, repeat)

    # --- I11 ----------------------------------------------------------------------------------------------------------

    def order(self) -> None:
        lanes: dict[tuple[str, str, str, str, str | None], list[tuple[int, int, Message]]] = defaultdict(list)
        for message in self.facts.messages.values():
            if message.value is not None and message.starts and _is_ordered(message):
                tried, start = message.tried, message.starts[0]
                assert tried is not None
                recipient = start.get("recipient", tried["to"][0])
                lane = (tried["instance"], tried["sender"], recipient, tried["kind"], tried.get("thread"))
                lanes[lane].append((start["t"], tried["n"], message))
        for (_, _, recipient, *_), runs in lanes.items():
            runs.sort(key=lambda run: run[0])
            serving = self.facts.serving.get(recipient)
            for (_, number, message), (later, next_number, next_message) in pairwise(runs):
                self.report.order_pairs += 1
                if number <= next_number:
                    continue
                tried = next_message.tried
                assert tried is not None
                if serving is None or serving.most(tried["t"], later) <= 1:
                    self.report.order_violations += 1
                    text = f"call {next_number} had its first run after call {number}"
                    self.blame("I11", next_message.id, text, tried, message.starts[0], next_message.starts[0])

    # --- I12 ----------------------------------------------------------------------------------------------------------

    def containment(self, message: Message) -> None:
        attempts = [event["attempt"] for event in (*message.claims, *message.starts) if "attempt" in event]
        final = message.final or {}
        most = max([*attempts, final.get("attempt", 0)], default=0)
        self.report.attempts_max = max(self.report.attempts_max, most)
        limit = self.facts.limits.get("max_attempts", final.get("max_attempts"))
        if limit is not None and most > limit:
            self.blame("I12", message.id, f"it had {most} attempts of {limit}", *message.starts[-1:], message.final)
        if message.redriven:
            return
        if message.state is not None and message.expects_death() and message.state != "dead":
            self.blame("I12", message.id, f"it should have died, and is {message.state}", message.tried, message.final)
        if message.expects_death():
            return
        # An ask is not tried again when its handler has failed: its asker is told.
        was_told = not _is_note(message) and any(end["how"] != "ok" for end in message.ends)
        if message.state == "dead" and limit is not None and final["attempt"] < limit and not was_told:
            text = f"it was given up after {final['attempt']} of {limit} attempts"
            self.blame("I12", message.id, text, message.tried, message.final)
        bystander = self.facts.limits.get("bystander_attempts")
        if bystander is not None and most > bystander:
            text = f"it needed {most} attempts, {bystander} at most are promised to a bystander"
            self.blame("I12", message.id, text, message.tried, *message.starts, message.final)
        failures = sum(end["how"] != "ok" for end in message.ends)
        leases = sum("left" in start for start in message.starts)
        if most > 1 + failures + leases + self.faults:
            self.blame("I12", message.id, f"{most} attempts have too few causes", *message.starts, message.final)

    # --- I13 ----------------------------------------------------------------------------------------------------------

    def bounds(self) -> None:
        limit = self.facts.limits.get("mailbox")
        for sample in self.facts.depths:
            self.report.depth_max = max(self.report.depth_max, sample["depth"])
            if limit is not None and sample["depth"] > limit:
                text = f"the mailbox of {sample['recipient']!r} held {sample['depth']}, its limit is {limit}"
                self.blame("I13", None, text, sample)
        for (instance, number), call in self.facts.calls.items():
            name = f"call {number} of {instance!r}"
            if call.tried is None:
                self.blame("I13", None, f"{name} has an outcome and was never tried", *call.outcomes)
                self.report.calls[_OUTCOMES[call.outcome]] += 1
                continue
            self.report.calls["tried"] += 1
            for outcome in call.outcomes or ({"e": UNKNOWN},):
                self.report.calls[_OUTCOMES[outcome_of(outcome)]] += 1
            if len(call.outcomes) > 1 or call.retried:
                self.blame("I13", None, f"{name} has two outcomes", call.tried, *call.retried, *call.outcomes)
            ids = call.outcomes[0].get("ids") if call.outcome == ACCEPTED else None
            if ids is not None and len(ids) != len(call.tried["to"]):
                text = f"{name} dropped messages: {len(call.tried['to'])} recipients, {len(ids)} ids"
                self.blame("I13", None, text, call.tried, call.outcomes[0])
            caller = self.facts.process(call.tried["p"])
            if not call.outcomes and caller.ended is not None and caller.ended["e"] == "stop":
                self.blame("I13", None, f"{name} has no outcome although its process ended in order", call.tried)

    def reasons(self, message: Message) -> None:
        """A message may end unhandled, but never in silence."""
        if message.state == "dead" and message.final and not message.final.get("reasons"):
            self.blame("I13", message.id, "dropped: it is dead without a reason", message.tried, message.final)
        elif message.state == "expired" and message.tried and not message.tried.get("expires"):
            self.blame("I13", message.id, "dropped: it expired and had no expiry", message.tried, message.final)
        elif message.state == "withdrawn" and not message.withdrawn:
            self.blame(
                "I13", message.id, "dropped: it is withdrawn and nobody withdrew it", message.tried, message.final
            )


_OUTCOMES = {ACCEPTED: "accepted", REFUSED: "refused", UNKNOWN: "unknown"}


def _is_older(start: Event, newest: Event) -> bool:
    """Whether this run's claim was made before that of a run that began earlier."""
    if "token" in start and "token" in newest:
        return bool(start["token"] < newest["token"])
    return bool(start["attempt"] < newest["attempt"])


def _is_note(message: Message) -> bool:
    """Whether only a run that ended well ends it; a conversation's message may be read, or answered by a failure."""
    return message.tried is None or bool(message.tried["kind"] == "one_way")


def _is_ordered(message: Message) -> bool:
    """Whether the promise of order covers the first run of this message."""
    first, tried = message.starts[0], message.tried
    if tried is None or tried.get("scheduled") or (message.value is not None and len(message.value.calls) > 1):
        return False
    tokens = [claim["token"] for claim in message.claims if claim["t"] <= first["t"]]
    return first["attempt"] == 1 and first.get("token", 1) == 1 and max(tokens, default=1) == 1
