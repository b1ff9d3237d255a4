"""Any sequence of calls by two SDK objects in one meeting, against a model that knows nothing of the code's rules.

The model is a few lines about who sits where and whose turn it is. After each call both objects must show what it says:
turn numbers rise by one, at most one speech is accepted under each, and a refusal is the one that it foresees.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from agent_messaging import (
    AgentMessagingError,
    AgentNotInMeetingError,
    HostCannotLeaveError,
    InvalidArgumentError,
    MeetingEnd,
    MeetingNotActiveError,
    MeetingStateError,
    MeetingTimeoutError,
    NotMeetingHostError,
    NotYourTurnError,
    Turn,
    TurnLostError,
)
from agent_messaging.storage.assembly import rules
from agent_messaging.storage.assembly.terms import Assembly, Changes
from agent_messaging.storage.minutes import Minutes
from tests.client.meeting_support import Table
from tests.client.support import Sdk, make_config

HOST = "alice"
PEOPLE = ["alice", "bob", "carol", "dave"]
OUTSIDER = "mallory"
AGENTS = st.sampled_from([*PEOPLE, OUTSIDER])
NEXT = st.sampled_from([None, None, None, "bob", "alice", "dave", OUTSIDER])
VIA = st.integers(0, 1)
"""Through which of the two objects."""
Refusal = type[AgentMessagingError]


@dataclass
class Model:
    """The meeting as it should be."""

    host_names: bool
    """The host names each speaker."""
    host_speaks: bool = True
    max_turns: int | None = None
    reason: str | None = None
    status: str = "created"
    seats: dict[str, str] = field(default_factory=lambda: dict.fromkeys(PEOPLE, "invited") | {HOST: "attending"})
    course: list[tuple[int, str, str | None]] = field(default_factory=list)
    said: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def number(self) -> int:
        return len(self.course)

    @property
    def holder(self) -> str | None:
        return self.course[-1][1] if self.status == "active" else None

    def sits(self, name: str) -> bool:
        return self.seats.get(name, "left") != "left"

    def after(self, name: str, without: str | None = None) -> str | None:
        """Who follows in the order of joining."""
        order = [one for one in PEOPLE if self.sits(one) and one != without and (self.host_speaks or one != HOST)]
        later = [one for one in order if PEOPLE.index(one) > PEOPLE.index(name)]
        return next(iter(later or order), None)

    def judge_readiness(self) -> None:
        if self.status in ("created", "ready"):
            is_ready = all(seat == "attending" for seat in self.seats.values() if seat != "left")
            self.status = "ready" if is_ready else "created"

    def begin(self, name: str | None) -> None:
        if name is None:
            self.end("nobody")
        else:
            self.course.append((self.number + 1, name, None))

    def end(self, reason: str) -> None:
        self.status, self.reason = "ended", reason

    def finish(self, how: str, following: str | None = None) -> None:
        """End the current turn and begin that of `following`, or of whom the selection says."""
        number, name, _ = self.course.pop()
        self.course.append((number, name, how))
        if number == self.max_turns:
            self.end("max_turns")
        else:
            self.begin(following or self.chosen_behind(name, name if how == "left" else None))

    def chosen_behind(self, name: str, without: str | None) -> str | None:
        if not self.host_names:
            return self.after(name, without)
        others = [other for other in PEOPLE if other != HOST and self.sits(other)]
        if name != HOST or not others:
            return HOST
        # Who names nobody leaves it to the order, behind the last of the others.
        last = next((other for _, other, _ in reversed(self.course) if other != HOST), HOST)
        return next((other for other in others if PEOPLE.index(other) > PEOPLE.index(last)), others[0])

    def refuses_use(self, name: str, bound: int | None) -> Refusal | None:
        """Why an agent cannot use the turn that it means."""
        if not self.sits(name):
            return AgentNotInMeetingError
        if self.status != "active":
            return MeetingNotActiveError
        if bound is not None and bound != self.number:
            return TurnLostError
        return NotYourTurnError if name != self.holder else None

    def refuses_next(self, following: str | None) -> Refusal | None:
        return AgentNotInMeetingError if following is not None and not self.sits(following) else None

    def seats_shown(self) -> dict[str, str]:
        """As a status shows them: who takes part speaks or waits."""
        if self.status != "active":
            return self.seats
        turns = {True: "speaking", False: "waiting"}
        return {name: seat if seat == "left" else turns[name == self.holder] for name, seat in self.seats.items()}


class Machine(RuleBasedStateMachine):
    """One meeting, two SDK objects."""

    selection: str
    sdks: list[Sdk]
    runner: asyncio.Runner

    @initialize(
        begun=st.sampled_from(["invited", "attending", "active", "active", "active"]),
        host_speaks=st.sampled_from([True, True, False]),
        max_turns=st.sampled_from([None, None, 1, 2, 3, 5]),
    )
    def create(self, begun: str, host_speaks: bool, max_turns: int | None) -> None:
        self.model = Model(self.selection == "host", host_speaks or self.selection == "host", max_turns)
        self.shown: dict[tuple[int, str], int] = {}
        self.keyed: list[tuple[str, dict[str, Any], UUID]] = []
        make = {"invited": Table.invite, "attending": Table.gather, "active": Table.open}[begun]
        bounds: dict[str, Any] = {"max_turns": max_turns, "host_speaks": self.model.host_speaks, "max_duration": 1_000}
        call = make(self.sdks[0], *PEOPLE[1:], speaker_selection=self.selection, turn_duration=1_000, **bounds)
        table = self.run(call)
        self.tables = [table, table.at(self.sdks[1])]
        if begun != "invited":
            self.model.seats = dict.fromkeys(PEOPLE, "attending")
            self.model.judge_readiness()
        if begun == "active":
            self.model.status = "active"
            self.model.begin(HOST if self.model.host_speaks else PEOPLE[1])
            if self.model.host_speaks:
                self.shown[0, HOST] = 1

    def run(self, call: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await call

        return self.runner.run(wait())

    def expect(self, refusal: Refusal | None, call: Awaitable[Any]) -> Any:
        """Make the call; its answer, or None where it was refused as foreseen."""
        if refusal is None:
            return self.run(call)
        with pytest.raises(refusal) as caught:
            self.run(call)
        assert caught.type is refusal, caught.value
        return None

    # --- calls --------------------------------------------------------------------------------------------------------

    @rule(name=AGENTS, via=VIA)
    def attend(self, name: str, via: int) -> None:
        model, table = self.model, self.tables[via]
        refusal: Refusal | None = None
        if not model.sits(name):
            refusal = AgentNotInMeetingError
        elif model.seats[name] == "invited" and model.status == "ended":
            refusal = MeetingStateError
        self.expect(refusal, table.sdk.meeting.attend_meeting(name, table.id))
        if refusal is None and model.seats[name] == "invited":
            model.seats[name] = "attending"
            model.judge_readiness()
        self.check()

    @rule(name=st.sampled_from([HOST, HOST, HOST, "bob"]), opening=st.none() | st.integers(), following=NEXT, via=VIA)
    def start(self, name: str, opening: int | None, following: str | None, via: int) -> None:
        model, table = self.model, self.tables[via]
        refusal = model.refuses_next(following)
        if name != HOST:
            refusal = NotMeetingHostError
        elif model.status != "ready":
            refusal = MeetingStateError
        elif refusal is None and opening is not None and following is None and model.host_names:
            refusal = InvalidArgumentError
        given = {} if opening is None else {"initial_message": opening}
        self.expect(
            refusal,
            table.sdk.meeting.start_meeting(name, table.id, next_speaker_external_id=following, **given),
        )
        if refusal is None:
            model.status = "active"
            first = HOST if model.host_speaks else model.after(HOST)
            model.begin(HOST if opening is not None else following or first)
            if opening is not None:
                model.said.append((HOST, opening))
                model.finish("spoke", following)
            if model.holder == HOST:
                self.shown[via, HOST] = model.number
        self.check()

    @rule(name=AGENTS, via=VIA)
    def look_at_turn(self, name: str, via: int) -> None:
        model = self.model
        refusal: Refusal | None = None
        if not model.sits(name):
            refusal = AgentNotInMeetingError
        elif model.status != "ended" and model.holder != name:
            refusal = MeetingTimeoutError
        turn = self.expect(refusal, self.tables[via].wait(name, 0))
        if refusal is None:
            assert isinstance(turn, Turn)
            assert turn.has_ended == (model.status == "ended")
            if turn:
                assert turn.number == model.number
                self.shown[via, name] = model.number

    @rule(
        who=st.sampled_from(["holder", "holder", "holder", *PEOPLE, OUTSIDER]),
        message=st.integers(),
        following=NEXT,
        meant=st.sampled_from([None, None, None, 0, -1, 1]),
        passes=st.sampled_from([False, False, True]),
        is_keyed=st.booleans(),
        via=VIA,
    )
    def use_turn(
        self, who: str, message: int, following: str | None, meant: int | None, passes: bool, is_keyed: bool, via: int
    ) -> None:
        """Speak or pass, as the holder or somebody else, for the turn shown here or (`meant`) one near the current."""
        model, table = self.model, self.tables[via]
        name = (model.holder or HOST) if who == "holder" else who
        named = None if meant is None else max(1, model.number + meant)
        bound = named if named is not None else self.shown.get((via, name))
        refusal = model.refuses_use(name, bound) or model.refuses_next(following)
        if refusal is None and not passes and following is None and model.host_names and name == HOST:
            refusal = InvalidArgumentError
        options: dict[str, Any] = {"next_speaker_external_id": following, "turn": named}
        if passes:
            self.expect(refusal, table.sdk.meeting.pass_turn(name, table.id, **options))
        else:
            if is_keyed:
                options["idempotency_key"] = f"{table.id}-{len(self.keyed)}"
            id = self.expect(refusal, table.speak(name, message, **options))
            if refusal is None and is_keyed:
                self.keyed.append((name, {**options, "message": message}, id))
        if refusal is None:
            if not passes:
                model.said.append((name, message))
            model.finish("passed" if passes else "spoke", following)
            if bound is not None and self.shown.get((via, name), bound + 1) <= bound:
                del self.shown[via, name]  # one before the turn that was used is over as well
        self.check()

    @precondition(lambda self: self.keyed)
    @rule(number=st.integers(0, 100), via=VIA)
    def repeat(self, number: int, via: int) -> None:
        """Say again what was said under a key, whatever has happened since."""
        name, options, id = self.keyed[number % len(self.keyed)]
        assert self.run(self.tables[via].speak(name, **options)) == id
        self.check()

    @rule(name=st.sampled_from([HOST, HOST, "bob"]), via=VIA)
    def skip(self, name: str, via: int) -> None:
        model, table = self.model, self.tables[via]
        refusal: Refusal | None = None
        if name != HOST:
            refusal = NotMeetingHostError
        elif model.status != "active":
            refusal = MeetingNotActiveError
        self.expect(refusal, table.sdk.meeting.skip_turn(name, table.id))
        if refusal is None:
            model.finish("skipped")
        self.check()

    @rule(name=AGENTS, by=st.sampled_from([None, HOST, "bob"]), via=VIA)
    def leave(self, name: str, by: str | None, via: int) -> None:
        """By itself, or removed by somebody."""
        model, table = self.model, self.tables[via]
        refusal: Refusal | None = None
        if by not in (None, HOST):
            refusal = NotMeetingHostError
        elif name == HOST:
            refusal = HostCannotLeaveError
        elif not model.sits(name):
            refusal = AgentNotInMeetingError
        elif model.status == "ended":
            refusal = MeetingNotActiveError
        meeting = table.sdk.meeting
        self.expect(
            refusal,
            meeting.leave_meeting(name, table.id) if by is None else meeting.remove_participant(by, table.id, name),
        )
        if refusal is None:
            if model.holder == name:
                model.finish("left")
            model.seats[name] = "left"
            model.judge_readiness()
        self.check()

    @precondition(lambda self: self.model.number > 5)
    @rule(name=st.sampled_from([HOST, "bob"]), via=VIA)
    def end(self, name: str, via: int) -> None:
        model, table = self.model, self.tables[via]
        refusal: Refusal | None = None
        if name != HOST:
            refusal = NotMeetingHostError
        elif model.status == "ended":
            refusal = MeetingNotActiveError
        self.expect(refusal, table.sdk.meeting.end_meeting(name, table.id))
        if refusal is None:
            number, holder, _ = model.course.pop()
            model.course.append((number, holder, "meeting_ended"))
            model.end("host_ended")
        self.check()

    # --- what is shown ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        model = self.model
        for table in self.tables:
            status = self.run(table.status())
            assert (status.status, status.current_speaker) == (model.status, model.holder)
            assert (status.end_reason, status.turns_taken) == (model.reason, sum(bool(how) for *_, how in model.course))
            assert status.turn == (model.number if model.status == "active" else None)
            assert status.participants == [name for name in PEOPLE if model.sits(name)]
            seats = {one.agent_id: one.status.value for one in status.participant_details}
            assert seats == model.seats_shown()
        assert self.run(self.tables[0].course()) == model.course
        assert self.run(self.tables[1].said()) == model.said
        assert [number for number, _, _ in model.course] == list(range(1, model.number + 1))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("selection", ["round_robin", "host"])
def test_any_calls_in_a_meeting_have_the_outcome_that_a_small_model_foresees(url: str, selection: str) -> None:
    explore(url, selection, Machine)


# --- faults that it finds ---------------------------------------------------------------------------------------------


def one_turn_too_many(patch: pytest.MonkeyPatch) -> None:
    pass_on = rules._pass_on

    def late(meeting: Assembly, *args: Any, **options: Any) -> None:
        left = meeting.turns_left
        pass_on(replace(meeting, turns_left=None if left is None else left + 1), *args, **options)

    patch.setattr(rules, "_pass_on", late)


def turns_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    add = Minutes.add

    def forget(minutes: Minutes, *args: Any) -> Any:
        acted = add(minutes, *args)
        minutes.meetings = [(*row[:3], 0, *row[4:]) for row in minutes.meetings]
        return acted

    patch.setattr(Minutes, "add", forget)


def a_silent_host_has_its_turns(patch: pytest.MonkeyPatch) -> None:
    following = rules._following
    patch.setattr(rules, "_following", lambda meeting, *a, **k: following(replace(meeting, host_speaks=True), *a, **k))


def the_reason_is_always_the_host(patch: pytest.MonkeyPatch) -> None:
    close = rules._close
    patch.setattr(rules, "_close", lambda meeting, changes, _: close(meeting, _blame(changes), MeetingEnd.HOST_ENDED))


def _blame(changes: Changes) -> Changes:
    changes.end_reason = MeetingEnd.HOST_ENDED
    return changes


class FoundError(BaseException):
    """Ends the search at once."""


@pytest.mark.parametrize(
    "plant", [one_turn_too_many, turns_are_not_counted, a_silent_host_has_its_turns, the_reason_is_always_the_host]
)
def test_a_fault_in_the_bounds_of_meetings_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    class Hasty(Machine):
        def run(self, call: Awaitable[Any]) -> Any:
            try:
                return super().run(call)
            except AssertionError as error:
                raise FoundError from error

        def expect(self, refusal: Refusal | None, call: Awaitable[Any]) -> Any:
            try:
                return super().expect(refusal, call)
            except (Exception, pytest.fail.Exception) as error:
                raise FoundError from error

        def check(self) -> None:
            try:
                super().check()
            except AssertionError as error:
                raise FoundError from error

    plant(monkeypatch)
    with pytest.raises(FoundError):
        explore(
            f"sqlite:///{tmp_path / 'planted.db'}",
            "round_robin",
            Hasty,
            phases=[Phase.generate],
            derandomize=True,
            database=None,
        )


def explore(url: str, selection: str, machine: type[Machine], **options: Any) -> None:
    with asyncio.Runner() as runner:
        sdks = [Sdk(make_config(url)) for _ in range(2)]

        async def begin() -> None:
            for sdk in sdks:
                await sdk.initialize()
            await sdks[0].add_people(*PEOPLE, OUTSIDER)

        async def finish() -> None:
            for sdk in sdks:
                await sdk.close()

        class TwoSdks(machine):  # type: ignore[misc, valid-type]
            pass

        TwoSdks.selection, TwoSdks.sdks, TwoSdks.runner = selection, sdks, runner
        runner.run(begin())
        try:
            run_state_machine_as_test(
                TwoSdks,
                settings=settings(
                    max_examples=20,
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    **options,
                ),
            )
        finally:
            runner.run(finish())
