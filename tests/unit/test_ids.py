"""The ids that the SDK makes: they rise, in every thread, process and fork, also when the clock is set back."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid

from agent_messaging.ids import Uuid7Source, uuid7

# --- uuid7 ------------------------------------------------------------------------------------------------------------


def test_uuid7_is_canonical_text_of_version_7_with_the_time_in_front() -> None:
    source = Uuid7Source(clock=lambda: 1_700_000_000_123_456_789)
    text = source.next()
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == 1_700_000_000_123


def test_uuid7_rises_within_a_millisecond_over_milliseconds_and_when_the_clock_is_set_back() -> None:
    milliseconds = [5, 5, 5, 6, 6, 2, 1, 6, 7, 7]
    clock = iter(milliseconds)
    source = Uuid7Source(clock=lambda: next(clock) * 1_000_000)
    made = [source.next() for _ in milliseconds]
    assert made == sorted(set(made))
    assert uuid.UUID(made[5]).int >> 80 == 6


def test_uuid7_counts_through_the_border_between_its_two_random_fields() -> None:
    source = Uuid7Source(clock=lambda: 1_000_000)
    source.next()
    source.tail = (5 << 62) - 1
    before, after = source.prefix, uuid.UUID(source.next())
    assert str(after).startswith(before)
    assert (after.version, after.variant) == (7, uuid.RFC_4122)
    assert (after.int >> 64 & 0xFFF, after.int & (1 << 62) - 1) == (5, 0)


def test_uuid7_draws_anew_in_each_millisecond() -> None:
    clock = iter(range(1, 201))
    source = Uuid7Source(clock=lambda: next(clock) * 1_000_000)
    assert len({source.next()[14:] for _ in range(200)}) == 200


def test_uuid7_of_many_threads_are_distinct_and_rise_in_each() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    start = threading.Barrier(8)

    def make(mine: list[str]) -> None:
        start.wait()
        mine.extend(uuid7() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({text for mine in made for text in mine}) == 40_000
    assert all(mine == sorted(mine) for mine in made)


FORK = """
import os, sys
from agent_messaging import ids
ids._source.clock = lambda: 1_000_000  # one millisecond for both
ids.uuid7()
receiving, sending = os.pipe()
with ids._source.lock:  # as if another thread were making an id at the moment of the fork
    child = os.fork()
    if child == 0:
        os.write(sending, ids.uuid7().encode())
        os._exit(0)
print(os.read(receiving, 100).decode(), ids.uuid7())
"""


def test_a_forked_child_does_not_go_on_counting_from_its_parent_and_is_not_stopped_by_a_lock_held_there() -> None:
    run = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30, check=True)
    childs, parents = (uuid.UUID(text).int & (1 << 62) - 1 for text in run.stdout.split())
    assert abs(childs - parents) > 1_000_000
