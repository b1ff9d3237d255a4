"""The checker on asks, meetings and readings: silent about right histories, and it names what a fault breaks."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_messaging.testing.checker import check
from agent_messaging.testing.history import Event
from agent_messaging.testing.report import Report

SECOND = 1_000_000_000
EPOCH = 1_800_000_000.0
"""The wall clock when the history's stands at 0."""
CREW = ("alice", "bob", "carol")
TURN = 1.0


class Run:
    """Askers, a responder and a meeting in virtual time, under faults that a seed draws; it keeps every promise."""

    def __init__(self, seed: int, *, asks: int = 12, turns: int = 12) -> None:
        self.random = random.Random(seed)
        self.events: list[Event] = []
        self.unread: dict[str | None, list[str]] = {None: [], "a": []}
        """Answers by their threads."""
        self.bodies: dict[str | None, list[str]] = {None: [], "a": []}
        self.tell(0.0, "responder", "start", serves=["bob"])
        for name in ("asker", "responder"):
            self.tell(0.001, name, "ready")
        moment = 1.0
        for n in range(asks):
            moment = self.ask(n, moment)
        for thread, bodies in self.bodies.items():
            kept = {"bodies": bodies, "unread": self.unread[thread], "thread": thread}
            self.tell(moment, "test", "session.final", session=f"s{thread or ''}", **kept)
        for n in range(1, len(self.bodies[None]) + 1):
            since = int((moment + n) * SECOND)
            items = self.bodies[None][:n]
            self.tell(moment + n + 0.5, "reader", "read", feed="session:s", items=items, since=since)
        self.meet(moment + 100.0, turns)

    def tell(self, at: float, process: str, event: str, **fields: Any) -> None:
        known = {name: value for name, value in fields.items() if value is not None}
        self.events.append({"t": int(at * SECOND), "p": process, "e": event, **known})

    # --- asks ---------------------------------------------------------------------------------------------------------

    def ask(self, n: int, at: float) -> float:
        """One ask, from its try to its dump; the moment after it."""
        call: dict[str, Any] = {"n": n, "instance": "asker", "value": f"v{n}"}
        timeout, thread = 1.0, self.random.choice([None, "a"])
        self.tell(
            at,
            "asker",
            "ask.try",
            thread=thread,
            **call,
            sender="alice",
            to=["bob"],
            kind="conversation",
            timeout=timeout,
            expires=True,
        )
        fate = self.random.choice(
            ["reply", "reply", "timeout", "late", "told", "ended", "failed", "frozen", "refused", "killed"]
        )
        if fate == "refused":
            self.tell(at + 0.01, "asker", "ask.ret", **call, how="refused", code="mutual_wait")
            return at + 2.0
        id, answer = f"m{n}", f"answer-{n}"
        opened = {"message": id, "value": f"v{n}", "timeout": timeout, "since": int(at * SECOND), "thread": thread}
        self.tell(at + 0.01, "asker", "ask.open", **opened)
        run = {"message": id, "attempt": 1}
        begin = at + 0.02
        self.tell(begin, "responder", "claim", **run, seq=n, token=1, since=int(begin * SECOND))
        self.tell(begin + 0.01, "responder", "h.start", **run, value=f"v{n}", recipient="bob")
        ends = at + 1.3 if fate in ("timeout", "late", "told", "frozen", "killed") else at + 0.5
        if fate == "told":
            self.tell(begin + 0.02, "responder", "h.wait", message=id)
            self.tell(at + 1.2, "responder", "h.told", message=id)
        how = "err" if fate == "failed" else "ok"
        self.tell(ends, "responder", "h.end", **run, how=how, answer=None if how == "err" else answer)
        settled = {"message": id, "seq": n, "token": 1, "how": "dead" if how == "err" else "done"}
        self.tell(ends + 0.01, "responder", "settle.ok", **settled, since=int(ends * SECOND))
        if how == "ok":
            self.bodies[thread].append(answer)
            if fate != "reply":
                self.unread[thread].append(answer)
        state = {"reply": "replied", "ended": "ended", "failed": "failed"}.get(fate, "timed_out")
        returned = {"reply": ends + 0.02, "failed": ends + 0.02, "ended": at + 0.3}.get(
            fate, at + 1.0 + self.random.random() * 0.4
        )
        if fate == "ended":
            self.tell(at + 0.2, "other", "end.try", pair=["bob", "alice"], thread=thread)
        if fate == "frozen":
            self.tell(at + 0.5, "test", "pause", who="asker", since=int((at + 0.5) * SECOND))
            self.tell(at + 3.0, "test", "resume", who="asker")
            returned = at + 3.1
        if fate != "killed":
            name = fate if fate in ("reply", "ended", "failed") else "timeout"
            self.tell(returned, "asker", "ask.ret", **call, how=name, answer=answer if name == "reply" else None)
        else:  # an incarnation of its own
            for event in self.events:
                if event.get("value") == f"v{n}" and event["p"] == "asker":
                    event["p"] = event["instance"] = f"asker-{n}"
            self.tell(at + 0.6, "test", "kill", who=f"asker-{n}", since=int((at + 0.55) * SECOND))
        final = {"attempt": 1, "token": 1, "max_attempts": 1 if how == "err" else 5, "reasons": ["it failed"]}
        self.tell(at + 4.0, "test", "final", message=id, state="dead" if how == "err" else "done", **final)
        self.tell(at + 4.0, "test", "ask.final", message=id, state=state, answer=answer if state == "replied" else None)
        return at + 5.0

    # --- meetings -----------------------------------------------------------------------------------------------------

    def meet(self, at: float, count: int) -> None:
        turns: list[dict[str, Any]] = []
        said: list[dict[str, Any]] = []
        for agent in CREW:
            self.tell(at - 1.0, f"process-{agent}", "ready")
        place = 0
        for number in range(1, count + 1):
            agent = CREW[place]
            turn = {
                "number": number,
                "agent": agent,
                "purpose": "speak",
                "started": EPOCH + at,
                "deadline": EPOCH + at + TURN,
            }
            self.tell(
                at + 0.01,
                f"process-{agent}",
                "turn.shown",
                meeting="m",
                agent=agent,
                turn=number,
                deadline=turn["deadline"],
            )
            speech = {"value": f"s{number}", "meeting": "m", "agent": agent, "turn": number}
            following = (place + 1) % len(CREW)
            if self.random.random() < 0.3:
                at += TURN + self.random.random() * 0.3
                turn |= {"how": "timed_out", "ended": EPOCH + at, "message": None}
                self.tell(
                    at + 0.01,
                    "process-bob",
                    "act.ok",
                    meeting="m",
                    act="time_out",
                    ended_turn=number,
                    since=int(at * SECOND),
                )
                late = {"meeting": "m", "act": "speak", "number": number, "value": f"late{number}"}
                self.tell(at + 0.02, f"process-{agent}", "act.no", **late, why="turn_lost")
                self.tell(at + 0.02, f"process-{agent}", "speak.no", **speech, code="turn_lost")
            else:
                named = self.random.random() < 0.2
                following = self.random.randrange(3) if named else following
                self.tell(at + 0.1, f"process-{agent}", "speak.try", **speech, next=CREW[following] if named else None)
                at += 0.1 + self.random.random() * 0.5
                turn |= {"how": "spoke", "ended": EPOCH + at, "message": f"id{number}"}
                said.append({"id": f"id{number}", "sender": agent, "value": f"s{number}"})
                self.tell(
                    at + 0.01,
                    f"process-{agent}",
                    "act.ok",
                    meeting="m",
                    act="speak",
                    number=number,
                    value=f"s{number}",
                    ended_turn=number,
                    since=int(at * SECOND),
                )
                self.tell(at + 0.02, f"process-{agent}", "speak.ok", **speech)
            turns.append(turn)
            place = following
        reason, deadline, most = "max_turns", EPOCH + at + 100.0, count
        if self.random.random() < 0.5:  # its time is over in one turn more
            number, agent = count + 1, CREW[place]
            reason, deadline, most = "max_duration", max(EPOCH + at + 0.4, turns[-1]["deadline"]), count + 1
            turns.append({"number": number, "agent": agent, "purpose": "speak", "started": EPOCH + at})
            at = deadline - EPOCH + self.random.random() * 0.3
            turns[-1] |= {"deadline": deadline, "how": "meeting_ended", "ended": EPOCH + at, "message": None}
            fired = {"meeting": "m", "act": "time_out", "ended_turn": number, "since": int(at * SECOND)}
            self.tell(at + 0.01, "process-carol", "act.ok", **fired)
            most += self.random.randrange(2)
        timeouts = [turn["number"] for turn in turns if turn["how"] == "timed_out"]
        seats = [{"agent": agent, "order": order} for order, agent in enumerate(CREW)]
        facts = {
            "host": "alice",
            "status": "ended",
            "selection": "round_robin",
            "duration": TURN,
            "max_turns": most,
            "deadline": deadline,
            "reason": reason,
            "endings": [reason],
            "endings_noted": 1,
            "utc": EPOCH + at + 1.0,
        }
        found = {"seats": seats, "turns": turns, "said": said, "timeouts": timeouts, "noted": len(timeouts)}
        self.tell(at + 1.0, "test", "meeting.final", meeting="m", **facts, **found)


