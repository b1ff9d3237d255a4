"""The outbox alone: a store that is slow, full or silent, and an observer who notes what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from agent_messaging.delivery.facts import Facts
from agent_messaging.delivery.outbox import Outbox
from agent_messaging.exceptions import NotInitializedError, OutcomeUnknownError, StorageFullError
from agent_messaging.models import Kind
from agent_messaging.observing.facts import Fact, FactType
from agent_messaging.observing.observers import Ears
from agent_messaging.storage.ports import AppendOutcome, Claim, NewDelivery, NewGroup, Stored

SOON = 5.0


def group(content: str, sender: str = "alice") -> NewGroup:
    return NewGroup(Kind.ONE_WAY, sender, content, None, 0, [NewDelivery(content, "bob")], 5, 60.0)


class Deliveries:
    """Stores what it gets once it may."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.repeats: list[bool] = []
        self.has_begun = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.errors: list[Exception] = []

    async def append(
        self, groups: Sequence[NewGroup], *, owner: str, repeat: bool = False, budget: float | None = None
    ) -> list[AppendOutcome]:
        self.has_begun.set()
        await self.may_answer.wait()
        self.repeats.append(repeat)
        if self.errors:
            raise self.errors.pop(0)
        self.commits.append([one.content for one in groups])
        return [Stored({one.content: Claim(1, 1, 1)}) for one in groups]


class Observer:
    def __init__(self) -> None:
        self.marked: list[str] = []
        self.doubts = 0
        self.told: list[tuple[str, AppendOutcome | Exception]] = []
        self.error: Exception | None = None
        self.fault_before: Exception | None = None

    def about_to_append(self, groups: list[NewGroup]) -> None:
        if self.fault_before is not None:
            raise self.fault_before
        self.marked += [one.content for one in groups]

    def doubted(self) -> None:
        self.doubts += 1

    def appended(self, group: NewGroup, outcome: AppendOutcome | Exception) -> None:
        self.told.append((group.content, outcome))
        if self.error is not None:
            raise self.error


class Post:
    """An outbox with its store and its observer."""

    def __init__(self, lines: int = 1) -> None:
        self.store, self.observer = Deliveries(), Observer()
        deliveries: Any = self.store
        self.ears = Ears()
        nobody: Any = SimpleNamespace(cached_name=str)
        facts = Facts(self.ears, nobody)
        self.outbox = Outbox(deliveries, lambda: "me", self.observer, facts, budget=SOON, lines=lines)


async def test_what_arrives_during_a_commit_goes_out_together_with_the_next_one() -> None:
    post = Post()
    first = post.outbox.enter(group("1"))
    await post.store.has_begun.wait()
    rest = [post.outbox.enter(group(name)) for name in "234"]
    post.store.may_answer.set()
    await asyncio.wait_for(asyncio.gather(first, *rest), SOON)
    assert post.store.commits == [["1"], ["2", "3", "4"]]
    assert [name for name, _ in post.observer.told] == post.observer.marked == ["1", "2", "3", "4"]
    await post.outbox.aclose(SOON)
    with pytest.raises(NotInitializedError):
        post.outbox.enter(group("5"))


async def test_senders_stand_in_two_lines_and_each_keeps_its_order() -> None:
    post = Post(lines=2)
    names = [f"sender-{number}" for number in range(40)]
    stored = [post.outbox.enter(group(f"{name} {turn}", name)) for turn in range(3) for name in names]
    await post.store.has_begun.wait()
    await asyncio.sleep(0)  # the other line's first step
    late = [post.outbox.enter(group(f"{name} 3", name)) for name in names]
    assert not post.outbox.is_idle
    post.store.may_answer.set()
    await asyncio.wait_for(asyncio.gather(*stored, *late), SOON)
    assert len(post.store.commits) == 4, "two of each line: what came meanwhile goes together"
    in_order = [content.split() for commit in post.store.commits for content in commit]
    for name in names:
        assert [turn for sender, turn in in_order if sender == name] == ["0", "1", "2", "3"]
    await post.outbox.aclose(SOON)
    assert post.outbox.is_idle


