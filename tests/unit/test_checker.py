"""The checker: silent about right histories, and it names the invariant that a planted fault breaks."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_messaging.testing.checker import check
from agent_messaging.testing.history import Event
from agent_messaging.testing.report import Report, percentile
from tests.unit.simulated_history import MAX_ATTEMPTS, Simulation

SECOND = 1_000_000_000


class Story:
    """A history made by hand; each event comes a millisecond after the one before it, or `after` seconds."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.now = SECOND

    def tell(self, process: str, event: str, after: float = 0.001, **fields: Any) -> Event:
        self.now += int(after * SECOND)
        record = {"t": self.now, "p": process, "e": event, **fields}
        self.events.append(record)
        return record

    def send(self, n: int, *, outcome: str | None = "send.ok", **fields: Any) -> None:
        call: dict[str, Any] = {"n": n, "instance": "sender", "value": f"v{n}"}
        self.tell("sender", "send.try", **call, sender="alice", to=["bob"], kind="one_way", hash=f"h{n}", **fields)
        if outcome == "send.ok":
            self.tell("sender", "send.ok", **call, ids=[f"m{n}"])
        elif outcome is not None:
            self.tell("sender", outcome, **call, code="mailbox_full")

    def claim(self, n: int, token: int = 1, *, by: str = "worker", attempt: int = 1) -> None:
        self.tell(by, "claim", message=f"m{n}", seq=n, token=token, attempt=attempt, since=self.now + 1)

    def start(self, n: int, token: int = 1, *, by: str = "worker", attempt: int = 1, **fields: Any) -> None:
        run: dict[str, Any] = {"message": f"m{n}", "attempt": attempt, "token": token}
        body = {"value": f"v{n}", "hash": f"h{n}", **fields}
        self.tell(by, "h.start", **run, recipient="bob", **body)

    def end(
        self, n: int, token: int = 1, *, by: str = "worker", attempt: int = 1, how: str = "ok", **fields: Any
    ) -> None:
        self.tell(by, "h.end", message=f"m{n}", attempt=attempt, token=token, how=how, **fields)

    def settle(
        self, n: int, token: int = 1, *, by: str = "worker", how: str = "done", event: str = "settle.ok"
    ) -> None:
        self.tell(by, event, message=f"m{n}", seq=n, token=token, how=how, since=self.now + 1)

    def final(self, n: int, state: str = "done", *, attempt: int = 1, token: int = 1, **fields: Any) -> None:
        row = {"attempt": attempt, "token": token, "max_attempts": 3, "reasons": [], **fields}
        self.tell("test", "final", message=f"m{n}", state=state, **row)

    def handle(self, n: int, token: int = 1, **run: Any) -> None:
        """A claim, a run that ends well, and its settlement."""
        self.claim(n, token, **run)
        self.start(n, token, **run)
        self.end(n, token, **run)
        self.settle(n, token, **{name: value for name, value in run.items() if name == "by"})

    def check(self) -> Report:
        return check(self.events)


def broken(report: Report) -> set[str]:
    return {violation.invariant for violation in report.violations}


def assert_breaks(story: Story, invariant: str, text: str, message_id: str | None = "m1") -> Report:
    report = story.check()
    found = [violation for violation in report.violations if violation.invariant == invariant]
    assert found, f"{invariant} not found\n{report}"
    assert any(text in violation.text and violation.message_id == message_id for violation in found), found
    return report


def test_a_clean_story_keeps_every_promise() -> None:
    story = Story()
    story.tell("worker", "start", serves=["bob"])
    story.tell("test", "limits", max_attempts=3, mailbox=10)
    story.send(1)
    story.handle(1)
    story.tell("test", "depth", recipient="bob", depth=10)
    story.send(2, outcome="send.no")
    story.send(3, outcome=None)
    story.tell("worker", "stop")
    story.final(1)

    report = story.check()

    report.assert_ok()
    assert (report.acked, report.lost, report.refused, report.unknown, report.recovered) == (1, 0, 1, 1, 0)
    assert report.calls == {"tried": 3, "accepted": 1, "refused": 1, "unknown": 1}
    assert report.sums_up
    assert report.depth_max == 10


# --- one planted fault each -------------------------------------------------------------------------------------------