@given(st.integers(0, 1 << 32))
@settings(max_examples=60)
def test_no_false_alarm(seed: int) -> None:
    check(Run(seed).events).assert_ok()


def test_what_a_simulated_run_contains() -> None:
    reports = [check(Run(seed).events) for seed in range(10)]
    assert all(sum(report.asks[how] for report in reports) for how in ("reply", "timeout", "ended", "failed", "killed"))
    assert all(sum(getattr(report, name) for report in reports) for name in ("late_answers", "lost_turns", "reads"))
    assert all(sum(report.turns[how] for report in reports) for how in ("spoke", "timed_out"))


Fault = Callable[[list[Event], random.Random], bool]
"""Puts one fault into a history; False if it has no place for it."""
FAULTS: list[tuple[str, Fault]] = []


def fault(invariant: str) -> Callable[[Fault], Fault]:
    def add(function: Fault) -> Fault:
        FAULTS.append((invariant, function))
        return function

    return add


def pick(events: list[Event], random: random.Random, **fields: Any) -> Event | None:
    found = [event for event in events if all(event.get(name) == value for name, value in fields.items())]
    return random.choice(found) if found else None


def meeting_of(events: list[Event]) -> Event:
    return next(event for event in events if event["e"] == "meeting.final")


def pick_turn(events: list[Event], random: random.Random, how: str) -> Event | None:
    return pick(meeting_of(events)["turns"], random, how=how)