async def test_a_lost_answer_is_doubted_and_the_repeat_brings_no_claims() -> None:
    post = Post()
    post.store.errors = [OutcomeUnknownError("lost")]
    post.store.may_answer.set()
    outcome = await asyncio.wait_for(post.outbox.enter(group("1")), SOON)
    assert isinstance(outcome, Stored)
    assert outcome.claims == {}
    assert (post.store.repeats, post.observer.doubts) == ([False, True], 1)
    await post.outbox.aclose(SOON)


async def test_a_group_that_the_store_could_not_take_is_told_with_the_error() -> None:
    post = Post()
    post.store.errors = [StorageFullError("full")]
    post.store.may_answer.set()
    with pytest.raises(StorageFullError):
        await asyncio.wait_for(post.outbox.enter(group("1")), SOON)
    [(name, outcome)] = post.observer.told
    assert (name, type(outcome)) == ("1", StorageFullError)
    await post.outbox.aclose(SOON)


async def test_a_fault_in_announcing_hides_no_answer_from_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    post = Post()
    post.observer.error = LookupError("a fault")
    post.store.may_answer.set()
    outcomes = await asyncio.wait_for(asyncio.gather(*(post.outbox.enter(group(name)) for name in "12")), SOON)
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert "could not be announced" in caplog.text
    await post.outbox.aclose(SOON)


async def test_closing_waits_for_what_was_handed_in_before_its_first_step() -> None:
    post = Post()
    post.store.may_answer.set()
    stored = post.outbox.enter(group("1"))
    await post.outbox.aclose(SOON)
    assert isinstance(await stored, Stored)


async def test_closing_ends_although_the_store_does_not_answer() -> None:
    """And nobody waits for ever: what was on its way is unknown, what had not begun was not stored."""
    post = Post()
    on_its_way = post.outbox.enter(group("1"))
    await post.store.has_begun.wait()
    not_begun = post.outbox.enter(group("2"))
    await asyncio.wait_for(post.outbox.aclose(0.05), SOON)
    assert post.outbox.is_idle
    with pytest.raises(OutcomeUnknownError, match="idempotency_key"):
        await asyncio.wait_for(on_its_way, SOON)
    with pytest.raises(NotInitializedError, match="nothing of it was"):
        await asyncio.wait_for(not_begun, SOON)


async def test_observers_are_told_of_what_closing_cuts_off() -> None:
    """Whoever counts what is handed in, or has begun a span for it, is told how each ends."""
    post = Post(lines=2)
    facts: list[Fact] = []
    post.ears.add(facts.append)
    entered = [post.outbox.enter(group("1"))]
    await post.store.has_begun.wait()
    entered.append(post.outbox.enter(group("2")))
    await asyncio.wait_for(post.outbox.aclose(0.05), SOON)
    await asyncio.gather(*entered, return_exceptions=True)
    assert [(fact.type, fact.message_id, fact.reason) for fact in facts] == [
        (FactType.REFUSED, "1", "outcome_unknown"),
        (FactType.REFUSED, "2", "not_initialized"),
    ]


async def test_closing_without_time_answers_also_before_the_first_step() -> None:
    post = Post()
    entered = post.outbox.enter(group("1"))
    await asyncio.wait_for(post.outbox.aclose(0), SOON)
    with pytest.raises((NotInitializedError, OutcomeUnknownError)):
        await asyncio.wait_for(entered, SOON)


async def test_a_fault_before_the_commit_strands_no_caller(caplog: pytest.LogCaptureFixture) -> None:
    post = Post()
    post.observer.fault_before = LookupError("a fault")
    post.store.may_answer.set()
    outcomes = await asyncio.wait_for(asyncio.gather(*(post.outbox.enter(group(name)) for name in "12")), SOON)
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert "could not be marked" in caplog.text
    await post.outbox.aclose(SOON)