class TestNoLoss:
    @pytest.mark.parametrize("state", ["missing", "queued", "claimed"])
    def test_an_accepted_message_that_did_not_end_is_lost(self, state: str) -> None:
        story = Story()
        story.send(1)
        story.final(1, state)
        assert assert_breaks(story, "I1", "lost").lost == 1

    def test_an_accepted_message_that_nobody_dumped_is_lost(self) -> None:
        story = Story()
        story.send(1)
        story.send(2)
        story.handle(1)
        story.final(1)
        assert assert_breaks(story, "I1", "not in the store", "m2").lost == 1

    def test_without_final_states_nothing_is_proved(self) -> None:
        story = Story()
        story.send(1)
        story.handle(1)
        assert assert_breaks(story, "I1", "no final state", None).lost == 1

    def test_done_without_a_run_is_lost(self) -> None:
        story = Story()
        story.send(1)
        story.final(1)
        assert_breaks(story, "I1", "no handler ever ran")

    def test_done_before_its_run_had_ended_is_lost(self) -> None:
        story = Story()
        story.send(1)
        story.claim(1)
        story.settle(1)
        story.start(1)
        story.end(1, how="err")
        story.final(1)
        assert_breaks(story, "I1", "no run of it ended well")

    def test_what_was_stored_by_a_cut_off_call_must_not_get_stuck(self) -> None:
        story = Story()
        story.send(1, outcome=None)
        story.claim(1)
        story.start(1)
        story.tell("nemesis", "kill", who="worker", since=story.now)
        story.final(1, "claimed")
        assert_breaks(story, "I1", "still claimed")

    @pytest.mark.parametrize("state", ["dead", "expired", "withdrawn"])
    def test_the_other_ends_are_no_loss(self, state: str) -> None:
        story = Story()
        story.send(1, expires=True, expect="dead")
        story.tell("test", "withdraw", message="m1")
        story.final(1, state, attempt=3, reasons=["it failed"])
        assert "I1" not in broken(story.check())


class TestNoGhosts:
    def test_a_run_of_what_was_never_sent(self) -> None:
        story = Story()
        story.start(1)
        assert assert_breaks(story, "I2", "never sent").ghosts == 1

    def test_a_run_of_what_was_refused(self) -> None:
        story = Story()
        story.send(1, outcome="send.no")
        story.start(1)
        assert_breaks(story, "I2", "refused")

    def test_a_row_of_what_was_refused(self) -> None:
        story = Story()
        story.send(1, outcome="send.no", ids=["m1"])
        story.final(1, "queued")
        assert_breaks(story, "I2", "refused")

    @pytest.mark.parametrize(
        ("changed", "text"),
        [
            ({"hash": "other"}, "another body"),
            ({"org": "evil"}, "another organization"),
            ({"recipient": "mallory"}, "not sent to 'mallory'"),
            ({"value": "v2"}, "the body of 'v2'"),
        ],
    )
    def test_a_run_that_differs_from_what_was_sent(self, changed: dict[str, str], text: str) -> None:
        story = Story()
        story.send(1, org="acme")
        story.send(2)
        story.handle(1)
        next(event for event in story.events if event["e"] == "h.start").update(changed)
        story.final(1)
        assert_breaks(story, "I2", text)

    def test_one_call_stored_twice(self) -> None:
        story = Story()
        story.send(1)
        story.handle(1)
        story.start(2, value="v1", hash="h1")
        story.final(1)
        assert_breaks(story, "I2", "stored twice", "m2")

    def test_a_cut_off_call_may_take_effect_later_but_once(self) -> None:
        story = Story()
        story.send(1, outcome=None)
        story.handle(1)
        story.final(1)
        assert story.check().ok
        story.start(2, value="v1", hash="h1")
        assert_breaks(story, "I2", "stored twice", "m2")

    def test_a_repeated_call_is_one_message(self) -> None:
        story = Story()
        story.send(1, outcome=None)
        story.handle(1)
        call: dict[str, Any] = {"n": 2, "instance": "sender-again", "value": "v1"}
        story.tell("sender-again", "send.try", **call, sender="alice", to=["bob"], kind="one_way", hash="h1")
        story.tell("sender-again", "send.ok", **call, ids=["m1"])
        story.final(1)
        report = story.check()
        report.assert_ok()
        assert (report.acked, report.unknown) == (1, 0)
        story.events[-2]["ids"] = ["m2"]
        assert_breaks(story, "I2", "stored twice")