@fault("I7")
def never_return(events: list[Event], random: random.Random) -> bool:
    returned = pick(events, random, e="ask.ret")
    if returned is not None:
        events.remove(returned)
    return returned is not None


@fault("I7")
def return_late(events: list[Event], random: random.Random) -> bool:
    returned = pick(events, random, e="ask.ret", how="timeout")
    if returned is None:
        return False
    returned["t"] += 3 * SECOND
    return True


@fault("I7")
def time_out_early(events: list[Event], random: random.Random) -> bool:
    returned = pick(events, random, e="ask.ret", how="timeout")
    if returned is None:
        return False
    tried = pick(events, random, e="ask.try", value=returned["value"])
    assert tried is not None
    returned["t"] = tried["t"] + SECOND // 2
    return True


@fault("I7")
def return_anothers_answer(events: list[Event], random: random.Random) -> bool:
    returned = pick(events, random, e="ask.ret", how="reply")
    if returned is None:
        return False
    returned["answer"] = "another"
    return True


@fault("I7")
def take_something_else_for_the_answer(events: list[Event], random: random.Random) -> bool:
    """What nobody meant as one is recorded and returned as the answer, and the run has not answered yet."""
    returned = pick(events, random, e="ask.ret", how="reply")
    if returned is None:
        return False
    end = pick(events, random, e="h.end", message=f"m{returned['value'][1:]}")
    assert end is not None
    events.remove(end)
    return True


