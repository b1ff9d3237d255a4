"""Who is given a task, and what the end of a claim does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_messaging.models import DeliveryState, TaskState
from agent_messaging.storage import choosing, workload
from agent_messaging.storage.ports import Settling, WorkerRow
from agent_messaging.storage.workload import End, Held, HeldTask, Verdict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def worker(worker_id: str, *, booked: int = 0, reported: int = 0, capacity: int = 2, idle: float = 0.0) -> WorkerRow:
    return WorkerRow(
        worker_id=worker_id,
        role="worker",
        capabilities=("python", "sql"),
        capacity=capacity,
        status="active",
        is_alive=True,
        booked=booked,
        reported=reported,
        pulls=False,
        metadata=None,
        registered_at=NOON,
        heartbeat_at=NOON,
        idle_since=NOON - timedelta(seconds=idle),
    )


def test_the_least_loaded_is_chosen_then_the_longest_idle_then_by_id() -> None:
    workers = [
        worker("half", booked=1, idle=90),
        worker("later", idle=10),
        worker("b", idle=20),
        worker("a", idle=20),
    ]
    assert choosing.choose(workers, [("python",)] * 5) == ["a", "b", "later", "half", "a"]


def test_the_load_is_the_share_of_the_capacity() -> None:
    workers = [worker("small", booked=1, capacity=2), worker("big", booked=4, capacity=10)]
    assert choosing.choose(workers, [()]) == ["big"]


@pytest.mark.parametrize(
    "unfit",
    [
        replace(worker("w"), is_alive=False),
        replace(worker("w"), status="offline"),
        replace(worker("w"), status="busy"),
        replace(worker("w"), capabilities=("python",)),
        replace(worker("w"), booked=2),
        replace(worker("w"), reported=2),
    ],
)
def test_nobody_fits_who_is_dead_unavailable_unable_or_full(unfit: WorkerRow) -> None:
    assert choosing.choose([unfit], [("python", "sql")]) == [None]


def test_a_full_worker_is_listed_and_not_chosen() -> None:
    full = worker("w", reported=2)
    assert choosing.is_able(full, ["sql"])
    assert full.load == 1
    assert choosing.choose([full], [["sql"]]) == [None]


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5), st.integers(0, 5)), max_size=6),
    st.integers(0, 20),
)
def test_no_worker_gets_more_than_it_has_room_for(rooms: list[tuple[int, int, int]], tasks: int) -> None:
    workers = [
        worker(f"w{n}", capacity=capacity, booked=booked, reported=reported)
        for n, (capacity, booked, reported) in enumerate(rooms)
    ]
    chosen = choosing.choose(workers, [("sql",)] * tasks)
    for one in workers:
        assert chosen.count(one.worker_id) + one.booked <= max(one.capacity, one.booked)
    assert sum(name is not None for name in chosen) >= min(tasks, sum(one.free for one in workers))


@pytest.mark.parametrize(
    ("how", "attempt", "end"),
    [
        (Settling.DONE, 3, End.DONE),
        (Settling.RETRY, 2, End.AGAIN),
        (Settling.RETRY, 3, End.FAILED),
        (Settling.DEAD, 1, End.FAILED),
        (Settling.RETURNED, 3, End.AGAIN),
    ],
)
def test_where_a_settlement_leaves_the_work(how: Settling, attempt: int, end: End) -> None:
    assert workload.end_of(how, attempt, 3) is end


def test_what_nobody_settled_is_tried_again_up_to_its_last_attempt() -> None:
    assert workload.end_of_lost(2, 3).of_task is TaskState.QUEUED
    assert workload.end_of_lost(3, 3).of_task is TaskState.FAILED
    assert workload.end_of_lost(3, 3).of_message is DeliveryState.DEAD


def test_only_what_is_given_back_is_not_counted() -> None:
    assert [workload.attempts_after(how, 2) for how in Settling] == [2, 2, 2, 1]
    assert workload.attempts_after(Settling.RETURNED, 0) == 0


def test_only_the_newest_token_moves_and_a_repeat_is_answered_alike() -> None:
    held = Held(1, True, 3, 1, 3, None, None, False)
    ended = Held(1, False, 3, 1, 3, Settling.DONE, None, False)
    assert held.judge(3, Settling.RETRY) is Verdict.MOVES
    assert held.judge(2, Settling.DONE) is Verdict.REFUSED
    assert ended.judge(3, Settling.DONE) is Verdict.REPEATS
    assert ended.judge(3, Settling.DEAD) is Verdict.REFUSED
    assert Held(1, False, 3, 1, 3, workload.LOST, None, False).judge(3, Settling.DONE) is Verdict.REFUSED


def test_of_what_a_dead_process_had_its_suspects_are_to_blame_and_all_of_it_where_there_are_none() -> None:
    one, two = (
        [Held(seq, True, 1, attempt, 3, None, owner, suspect) for seq, attempt, owner, suspect in found]
        for found in ([(1, 2, "a", True), (2, 1, "a", False)], [(3, 3, "b", False), (4, 1, "b", False)])
    )
    changes = workload.release_messages([*one, *two], counted=True)
    assert [(one.seq, one.end.value, one.attempt, one.suspect) for one in changes] == [
        (1, "again", 2, True),
        (2, "again", 0, False),
        (3, "failed", 3, True),
        (4, "again", 1, True),
    ]
    assert [one.suspect for one in workload.release_messages([*one], counted=False)] == [False, False]


def test_of_many_names_each_is_looked_at_a_few_times() -> None:
    names = [Name(f"t{number}") for number in range(500)] * 2
    held = [HeldTask(1, True, 1, 1, 3, None, "p", False, str(name), TaskState.RUNNING, "w", None) for name in names[1:]]
    Name.compared = 0
    assert workload.each_once([*names, "unknown"], held) == [True] * 500 + [False] * 501
    assert Name.compared < 20 * len(names)


class Name(str):
    """It counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)


def test_a_number_that_cannot_rise_refuses_no_bookings() -> None:
    """A damaged one is greater than any store writes, and would refuse all tasks of the call."""
    waiting = choosing.Waiting(1, "t", ("sql",), 2**63 - 1, 2**63 - 1, None, None)
    (booking,) = choosing.book([waiting], [worker("w")])
    assert booking is not None
    assert (booking.token, booking.attempt) == (2**31 - 1, 2**31 - 1)


def test_each_assignment_has_a_message_of_its_own() -> None:
    assert choosing.message_id_of("m", 1) == "m"
    assert len({choosing.message_id_of("m", token) for token in (1, 2, 3)}) == 3