class TestSettledOnce:
    def test_a_claim_settled_twice(self) -> None:
        story = Story()
        story.send(1)
        story.handle(1)
        story.settle(1)
        story.final(1)
        assert assert_breaks(story, "I3", "its claim was settled twice").settled_twice == 1

    def test_a_message_settled_by_two_claims(self) -> None:
        story = Story()
        story.send(1)
        story.handle(1)
        story.tell("nemesis", "kill", who="worker", since=story.now)
        story.handle(1, 2, by="other", attempt=2)
        story.final(1, attempt=2, token=2)
        assert assert_breaks(story, "I3", "two claims").settled_twice == 1
        assert_breaks(story, "I3", "claimed after it had been settled")

    @staticmethod
    def passed_on(*, settled_twice: bool = False, astray: bool = False) -> Story:
        """Bob's run passes message 1 on to carol, whose run ends it."""
        story = Story()
        story.send(1)
        story.claim(1)
        story.start(1)
        story.end(1, recipient="bob")
        if settled_twice:
            story.settle(1)
        hop: dict[str, Any] = {
            "message": "m1",
            "number": 1,
            "by": "bob",
            "to": "dave" if astray else "carol",
            "kept": "k1",
            "seq": 1,
        }
        story.tell("worker", "claim", message="m1", seq=2, token=1, attempt=1, since=story.now + 1)
        run: dict[str, Any] = {"message": "m1", "attempt": 1, "token": 1, "recipient": "carol"}
        story.tell("worker", "h.start", **run, value="v1", hash="h1")
        story.tell("worker", "h.end", **run, how="ok")
        story.tell("worker", "settle.ok", message="m1", seq=2, token=1, how="done", since=story.now + 1)
        story.tell("test", "hop", **hop)
        story.final(1)
        story.tell("test", "final", message="k1", state="done", attempt=1, token=1, max_attempts=3, reasons=[])
        return story

    def test_one_that_was_passed_on_has_a_life_with_each_agent(self) -> None:
        self.passed_on().check().assert_ok()

    def test_one_that_was_settled_and_passed_on(self) -> None:
        report = assert_breaks(self.passed_on(settled_twice=True), "I3", "has settled it too", "k1")
        assert report.settled_twice == 1

    def test_one_that_went_to_another_agent_than_it_was_passed_on_to(self) -> None:
        assert_breaks(self.passed_on(astray=True), "I2", "it was not sent to 'carol'")

    def test_a_run_after_the_settlement(self) -> None:
        story = Story()
        story.send(1)
        story.handle(1)
        story.start(1)
        story.final(1)
        assert_breaks(story, "I3", "ran after")

    def test_a_frozen_process_may_begin_a_run_that_is_settled_elsewhere(self) -> None:
        story = Story()
        story.send(1)
        story.claim(1)
        story.tell("nemesis", "pause", who="worker", since=story.now)
        story.handle(1, 2, by="other", attempt=2)
        story.tell("nemesis", "resume", who="worker")
        story.start(1)
        story.end(1)
        story.settle(1, event="settle.stale")
        story.final(1, attempt=2, token=2)
        report = story.check()
        report.assert_ok()
        assert (report.stale_refused, report.justified_repeats) == (1, 1)

    def test_a_redriven_dead_letter_is_settled_again(self) -> None:
        story = Story()
        story.send(1)
        story.claim(1)
        story.start(1)
        story.end(1, how="err")
        story.settle(1, how="dead")
        story.tell("test", "redrive", message="m1")
        story.handle(1, 2)
        story.final(1, token=2)
        story.check().assert_ok()


class TestFencing:
    def taken_over(self) -> Story:
        """The first claim's process froze, another has claimed the message."""
        story = Story()
        story.send(1)
        story.claim(1)
        story.start(1)
        story.tell("nemesis", "pause", who="worker", since=story.now)
        story.claim(1, 2, by="other", attempt=2)
        story.tell("nemesis", "resume", who="worker")
        return story

    def test_a_stale_settlement_accepted(self) -> None:
        story = self.taken_over()
        story.end(1)
        story.settle(1)
        story.final(1, attempt=2, token=2)
        assert assert_breaks(story, "I4", "accepted after token 2").wrong_accepted == 1

    def test_a_stale_settlement_refused(self) -> None:
        story = self.taken_over()
        story.settle(1, event="settle.stale")
        story.start(1, 2, by="other", attempt=2)
        story.end(1, 2, by="other", attempt=2)
        story.settle(1, 2, by="other")
        story.final(1, attempt=2, token=2)
        report = story.check()
        report.assert_ok()
        assert report.stale_refused == 1

    def test_a_settlement_that_was_under_way_when_the_claim_was_lost(self) -> None:
        # Committed before the take-over, but recorded after it: nothing is wrong with that.
        story = Story()
        story.send(1)
        story.claim(1)
        story.start(1)
        story.end(1, how="err")
        begun = story.now
        story.claim(1, 2, by="other", attempt=2)
        story.settle(1, how="retry")
        story.events[-1]["since"] = begun
        story.start(1, 2, by="other", attempt=2)
        story.end(1, 2, by="other", attempt=2)
        story.settle(1, 2, by="other")
        story.final(1, attempt=2, token=2)
        story.check().assert_ok()

    def test_a_token_used_again(self) -> None:
        story = self.taken_over()
        story.events[-2].update(token=1)
        assert_breaks(story, "I4", "token 1 was given to two claims")

    def test_the_answer_to_a_repeated_append_is_no_second_claim(self) -> None:
        story = Story()
        story.send(1)
        story.claim(1)
        story.tell("worker", "claim", message="m1", seq=1, token=1, attempt=1, since=story.now, again=True)
        story.start(1)
        story.end(1)
        story.settle(1)
        story.final(1)
        story.check().assert_ok()

    def test_tokens_that_fall(self) -> None:
        story = Story()
        story.send(1)
        story.claim(1, 2)
        story.claim(1, 1, by="other")
        assert_breaks(story, "I4", "token 1 was given after token 2")

    def test_a_settlement_under_the_token_of_another(self) -> None:
        story = Story()
        story.send(1)
        story.claim(1)
        story.start(1)
        story.end(1)
        story.settle(1, by="other")
        story.final(1)
        assert_breaks(story, "I4", "another process's token")