@fault("I7")
def record_something_else_as_the_answer(events: list[Event], random: random.Random) -> bool:
    """Its asker was killed, so that the store alone knows."""
    asked = {event["message"]: event for event in events if event["e"] == "ask.open"}
    returned = {event["value"] for event in events if event["e"] == "ask.ret"}
    killed = [id for id, event in asked.items() if event["value"] not in returned]
    final = pick(events, random, e="ask.final", message=random.choice(killed)) if killed else None
    if final is None:
        return False
    final |= {"state": "replied", "answer": "a status"}
    return True


@fault("I7")
def time_out_although_replied(events: list[Event], random: random.Random) -> bool:
    final = pick(events, random, e="ask.final", state="timed_out")
    if final is None or pick(events, random, e="ask.ret", value=f"v{final['message'][1:]}") is None:
        return False
    final["state"] = "replied"
    return True


@fault("I7")
def end_by_itself(events: list[Event], random: random.Random) -> bool:
    before = len(events)
    events[:] = [event for event in events if event["e"] != "end.try"]
    return len(events) < before


@fault("I7")
def fail_without_a_failure(events: list[Event], random: random.Random) -> bool:
    end = pick(events, random, e="h.end", how="err")
    if end is None:
        return False
    events.remove(end)
    return True


@fault("I7")
def tell_a_run_too_late_that_nobody_waits(events: list[Event], random: random.Random) -> bool:
    told = pick(events, random, e="h.told")
    if told is None:
        return False
    if random.random() < 0.5:
        events.remove(told)
    else:
        told["t"] += 20 * SECOND
    return True


@fault("I7")
def tell_a_run_that_nobody_waits_which_is_answered(events: list[Event], random: random.Random) -> bool:
    final = pick(events, random, e="ask.final", state="replied")
    if final is None:
        return False
    events.append({"t": final["t"] - SECOND, "p": "responder", "e": "h.told", "message": final["message"]})
    return True


@fault("I7")
def leave_an_ask_open(events: list[Event], random: random.Random) -> bool:
    final = pick(events, random, e="ask.final")
    if final is None:
        return False
    final["state"] = "open"
    return True


@fault("I7")
def leave_a_session_locked(events: list[Event], random: random.Random) -> bool:
    next(event for event in events if event["e"] == "session.final")["waiting"] = "alice"
    return True


@fault("I7")
def keep_an_answer_in_another_thread(events: list[Event], random: random.Random) -> bool:
    replied = pick(events, random, e="ask.final", state="replied")
    if replied is None:
        return False
    first, second = (event["bodies"] for event in events if event["e"] == "session.final")
    of, to = (first, second) if replied["answer"] in first else (second, first)
    of.remove(replied["answer"])
    to.append(replied["answer"])
    return True


@fault("I7")
def end_another_thread(events: list[Event], random: random.Random) -> bool:
    if pick(events, random, e="end.try") is None:
        return False
    for event in events:
        if event["e"] == "end.try":
            event["thread"] = "b"
    return True


@fault("I7")
def lose_a_late_answer(events: list[Event], random: random.Random) -> bool:
    late = [event for event in events if event["e"] == "session.final" and event["unread"]]
    if not late:
        return False
    session = random.choice(late)
    lost = random.choice(session["unread"])
    session["unread"].remove(lost)
    if random.random() < 0.5:
        session["bodies"].remove(lost)
    return True


