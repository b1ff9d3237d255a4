"""I7, askers released: every ask of a process that lived returns once, in time, with what the store says became of it.

in time      by its deadline and `ask_slack` (0.5 s), a frozen process as soon as it goes on; a timeout not before
reply        the answer that was meant for this ask, as its run or its reply has it, and that the store recorded for it
ended        only after somebody began to end the conversation, in the thread of the ask
failed       only after the recipient's handler failed, or its process died or left
given up     a run is told that nobody waits for it only if that is so, and within `abandoned` seconds (15) after its
             asker has returned without an answer, or has died, if it waits to be told
parts        a reader is given the parts of one run, from the first on and without a gap, and those of another run only
             after it was told; before the answer of a run it is given all the parts of that run
afterwards   no ask is open past its deadline, no session is locked, and every answer that was settled is in its
             session, unread unless its ask was replied with it; the answer of an ask is in the thread of the ask
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from .facts import SECOND, Call, Facts, Message, since
from .history import Event
from .report import Report

SLACK = 0.5
ABANDONED = 15.0
GIVING_UP = SECOND // 10
"""The time that a call needs to say that it does not know, after it has waited for the store to the last moment."""
STATES = {"reply": {"replied"}, "timeout": {"timed_out"}, "ended": {"ended", "cancelled"}, "failed": {"failed"}}
"""The states in which an ask may have ended in the store, by how it returned."""


def judge_asks(facts: Facts, report: Report) -> None:
    """Judge all asks."""
    judge = _AskJudge(facts, report)
    for call in facts.calls.values():
        if call.tried is not None and call.tried["e"] == "ask.try":
            judge.released(call, call.tried)
            judge.recorded(call.tried)
            if call.outcomes:
                judge.truthful(call.tried, call.outcomes[0])
    judge.nothing_left()
    judge.answers_kept()
    judge.abandoned()
    judge.parts()
    report.overruns.sort()
    report.abandonments.sort()


class _AskJudge:
    def __init__(self, facts: Facts, report: Report) -> None:
        self.facts = facts
        self.report = report
        self.blame = report.blame
        self.slack = int(facts.limits.get("ask_slack", SLACK) * SECOND)
        self.finals: dict[str, Event] = {event["message"]: event for event in facts.others["ask.final"]}
        self.endings: dict[tuple[frozenset[str], str | None], list[Event]] = defaultdict(list)
        for ending in facts.others["end.try"]:
            self.endings[frozenset(ending["pair"]), ending.get("thread")].append(ending)
        self.given: dict[str, set[str]] = defaultdict(set)
        """Answers by the value of the ask."""
        for answer in facts.others["answer"]:
            self.given[answer["value"]].add(answer["hash"])

    def messages_of(self, tried: Event) -> Iterator[Message]:
        value = self.facts.values[tried["value"]]
        for id in value.ids.values():
            yield self.facts.messages[id]
        if not value.ids:
            yield from (message for message in self.facts.messages.values() if message.value is value)

    def released(self, call: Call, tried: Event) -> None:
        deadline = tried["t"] + int(tried["timeout"] * SECOND)
        process = self.facts.process(tried["p"])
        by = process.grace(deadline, self.slack)
        if not call.outcomes:
            self.report.asks["killed" if process.ended and process.ended["e"] == "kill" else "open"] += 1
            if min(process.ended_at, self.facts.until) > by:
                self.blame("I7", tried["value"], "it did not return by its deadline, or ever", tried)
            return
        returned = call.outcomes[0]
        self.report.asks[returned["how"]] += 1
        if returned["t"] > deadline:
            self.report.overruns.append((returned["t"] - deadline) / SECOND)
        if returned["t"] > by + (GIVING_UP if returned["how"] == "unknown" else 0):
            text = f"it returned {(returned['t'] - by + self.slack) / SECOND:.3f} s after its deadline"
            self.blame("I7", tried["value"], text, tried, returned)
        if returned["how"] == "timeout" and returned["t"] < deadline:
            text = f"it timed out {(deadline - returned['t']) / SECOND:.3f} s before its deadline"
            self.blame("I7", tried["value"], text, tried, returned)

    def truthful(self, tried: Event, returned: Event) -> None:
        how = returned["how"]
        for message in self.messages_of(tried):
            final = self.finals.get(message.id)
            if final is not None and how in STATES and not (how == "timeout" and tried.get("key")):
                if final["state"] not in STATES[how]:
                    text = f"it returned {how!r}, and the store says {final['state']!r}"
                    self.blame("I7", message.id, text, tried, returned, final)
                elif how == "reply" and final.get("answer") != returned.get("answer"):
                    text = "it returned another answer than the store has recorded for it"
                    self.blame("I7", message.id, text, tried, returned, final)
            if how == "reply" and returned.get("answer") not in self.meant(tried, message):
                self.blame("I7", message.id, "it returned an answer that nobody gave to it", tried, returned)
            if how == "failed" and not self.has_failed(message, returned["t"]):
                self.blame("I7", message.id, "it failed, and nothing had", tried, returned)
        if how == "ended":
            endings = self.endings[frozenset((tried["sender"], *tried["to"])), tried.get("thread")]
            if not any(ending["t"] < returned["t"] for ending in endings):
                self.blame("I7", tried["value"], "it was ended, and nobody had ended it", tried, returned)

    def recorded(self, tried: Event) -> None:
        """Judge what the store has as the answer, which its asker may not have lived to return."""
        for message in self.messages_of(tried):
            final = self.finals.get(message.id)
            if final is None or final["state"] != "replied":
                continue
            if final.get("answer") not in self.meant(tried, message):
                self.blame("I7", message.id, "the store has an answer that nobody gave to it", tried, final)

    def meant(self, tried: Event, message: Message) -> set[str]:
        """The answers that were meant for this ask. Each was recorded before it could be stored, so none is missing."""
        return self.given[tried["value"]] | {end["answer"] for end in message.ends if "answer" in end}

    def has_failed(self, message: Message, before: int) -> bool:
        if any(end["how"] != "ok" and end["t"] <= before for end in message.ends):
            return True
        runs = [(self.facts.process(event["p"]), since(event)) for event in (*message.claims, *message.starts)]
        return any(process.faulted(begin, before) for process, begin in runs)

    def nothing_left(self) -> None:
        for opened in self.facts.others["ask.open"]:
            final = self.finals.get(opened["message"])
            by = opened["t"] + int(opened["timeout"] * SECOND) + self.slack
            if final is not None and final["state"] == "open" and final["t"] > by:
                self.blame("I7", opened["message"], "it is open past its deadline", opened, final)
        for session in self.facts.others["session.final"]:
            if session.get("waiting"):
                self.blame("I7", session["session"], "it was left locked", session)

    def answers_kept(self) -> None:
        sessions = self.facts.others["session.final"]
        if not sessions:
            return
        kept_in: dict[str | None, set[str]] = defaultdict(set)
        for session in sessions:
            kept_in[session.get("thread")].update(session["bodies"])
        for opened in self.facts.others["ask.open"]:
            final = self.finals.get(opened["message"])
            answer = None if final is None else final.get("answer")
            if answer is not None and answer not in kept_in[opened.get("thread")]:
                self.blame("I7", opened["message"], "its answer is not in its thread", opened, final)
        kept = set[str]().union(*kept_in.values())
        unread = {body for session in sessions for body in session["unread"]}
        for message in self.facts.messages.values():
            for end in message.ends:
                settled = any(one["how"] == "done" and one["p"] == end["p"] for one in message.settled)
                if "answer" not in end or not settled or end["how"] != "ok":
                    continue
                final = self.finals.get(message.id)
                if end["answer"] not in kept:
                    self.blame("I7", message.id, "its answer was settled, and is in no session", end, final)
                elif final is not None and final["state"] != "replied":
                    self.report.late_answers += 1
                    if end["answer"] not in unread:
                        self.blame("I7", message.id, "its late answer is not kept unread", end, final)

    def abandoned(self) -> None:
        told = {(event["message"], event["p"]): event for event in self.facts.others["h.told"]}
        for event in told.values():
            final = self.finals.get(event["message"])
            if final is not None and final["state"] in ("open", "replied"):
                text = f"its run was told that nobody waits, and the store says {final['state']!r}"
                self.blame("I7", event["message"], text, event, final)
        for waits in self.facts.others["h.wait"]:
            final = self.finals.get(waits["message"])
            left_at = self.left_at(self.facts.message(waits["message"]))
            if final is None or final["state"] in ("open", "replied") or left_at is None:
                continue
            worker = self.facts.process(waits["p"])
            known = told.get((waits["message"], waits["p"]))
            limit = int(self.facts.limits.get("abandoned", ABANDONED) * SECOND)
            by = worker.grace(max(left_at, waits["t"]), limit)
            if known is not None:
                self.report.abandonments.append(max(known["t"] - max(left_at, waits["t"]), 0) / SECOND)
            if (known["t"] if known is not None else min(worker.ended_at, self.facts.until)) > by:
                self.blame("I7", waits["message"], "its run was not told in time that nobody waits", waits, known)

    def parts(self) -> None:
        """Judge what readers were given; each event tells the run that sent the part, and its number there."""
        read: dict[str, list[Event]] = defaultdict(list)
        for name in ("part", "part.anew", "part.end"):
            for event in self.facts.others[name]:
                read[event["value"]].append(event)
        for value, events in read.items():
            run, number = None, 0
            for event in sorted(events, key=lambda event: int(event["t"])):
                if event["e"] == "part.anew":
                    run, number = None, 0
                    self.report.parts["anew"] += 1
                    continue
                follows = number + 1 if event["e"] == "part" else number
                if (run or event["run"], follows) != (event["run"], event["n"]):
                    text = f"after part {number} of run {run} its reader was given {event['n']} of {event['run']}"
                    self.blame("I7", value, text, event)
                run, number = event["run"], event["n"]
                self.report.parts["given" if event["e"] == "part" else "read to the end"] += 1

    def left_at(self, message: Message) -> int | None:
        """When its asker had returned without an answer, or had died."""
        for call in message.value.calls if message.value is not None else ():
            if call.outcomes:
                return None if call.outcomes[0]["how"] == "reply" else int(call.outcomes[0]["t"])
            if call.tried is not None:
                return min(self.facts.process(call.tried["p"]).ended_at, self.facts.until)
        return None