class TestJustifiedRepeats:
    """A second run, with this between the two."""

    def repeated(
        self, *between: Callable[[Story], object], by: str = "other", limits: dict[str, Any] | None = None
    ) -> Story:
        story = Story()
        story.tell("test", "limits", **(limits or {}))
        story.send(1)
        story.start(1)
        for tell in between:
            tell(story)
        story.start(1, 2, by=by, attempt=2)
        story.end(1, 2, by=by, attempt=2)
        story.final(1, attempt=2, token=2)
        return story

    @pytest.mark.parametrize(
        "cause",
        [
            lambda story: story.tell("nemesis", "kill", who="worker", since=story.now),
            lambda story: story.tell("nemesis", "pause", who="worker", since=story.now),
            lambda story: story.tell("nemesis", "cut", who="worker", since=story.now),
            lambda story: story.tell("worker", "cut"),
            lambda story: story.tell("worker", "stop"),
            lambda story: story.end(1, how="err"),
            lambda story: story.end(1, how="timeout"),
            lambda story: story.end(1, how="cancelled"),
            lambda story: story.tell("test", "redrive", message="m1"),
        ],
    )
    def test_with_a_cause(self, cause: Callable[[Story], object]) -> None:
        report = self.repeated(cause).check()
        assert (report.justified_repeats, report.unjustified_repeats) == (1, 0)
        assert "I5" not in broken(report)

    @pytest.mark.parametrize(
        "excuse",
        [
            lambda story: None,
            lambda story: story.end(1),
            lambda story: story.end(1, by="third", how="err"),
            lambda story: story.tell("nemesis", "kill", who="third", since=story.now),
            lambda story: story.tell("nemesis", "pause", who="third", since=story.now),
            lambda story: story.tell("test", "redrive", message="m2"),
        ],
    )
    def test_without_one(self, excuse: Callable[[Story], object]) -> None:
        report = assert_breaks(self.repeated(excuse), "I5", "without a cause")
        assert (report.justified_repeats, report.unjustified_repeats) == (0, 1)

    def test_a_lease_that_ended(self) -> None:
        story = self.repeated(lambda story: story.tell("test", "depth", after=2, recipient="bob", depth=1))
        story.events[3]["left"] = 1.5
        assert "I5" not in broken(story.check())
        story.events[3]["left"] = 2.5
        assert_breaks(story, "I5", "without a cause")

    @pytest.mark.parametrize(("length", "justified"), [(0.2, 0), (1.2, 1)])
    def test_a_pause_explains_a_repeat_once_it_is_as_long_as_a_lease(self, length: float, justified: int) -> None:
        story = self.repeated(
            lambda story: story.tell("nemesis", "pause", who="worker", since=story.now),
            lambda story: story.tell("nemesis", "resume", after=length, who="worker"),
            limits={"lease": 1.0},
        )
        assert story.check().justified_repeats == justified

    def test_what_a_stopping_process_gave_back_may_run_before_it_says_that_it_stopped(self) -> None:
        story = self.repeated(lambda story: story.end(1))
        repeat = story.events[5]["t"]
        stop = story.tell("worker", "stop")
        assert_breaks(story, "I5", "without a cause")
        stop["since"] = repeat
        assert "I5" not in broken(story.check())
        stop["since"] = repeat + 1
        assert_breaks(story, "I5", "without a cause")

    def test_each_repeat_needs_its_own_cause(self) -> None:
        story = self.repeated(lambda story: story.end(1, how="err"))
        story.start(1, 3, attempt=3)
        report = assert_breaks(story, "I5", "without a cause")
        assert (report.justified_repeats, report.unjustified_repeats) == (1, 1)