@fault("I8")
def skip_a_number(events: list[Event], random: random.Random) -> bool:
    for turn in meeting_of(events)["turns"][3:]:
        turn["number"] += 1
    return True


@fault("I8")
def end_a_turn_twice(events: list[Event], random: random.Random) -> bool:
    spoken = pick(events, random, e="act.ok", act="speak")
    if spoken is None:
        return False
    events.append({**spoken, "t": spoken["t"] + 1, "p": "another"})
    return True


@fault("I8")
def speak_under_an_old_turn(events: list[Event], random: random.Random) -> bool:
    refused = pick(events, random, e="speak.no")
    if refused is None:
        return False
    refused["e"] = "speak.ok"
    return True


@fault("I8")
def lose_what_a_turn_handler_said(events: list[Event], random: random.Random) -> bool:
    spoken = pick(events, random, e="act.ok", act="speak")
    if spoken is None:
        return False
    spoken["value"] = "unheard"
    return True


@fault("I8")
def store_what_a_turn_handler_said_in_another_turn(events: list[Event], random: random.Random) -> bool:
    spoken = [event for event in events if event["e"] == "act.ok" and event["act"] == "speak"]
    if len(spoken) < 2:
        return False
    spoken[0]["value"] = spoken[1]["value"]
    return True


@fault("I8")
def store_what_a_turn_handler_said_too_late(events: list[Event], random: random.Random) -> bool:
    refused = pick(events, random, e="act.no")
    if refused is None:
        return False
    meeting_of(events)["said"].append({"id": "x", "sender": "bob", "value": refused["value"]})
    return True


@fault("I8")
def store_what_was_refused(events: list[Event], random: random.Random) -> bool:
    refused = pick(events, random, e="speak.no")
    if refused is None:
        return False
    meeting_of(events)["said"].append({"id": "x", "sender": refused["agent"], "value": refused["value"]})
    return True


@fault("I8")
def lose_a_speech(events: list[Event], random: random.Random) -> bool:
    said = meeting_of(events)["said"]
    if said:
        said.remove(random.choice(said))
    return bool(meeting_of(events)["said"])


@fault("I8")
def give_the_turn_to_somebody_else(events: list[Event], random: random.Random) -> bool:
    turns = meeting_of(events)["turns"]
    turns[-1]["agent"] = "dave"
    return True


@fault("I8")
def move_a_deadline(events: list[Event], random: random.Random) -> bool:
    turn = random.choice(meeting_of(events)["turns"])
    turn["deadline"] += 0.5
    return True


@fault("I9")
def fire_early(events: list[Event], random: random.Random) -> bool:
    turn = pick_turn(events, random, "timed_out")
    if turn is None:
        return False
    turn["ended"] = turn["started"] + 0.5
    return True


@fault("I9")
def fire_twice(events: list[Event], random: random.Random) -> bool:
    timeouts = meeting_of(events)["timeouts"]
    timeouts += timeouts[:1]
    return bool(timeouts)


@fault("I9")
def fire_late(events: list[Event], random: random.Random) -> bool:
    turn = pick_turn(events, random, "timed_out")
    if turn is None:
        return False
    turn["ended"] += 3.0
    return True


@fault("I9")
def fire_in_a_turn_that_was_used(events: list[Event], random: random.Random) -> bool:
    turn = pick_turn(events, random, "spoke")
    if turn is None:
        return False
    meeting_of(events)["timeouts"].append(turn["number"])
    return True


@fault("I9")
def take_a_turn_too_many(events: list[Event], random: random.Random) -> bool:
    final = meeting_of(events)
    final["max_turns"] = sum(turn["how"] != "meeting_ended" for turn in final["turns"]) - 1
    return True


@fault("I9")
def go_on_behind_the_last_turn(events: list[Event], random: random.Random) -> bool:
    final = meeting_of(events)
    final |= {"status": "active", "reason": None, "endings": [], "endings_noted": 0, "max_turns": len(final["turns"])}
    return True


