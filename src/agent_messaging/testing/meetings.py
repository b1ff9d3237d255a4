"""I8 and I9: one turn at a time, whatever dies or freezes; a turn that runs out, and a meeting, ends once, in time.

    I8  turns are numbered 1, 2, 3, …, each begins when the one before it ends, and its deadline never moves; at most
        one speech is accepted under each, that of its holder in its time, any other is refused and nowhere in the
        transcript; the holder is the one that the last speaker named, or the next who attends in the order of joining
    I9  a turn that its holder does not end is ended by time, once (one act, one event, one note), not before its
        deadline, and not later than `turn_slack` (1 s) after it while some process was there all the time; a meeting
        ends once, with one event and one note, at the first of its bounds: it has no more turns than `max_turns`, and
        no turn outlasts its deadline, which ends it as the turn that it cuts off

The state of the store at the end (`meeting.final`) counts; all that processes tried, were told and were shown must
agree with it. Instants of the store are wall-clock time, tied to the history's clock by the `utc` of that event.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

from .facts import SECOND, Facts
from .history import Event
from .report import Report

SLACK = 1.0
TOLERANCE = 0.05
"""Seconds by which instants of two clocks of one machine may differ."""


def judge_meetings(facts: Facts, report: Report) -> None:
    """Judge all meetings whose end is in the history."""
    finals = {final["meeting"]: final for final in facts.others["meeting.final"]}
    for final in finals.values():
        judge = _MeetingJudge(facts, report, final)
        judge.turns_in_sequence()
        judge.rotation()
        judge.speeches()
        judge.shown()
        judge.timeouts()
        judge.ending()
    report.timeout_delays.sort()


class _MeetingJudge:
    def __init__(self, facts: Facts, report: Report, final: Event) -> None:
        self.facts = facts
        self.report = report
        self.final = final
        self.id: str = final["meeting"]
        self.slack = facts.limits.get("turn_slack", SLACK)
        self.turns: list[Event] = final["turns"]
        self.deadline: float | None = final.get("deadline")
        """When the meeting ends by time."""
        self.by_number: dict[int, Event] = {turn["number"]: turn for turn in self.turns}
        self.offset = final["t"] - int(final["utc"] * SECOND)
        """Added to the store's time, it gives the history's."""

    def told(self, name: str) -> list[Event]:
        return [event for event in self.facts.others[name] if event["meeting"] == self.id]

    def blame(self, invariant: str, text: str, *events: Event | None) -> None:
        self.report.turn_violations += 1
        self.report.blame(invariant, self.id, text, *events)

    # --- I8 -----------------------------------------------------------------------------------------------------------

    def turns_in_sequence(self) -> None:
        for position, turn in enumerate(self.turns, 1):
            self.report.turns[turn.get("how") or "current"] += 1
            if turn["number"] != position:
                self.blame("I8", f"turn {turn['number']} is the {position}. one", turn)
            if turn.get("ended") is None and position != len(self.turns):
                self.blame("I8", f"turn {turn['number']} has not ended, and another one has begun", turn)
            duration = self.final.get("duration")
            if duration is not None and turn["purpose"] == "speak":
                given = turn["deadline"] - turn["started"]
                if self.deadline is not None:
                    duration = min(duration, self.deadline - turn["started"])
                if abs(given - duration) > TOLERANCE:
                    self.blame("I8", f"turn {turn['number']} was given {given:.3f} s of {duration:g} s", turn)
            late = (turn.get("ended") or 0) > (turn.get("deadline") or 1e18) + TOLERANCE
            if late and turn.get("how") != "timed_out" and not self.is_cut_off(turn):
                self.blame("I8", f"turn {turn['number']} was used after its deadline", turn)
        for turn, following in pairwise(self.turns):
            if turn.get("ended") != following["started"]:
                text = f"turn {following['number']} did not begin when the one before it ended"
                self.blame("I8", text, turn, following)

    def rotation(self) -> None:
        if self.final["selection"] != "round_robin":
            return
        named: dict[int, set[str]] = defaultdict(set)
        for tried in self.told("speak.try"):
            if "next" in tried:
                named[tried["turn"]].add(tried["next"])
        seats = sorted(self.final["seats"], key=lambda seat: seat["order"])
        place_of = {seat["agent"]: seat["order"] for seat in seats}
        speaking = [turn for turn in self.turns if turn["purpose"] == "speak"]
        for turn, following in pairwise(speaking):
            order = [
                seat["agent"]
                for seat in seats
                if seat.get("left") is None or seat["left"] > following["started"] or seat["agent"] == turn["agent"]
                if seat["agent"] != self.final.get("silent")
            ]
            behind = [agent for agent in order if place_of[agent] > place_of.get(turn["agent"], -1)]
            expected = (behind or order)[0]
            if following["agent"] != expected and following["agent"] not in named[turn["number"]]:
                text = f"turn {following['number']} went to {following['agent']!r}, and was {expected!r}'s"
                self.blame("I8", text, turn, following)

    def speeches(self) -> None:
        accepted: dict[int, Event] = {}
        for act in self.told("act.ok"):
            number = act.get("ended_turn")
            if number is None:
                continue
            if act["act"] == "speak" and act.get("number") not in (None, number):
                self.blame("I8", f"a speech under turn {act['number']} ended turn {number}", act)
            first = accepted.setdefault(number, act)
            if first is not act:
                self.blame("I8" if act["act"] == "speak" else "I9", f"turn {number} was ended twice", first, act)
        said = Counter(message["value"] for message in self.final["said"] if message.get("value"))
        for value, count in said.items():
            if count > 1:
                self.blame("I8", f"{value!r} is in the transcript {count} times")
        under: dict[str, int] = {
            turn["message"]: turn["number"] for turn in self.turns if turn.get("message") is not None
        }
        place = {message["value"]: message for message in self.final["said"] if message.get("value")}
        for spoken in self.told("speak.ok"):
            message = place.get(spoken["value"])
            number = spoken["turn"]
            turn = self.by_number.get(number)
            if message is None:
                self.blame("I8", f"{spoken['value']!r} was accepted, and is not in the transcript", spoken)
            elif message["sender"] != spoken["agent"]:
                self.blame("I8", f"{spoken['value']!r} is {message['sender']!r}'s in the transcript", spoken)
            if turn is None or turn["agent"] != spoken["agent"]:
                self.blame("I8", f"{spoken['agent']!r} spoke in turn {number} of somebody else", spoken, turn)
            elif turn.get("how") != "spoke" or (message and under.get(message["id"]) != number):
                text = f"{spoken['value']!r} was accepted under turn {number}, which ended otherwise"
                self.blame("I8", text, spoken, turn)
        for act in self.told("act.ok"):
            if act.get("value") is not None:
                self.said_by(act, place.get(act["value"]), under)
        for act in self.told("act.no"):
            if act.get("value") in place:
                self.blame("I8", f"{act['value']!r} was refused by the store, and is in the transcript", act)
        for refused in self.told("speak.no"):
            self.report.lost_turns += refused["code"] in ("turn_lost", "not_your_turn")
            if refused["value"] in place:
                self.blame("I8", f"{refused['value']!r} was refused, and is in the transcript", refused)

    def said_by(self, act: Event, message: Event | None, under: dict[str, int]) -> None:
        """A speech that the store accepted, by hand or of a turn handler, is that of its turn's holder."""
        turn = self.by_number.get(act["ended_turn"])
        if message is None:
            self.blame("I8", f"{act['value']!r} was accepted by the store, and is not in the transcript", act)
        elif turn is None or under.get(message["id"]) != turn["number"]:
            self.blame("I8", f"{act['value']!r} is not what was said in turn {act['ended_turn']}", act, turn)
        elif message["sender"] != turn["agent"]:
            self.blame(
                "I8", f"{act['value']!r} is {message['sender']!r}'s, and turn {turn['number']} was not", act, turn
            )

    def shown(self) -> None:
        for shown in self.told("turn.shown"):
            turn = self.by_number.get(shown["turn"])
            if turn is None or turn["agent"] != shown["agent"]:
                self.blame("I8", f"turn {shown['turn']} was shown to {shown['agent']!r}", shown, turn)
            elif shown.get("deadline") is not None and abs(shown["deadline"] - turn["deadline"]) > TOLERANCE:
                self.blame("I8", f"turn {shown['turn']} was shown with another deadline than it has", shown, turn)

    # --- I9 -----------------------------------------------------------------------------------------------------------

    def timeouts(self) -> None:
        events: Counter[int] = Counter(self.final["timeouts"])
        fired = {act["ended_turn"]: act for act in self.told("act.ok") if act["act"] == "time_out"}
        for turn in self.turns:
            number, deadline, ended = turn["number"], turn.get("deadline"), turn.get("ended")
            expected = 1 if turn.get("how") == "timed_out" and turn["purpose"] == "speak" else 0
            if events[number] != expected:
                self.blame("I9", f"turn {number} has {events[number]} events of its time, not {expected}", turn)
            is_cut_off = self.is_cut_off(turn)
            if number in fired and turn.get("how") != "timed_out" and not is_cut_off:
                self.blame("I9", f"turn {number} was ended by time and otherwise", fired[number], turn)
            if deadline is None:
                continue
            if turn.get("how") == "timed_out" or is_cut_off:
                self.report.timeout_delays.append(max(0.0, ended - deadline))
                act = fired.get(number)
                early = ended < deadline - TOLERANCE
                if act is not None:
                    early = early or act["t"] < self.offset + (deadline - TOLERANCE) * SECOND
                if early:
                    self.blame("I9", f"turn {number} was ended by time before its deadline", turn, act)
            until = self.offset + int(ended * SECOND) if ended is not None else self.final["t"]
            late = self.longest_presence(self.offset + int(deadline * SECOND), until)
            if late > self.slack:
                self.blame("I9", f"turn {number} was not ended by time, for {late:.3f} s", turn)
        if self.final["noted"] != events.total():
            self.blame("I9", f"{self.final['noted']} notes tell of {events.total()} turns that ended by time")

    def is_cut_off(self, turn: Event) -> bool:
        """Whether the time of the meeting has ended the turn."""
        return bool(turn.get("how") == "meeting_ended" and self.final.get("reason") == "max_duration")

    def ending(self) -> None:
        final, most = self.final, self.final.get("max_turns")
        has_ended = final["status"] == "ended"
        taken = sum(turn["purpose"] == "speak" and turn.get("ended") is not None for turn in self.turns)
        endings = final.get("endings", [final.get("reason")] * has_ended)
        if endings != [final.get("reason")] * has_ended or final.get("endings_noted", has_ended) != has_ended:
            self.blame("I9", f"the meeting is {final['status']} and its ending was told otherwise: {endings}", final)
        if most is not None and (taken > most or (taken == most and not has_ended)):
            self.blame("I9", f"the meeting has had {taken} turns of {most}, and is {final['status']}", final)
        if final.get("reason") == "max_turns" and taken != most:
            self.blame("I9", f"the meeting ended by its turns with {taken} of {most}", final)
        last = self.turns[-1] if self.turns else None
        if final.get("reason") == "max_duration" and (last is None or last.get("how") != "meeting_ended"):
            self.blame("I9", "the meeting ended by time, and its last turn otherwise", last)
        if self.deadline is not None:
            for turn in self.turns:
                if turn.get("deadline") is None or turn["deadline"] > self.deadline + TOLERANCE:
                    self.blame("I9", f"turn {turn['number']} was to outlast its meeting", turn)

    def longest_presence(self, begin: int, end: int) -> float:
        """The longest time between these moments, in seconds, for which one process was there and not frozen."""
        longest = 0
        for process in self.facts.processes.values():
            if process.ready is None:
                continue
            moment = max(begin, process.ready["t"])
            last = min(end, process.ended_at)
            for freeze, thaw in sorted(process.frozen):
                if thaw > moment and freeze < last:
                    longest = max(longest, freeze - moment)
                    moment = max(moment, thaw)
            longest = max(longest, last - moment)
        return longest / SECOND