class TestTakeover:
    def killed(self, fault: str = "kill") -> Story:
        story = Story()
        story.tell("test", "limits", **{f"takeover_{fault}": 1.0})
        story.tell("worker", "start", serves=["bob"])
        story.send(1)
        story.start(1)
        story.tell("nemesis", fault, who="worker", since=story.now)
        return story

    def finish(self, story: Story, after: float) -> None:
        story.tell("test", "depth", after=after, recipient="bob", depth=1)
        story.start(1, 2, by="other", attempt=2)
        story.end(1, 2, by="other", attempt=2)
        story.final(1, attempt=2, token=2)

    @pytest.mark.parametrize("fault", ["kill", "pause"])
    def test_it_is_measured_from_the_fault(self, fault: str) -> None:
        story = self.killed(fault)
        story.events.insert(0, {"t": 1, "p": "other", "e": "start", "serves": ["*"]})
        self.finish(story, 0.5)
        report = story.check()
        report.assert_ok()
        times = {"kill": report.takeovers_after_kill, "pause": report.takeovers_after_pause}
        assert times.pop(fault) == [pytest.approx(0.502)]
        assert list(times.values()) == [[]]

    @pytest.mark.parametrize("fault", ["kill", "pause"])
    def test_a_late_one(self, fault: str) -> None:
        story = self.killed(fault)
        story.events.insert(0, {"t": 1, "p": "other", "e": "start", "serves": ["*"]})
        self.finish(story, 2.0)
        assert_breaks(story, "I6", f"after the {fault}")

    def test_while_nobody_serves_the_recipient_the_clock_stands(self) -> None:
        story = self.killed()
        story.tell("other", "start", after=5, serves=["bob"])
        self.finish(story, 0.5)
        report = story.check()
        report.assert_ok()
        assert report.takeovers_after_kill == [pytest.approx(0.501)]

    def test_a_run_that_had_ended_is_not_taken_over(self) -> None:
        story = Story()
        story.send(1)
        story.start(1)
        story.end(1, how="err")
        story.tell("nemesis", "kill", who="worker", since=story.now)
        self.finish(story, 0.5)
        assert story.check().takeovers_after_kill == []


class TestOrder:
    def swapped(self, **fields: Any) -> Story:
        story = Story()
        story.tell("worker", "start", serves=["bob"])
        story.send(1)
        story.send(2, **fields)
        story.handle(2)
        story.handle(1)
        story.final(1)
        story.final(2)
        return story

    def test_two_first_runs_swapped(self) -> None:
        assert assert_breaks(self.swapped(), "I11", "call 1 had its first run after call 2").order_violations == 1

    def test_scheduled_messages_are_outside_the_promise(self) -> None:
        self.swapped(scheduled=True).check().assert_ok()

    def test_two_threads_are_each_in_order_by_themselves(self) -> None:
        self.swapped(thread="a").check().assert_ok()

    def test_two_sdk_objects_are_outside_the_promise(self) -> None:
        story = self.swapped()
        for event in story.events:
            if event.get("value") == "v2" and event["e"].startswith("send"):
                event["instance"] = "another"
        story.check().assert_ok()

    def test_taken_over_messages_are_outside_the_promise(self) -> None:
        story = self.swapped()
        for event in story.events:
            if event.get("message") == "m1":
                event.update(attempt=2, token=2)
        story.events.insert(0, {"t": 1, "p": "nemesis", "e": "kill", "who": "before", "since": 0})
        story.check().assert_ok()

    @pytest.mark.parametrize(("serves", "swaps"), [(["bob"], 0), (["*"], 0), (["carol"], 1)])
    def test_with_two_processes_nothing_is_promised(self, serves: list[str], swaps: int) -> None:
        story = self.swapped()
        story.events.insert(0, {"t": 1, "p": "other", "e": "start", "serves": serves})
        assert story.check().order_violations == swaps

    def test_one_process_after_another_keeps_the_promise(self) -> None:
        story = self.swapped()
        story.events.insert(0, {"t": 1, "p": "earlier", "e": "start", "serves": ["bob"]})
        story.events.insert(1, {"t": 2, "p": "earlier", "e": "stop"})
        assert story.check().order_violations == 1