@fault("I9")
def end_before_the_last_turn(events: list[Event], random: random.Random) -> bool:
    final = meeting_of(events)
    if final["reason"] != "max_turns":
        return False
    final["max_turns"] += 1
    return True


@fault("I9")
def end_the_meeting_twice(events: list[Event], random: random.Random) -> bool:
    meeting_of(events)["endings"] *= 2
    return True


@fault("I9")
def end_the_meeting_for_another_reason(events: list[Event], random: random.Random) -> bool:
    meeting_of(events)["reason"] = "host_ended"
    return True


@fault("I9")
def end_the_meeting_before_its_time(events: list[Event], random: random.Random) -> bool:
    final = meeting_of(events)
    if final["reason"] != "max_duration":
        return False
    final["turns"][-1]["ended"] = final["deadline"] - 0.3
    return True


@fault("I9")
def end_the_meeting_late(events: list[Event], random: random.Random) -> bool:
    final = meeting_of(events)
    if final["reason"] != "max_duration":
        return False
    final["turns"][-1]["ended"] += 3.0
    return True


@fault("I9")
def outlast_the_meeting(events: list[Event], random: random.Random) -> bool:
    final = meeting_of(events)
    final["deadline"] = final["turns"][0]["started"] + 0.2
    return True


@fault("I10")
def insert_into_the_past(events: list[Event], random: random.Random) -> bool:
    reads = [event for event in events if event["e"] == "read"]
    if len(reads) < 2:
        return False
    reads[-1]["items"] = ["inserted", *reads[-1]["items"]]
    return True


@fault("I10")
def forget_the_newest(events: list[Event], random: random.Random) -> bool:
    reads = [event for event in events if event["e"] == "read"]
    if len(reads) < 2:
        return False
    reads[-1]["items"] = reads[-1]["items"][:-2]
    return True


@pytest.mark.parametrize(("invariant", "fault"), FAULTS, ids=[fault.__name__ for _, fault in FAULTS])
def test_one_fault_in_a_right_history_is_always_found(invariant: str, fault: Fault) -> None:
    planted = 0
    for seed in range(100):
        events = copy.deepcopy(Run(seed).events)
        if fault(events, random.Random(seed)):
            assert invariant in broken(check(events)), f"missed in the history of seed {seed}"
            planted += 1
        if planted == 10:
            return
    pytest.fail(f"only {planted} of 100 histories had a place for it")


def broken(report: Report) -> set[str]:
    return {violation.invariant for violation in report.violations}


def test_a_turn_that_ran_out_while_nobody_was_there_may_end_late() -> None:
    runs = (Run(seed, asks=0).events for seed in itertools.count(5))
    events = next(events for events in runs if meeting_of(events)["reason"] == "max_turns")
    final = meeting_of(events)
    last = final["turns"][-1]
    last |= {"how": "timed_out", "ended": last["deadline"] + 50.0, "message": None}
    final["t"] += 100 * SECOND
    final["utc"] += 100.0
    final["timeouts"] = sorted({*final["timeouts"], last["number"]})
    final["noted"] = len(final["timeouts"])
    last_id = f"s{last['number']}"
    final["said"] = [message for message in final["said"] if message["value"] != last_id]
    events[:] = [
        event
        for event in events
        if event.get("value") != last_id and not (event["e"] == "act.ok" and event["ended_turn"] == last["number"])
    ]
    assert broken(check(events)) == {"I9"}
    for process in ("asker", "responder", *(f"process-{agent}" for agent in CREW)):
        t = int((last["deadline"] - EPOCH) * SECOND)
        events.append({"t": t, "p": "test", "e": "kill", "who": process, "since": t})
    events.append({"t": t + int(49.8 * SECOND), "p": "late", "e": "ready"})
    check(events).assert_ok()