class TestContainment:
    def test_attempts_over_the_limit(self) -> None:
        story = Story()
        story.tell("test", "limits", max_attempts=3)
        story.send(1)
        story.handle(1, 4, attempt=4)
        story.final(1, attempt=4, token=4)
        assert assert_breaks(story, "I12", "4 attempts of 3").attempts_max == 4

    def test_a_poisoned_message_must_die(self) -> None:
        story = Story()
        story.send(1, expect="dead")
        story.handle(1)
        story.final(1)
        assert_breaks(story, "I12", "should have died")

    def test_giving_up_early(self) -> None:
        story = Story()
        story.send(1)
        story.start(1)
        story.end(1, how="err")
        story.final(1, "dead", reasons=["it failed"])
        assert_breaks(story, "I12", "given up after 1 of 3")

    def test_a_bystander_pays(self) -> None:
        story = Story()
        story.tell("test", "limits", bystander_attempts=1)
        story.send(1)
        story.tell("nemesis", "kill", who="worker", since=0)
        story.handle(1, 2, attempt=2)
        story.final(1, attempt=2, token=2)
        assert_breaks(story, "I12", "promised to a bystander")

    def test_attempts_without_causes(self) -> None:
        story = Story()
        story.send(1)
        story.handle(1, 2, attempt=2)
        story.final(1, attempt=2, token=2)
        assert_breaks(story, "I12", "too few causes")


class TestBounds:
    def test_a_mailbox_over_its_limit(self) -> None:
        story = Story()
        story.tell("test", "limits", mailbox=10)
        story.tell("test", "depth", recipient="bob", depth=11)
        assert assert_breaks(story, "I13", "held 11", None).depth_max == 11

    def test_a_call_with_fewer_ids_than_recipients(self) -> None:
        story = Story()
        story.send(1)
        story.events[0]["to"] = ["bob", "carol"]
        assert_breaks(story, "I13", "dropped messages", None)

    def test_a_call_with_two_outcomes(self) -> None:
        story = Story()
        story.send(1)
        story.tell("sender", "send.no", n=1, instance="sender", value="v1", code="mailbox_full")
        report = assert_breaks(story, "I13", "two outcomes", None)
        assert not report.sums_up
        assert "≠" in str(report)

    def test_an_outcome_without_a_call(self) -> None:
        story = Story()
        story.send(1)
        del story.events[0]
        assert_breaks(story, "I13", "never tried", None)

    def test_a_call_swallowed_by_a_process_that_ended_in_order(self) -> None:
        story = Story()
        story.send(1, outcome=None)
        assert story.check().ok
        story.tell("sender", "stop")
        assert_breaks(story, "I13", "no outcome", None)

    @pytest.mark.parametrize(
        ("state", "text"),
        [("dead", "without a reason"), ("expired", "had no expiry"), ("withdrawn", "nobody withdrew it")],
    )
    def test_a_message_dropped_in_silence(self, state: str, text: str) -> None:
        story = Story()
        story.send(1)
        story.final(1, state, attempt=3)
        assert_breaks(story, "I13", text)


# --- simulated histories ----------------------------------------------------------------------------------------------


@st.composite
def simulations(draw: st.DrawFn) -> Simulation:
    return Simulation(
        draw(st.integers(0, 1 << 32)),
        messages=draw(st.integers(2, 120)),
        workers=draw(st.integers(2, 5)),
        kills=draw(st.integers(0, 8)),
        pauses=draw(st.integers(0, 8)),
        stops=draw(st.integers(0, 4)),
        failure=draw(st.sampled_from([0.0, 0.1, 0.4])),
        tokens=draw(st.booleans()),
    )


@given(simulations())
@settings(max_examples=150)
def test_no_false_alarm(simulation: Simulation) -> None:
    check(simulation.run()).assert_ok()


def test_what_a_simulated_history_contains() -> None:
    """The absence of alarms means something: everything the checker excuses does happen."""
    reports = [check(Simulation(seed, messages=100, kills=4, pauses=4).run()) for seed in range(10)]
    assert all(sum(getattr(report, name) for report in reports) for name in ("justified_repeats", "stale_refused"))
    assert all(sum(getattr(report, name) for report in reports) for name in ("recovered", "refused", "order_pairs"))
    assert all(
        sum(len(times) for times in column)
        for column in zip(
            *((report.takeovers_after_kill, report.takeovers_after_pause) for report in reports), strict=True
        )
    )


Plant = Callable[[list[Event], random.Random], bool]
"""Puts one fault into a history; False if it has no place for it."""
PLANTS: list[tuple[str, Plant]] = []


def plant(invariant: str) -> Callable[[Plant], Plant]:
    def add(function: Plant) -> Plant:
        PLANTS.append((invariant, function))
        return function

    return add


def pick(events: list[Event], random: random.Random, wanted: Callable[[Event], object]) -> Event | None:
    found = [event for event in events if wanted(event)]
    return random.choice(found) if found else None


def acked(events: list[Event]) -> set[str]:
    return {id for event in events if event["e"] == "send.ok" for id in event["ids"]}


def settled_at(events: list[Event]) -> dict[str, int]:
    return {e["message"]: e["t"] for e in events if e["e"] == "settle.ok" and e["how"] in ("done", "dead")}


def add_after(events: list[Event], event: Event, after: int = 1, **fields: Any) -> None:
    events.append({**event, "t": event["t"] + after, **fields})


@plant("I1")
def lose_a_message(events: list[Event], random: random.Random) -> bool:
    final = pick(events, random, lambda e: e["e"] == "final" and e["message"] in acked(events))
    if final is None:
        return False
    final["state"] = random.choice(["missing", "queued", "claimed"])
    return True


@plant("I1")
def settle_without_a_run(events: list[Event], random: random.Random) -> bool:
    final = pick(events, random, lambda e: e["e"] == "final" and e["state"] == "done" and e["message"] in acked(events))
    if final is None:
        return False
    events[:] = [e for e in events if not (e["e"].startswith("h.") and e["message"] == final["message"])]
    return True


@plant("I2")
def run_what_was_never_sent(events: list[Event], random: random.Random) -> bool:
    start = pick(events, random, lambda e: e["e"] == "h.start")
    if start is None:
        return False
    add_after(events, start, message="ghost", value="ghost")
    return True


@plant("I2")
def run_what_was_refused(events: list[Event], random: random.Random) -> bool:
    refused = pick(events, random, lambda e: e["e"] == "send.no")
    if refused is None:
        return False
    run = {"message": "late", "attempt": 1, "recipient": "bob", "value": refused["value"]}
    events.append({"t": refused["t"] + 1, "p": "worker-1", "e": "h.start", **run})
    return True


@plant("I2")
def change_a_body(events: list[Event], random: random.Random) -> bool:
    start = pick(events, random, lambda e: e["e"] == "h.start")
    if start is None:
        return False
    start["hash"] = "changed"
    return True


@plant("I2")
def store_a_call_twice(events: list[Event], random: random.Random) -> bool:
    start = pick(events, random, lambda e: e["e"] == "h.start")
    if start is None:
        return False
    add_after(events, start, message="copy")
    return True


@plant("I3")
def settle_twice(events: list[Event], random: random.Random) -> bool:
    settled = pick(events, random, lambda e: e["e"] == "settle.ok")
    if settled is None:
        return False
    add_after(events, settled)
    return True


@plant("I3")
def run_after_the_settlement(events: list[Event], random: random.Random) -> bool:
    ends = settled_at(events)
    run = pick(events, random, lambda e: e["e"] == "h.end" and e["how"] == "ok" and e["message"] in ends)
    start = run and pick(events, random, lambda e: e["e"] == "h.start" and e["message"] == run["message"])
    if not start:
        return False
    settled = next(e for e in events if e["e"] == "settle.ok" and e["t"] == ends[start["message"]])
    events.append({**start, "t": settled["t"] + 1, "p": settled["p"], "token": settled["token"]})
    return True


@plant("I4")
def accept_a_stale_settlement(events: list[Event], random: random.Random) -> bool:
    claims = {(e["message"], e["token"]): e for e in events if e["e"] == "claim"}

    def is_provable(event: Event) -> bool:
        taken = claims.get((event["message"], event["token"] + 1)) if event["e"] == "settle.stale" else None
        return taken is not None and taken["t"] < event["since"]

    stale = pick(events, random, is_provable)
    if stale is None:
        return False
    stale["e"] = "settle.ok"
    return True


@plant("I4")
def use_a_token_again(events: list[Event], random: random.Random) -> bool:
    claim = pick(events, random, lambda e: e["e"] == "claim" and e["token"] > 1)
    if claim is None or not any(e["e"] == "claim" and _follows(e, claim) for e in events):
        return False
    claim["token"] -= 1
    return True


def _follows(claim: Event, other: Event) -> bool:
    return bool(claim["message"] == other["message"] and claim["token"] == other["token"] - 1)


@plant("I5")
def repeat_without_a_cause(events: list[Event], random: random.Random) -> bool:
    end = pick(events, random, lambda e: e["e"] == "h.end" and e["how"] == "ok")
    start = end and next(
        e
        for e in events
        if e["e"] == "h.start"
        and all(e[name] == end[name] for name in ("message", "attempt", "p"))
        and e["t"] <= end["t"]
    )
    if not start or any(e.get("who") == start["p"] or (e["e"] == "stop" and e["p"] == start["p"]) for e in events):
        return False
    assert end is not None
    events.append({**start, "t": end["t"] + 1})
    return True


@plant("I6")
def take_over_late(events: list[Event], random: random.Random) -> bool:
    if not check(events).takeovers_after_kill or check(events).takeovers_after_kill[-1] < 0.002:
        return False
    events[0]["takeover_kill"] = 0.001
    return True


@plant("I11")
def swap_two_runs(events: list[Event], random: random.Random) -> bool:
    attempts = {e["message"]: e["attempt"] for e in events if e["e"] == "final"}
    tokens = {e["message"]: e["token"] for e in events if e["e"] == "final"}
    starts = [
        e
        for e in events
        if e["e"] == "h.start" and e["recipient"] == "dave" and attempts[e["message"]] == tokens[e["message"]] == 1
    ]
    for earlier, later in pairwise(starts):
        if earlier["value"].split("-")[0] == later["value"].split("-")[0]:
            earlier["t"], later["t"] = later["t"], earlier["t"]
            return True
    return False


@plant("I12")
def exceed_the_attempts(events: list[Event], random: random.Random) -> bool:
    start = pick(events, random, lambda e: e["e"] == "h.start")
    if start is None:
        return False
    start["attempt"] = MAX_ATTEMPTS + 1
    return True


@plant("I12")
def let_a_poisoned_message_live(events: list[Event], random: random.Random) -> bool:
    final = pick(events, random, lambda e: e["e"] == "final" and e["state"] == "done")
    start = final and pick(events, random, lambda e: e["e"] == "h.start" and e["message"] == final["message"])
    tried = start and pick(events, random, lambda e: e["e"] == "send.try" and e["value"] == start["value"])
    if not tried:
        return False
    tried["expect"] = "dead"
    return True


@plant("I13")
def overfill_a_mailbox(events: list[Event], random: random.Random) -> bool:
    sample = pick(events, random, lambda e: e["e"] == "depth")
    if sample is None:
        return False
    sample["depth"] = events[0]["mailbox"] + 1
    return True


@plant("I13")
def drop_a_recipient(events: list[Event], random: random.Random) -> bool:
    accepted = pick(events, random, lambda e: e["e"] == "send.ok" and len(e["ids"]) > 1)
    if accepted is None:
        return False
    accepted["ids"].pop()
    return True


@plant("I13")
def let_a_message_die_in_silence(events: list[Event], random: random.Random) -> bool:
    dead = pick(events, random, lambda e: e["e"] == "final" and e["state"] == "dead")
    if dead is None:
        return False
    dead["reasons"] = []
    return True


@pytest.mark.parametrize(("invariant", "plant"), PLANTS, ids=[plant.__name__ for _, plant in PLANTS])
def test_one_fault_in_a_right_history_is_always_found(invariant: str, plant: Plant) -> None:
    planted = 0
    for seed in range(400):
        events = Simulation(seed, messages=80, kills=4, pauses=6, stops=1, failure=0.3).run()
        if plant(events, random.Random(seed)):
            assert invariant in broken(check(events)), f"missed in the history of seed {seed}"
            planted += 1
        if planted == 10:
            return
    pytest.fail(f"only {planted} of 400 histories had a place for it")


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_is_a_table_for_people() -> None:
    lines = str(check(Simulation(1).run())).splitlines()
    assert [line.split()[0] for line in lines][:5] == ["history", "calls", "messages", "settling", "repeats"]
    assert lines[-1] == "verdict    ok"
    assert max(len(line) for line in lines) <= 120


def test_assert_ok_lists_what_is_broken_and_what_shows_it() -> None:
    story = Story()
    for n in range(1, 31):
        story.send(n)
        story.final(n, "missing")
    with pytest.raises(AssertionError) as raised:
        story.check().assert_ok(listed=3)
    text = str(raised.value)
    assert "I1 m1: lost: it was stored, and is not in the store" in text
    assert "'state': 'missing'" in text
    assert "... and 27 more" in text
    assert "30 violations: I1 30" in text


def test_the_order_of_the_events_does_not_matter() -> None:
    events = Simulation(3, kills=4, pauses=4).run()
    shuffled = events.copy()
    random.Random(3).shuffle(shuffled)
    assert str(check(shuffled)) == str(check(events))


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 99, 100)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 1) == 7.0


def test_two_hundred_thousand_events() -> None:
    """Finishes: a checker that looked at pairs of events would not."""
    story = Story()
    for worker in range(40):
        story.tell(f"worker-{worker}", "start", serves=["bob"])
    count = 200_000 // 7
    for n in range(1, count + 1):
        story.send(n)
        story.handle(n, by=f"worker-{n % 40}")
        if n % 1000 == 0:
            story.tell("nemesis", "pause", who=f"worker-{n % 40}", since=story.now)
            story.tell("nemesis", "resume", who=f"worker-{n % 40}")
    for n in range(1, count + 1):
        story.final(n)
    assert len(story.events) > 200_000
    report = story.check()
    report.assert_ok()
    assert report.acked == count
