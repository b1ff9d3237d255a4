"""Topics without a store: how many patterns match one, and how publications are numbered and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given

from agent_messaging.exceptions import DatabaseError
from agent_messaging.ids import Uuid7Source, uuid7
from agent_messaging.models import Kind
from agent_messaging.storage.admission import View, admit
from agent_messaging.storage.ports import NewDelivery, NewGroup, Publication, Stored, TooManySubscribers
from agent_messaging.storage.topics import (
    MAX_WORDS,
    MOST,
    MOST_BYTES,
    SPARE_BITS,
    address,
    has_nobody,
    list_patterns,
    list_ranges,
)
from tests.conformance.topics import matches, patterns, topic_names


def publication(content: str = "1") -> NewGroup:
    made = Publication(uuid7(spare_bits=SPARE_BITS), "a.b")
    return NewGroup(Kind.ONE_WAY, "alice", content, None, 0, [], 5, 30.0, publication=made)


@given(patterns, topic_names)
def test_the_patterns_of_a_topic_are_those_that_match_it(pattern: str, topic: str) -> None:
    assert (pattern in list_patterns(topic)) == matches(pattern, topic)


def test_a_topic_has_as_many_patterns_as_is_proved() -> None:
    assert list_patterns("a") == [">", "a", "*"]
    assert list_patterns("a.b") == [">", "a.>", "*.>", "a.b", "a.*", "*.b", "*.*"]
    for number in range(1, MAX_WORDS + 1):
        found = list_patterns(".".join(f"w{place}" for place in range(number)))
        assert len(found) == len(set(found)) == 2 ** (number + 1) - 1


def test_messages_are_numbered_within_the_publication_in_the_order_of_their_recipients() -> None:
    one, two, note = publication(), publication(), publication()
    note.publication, note.deliveries = None, [NewDelivery("m", "bob")]
    address([one, note, two], [(2, "dave"), (0, "carol"), (0, "bob")], [])
    assert [delivery.recipient_id for delivery in one.deliveries] == ["bob", "carol"]
    assert one.publication is not None
    first = one.publication.first_id
    assert [delivery.message_id for delivery in one.deliveries] == [first, first[:-1] + "1"]
    assert [(delivery.message_id, delivery.recipient_id) for delivery in note.deliveries] == [("m", "bob")]
    assert [range[0] for range in list_ranges([one, note, two])] == [0, 2]
    ((_, begin, end),) = list_ranges([one])
    assert all(begin <= delivery.message_id <= end for delivery in one.deliveries)


def test_what_an_earlier_try_stored_is_kept_as_it_is() -> None:
    group = publication()
    address([group], [(0, "dave")], [(0, "m1", "carol"), (0, "m0", "bob")])
    assert [(one.message_id, one.recipient_id) for one in group.deliveries] == [("m0", "bob"), ("m1", "carol")]


def test_one_publication_may_be_big_and_several_only_together() -> None:
    many = [(0, f"{number:05}") for number in range(MOST)]
    address([publication(), publication()], many, [])
    with pytest.raises(DatabaseError, match="apart"):
        address([publication(), publication()], [*many, (1, "one")], [])
    with pytest.raises(DatabaseError, match="apart"):
        address([publication("1" * 5_000_000), publication("1" * 5_000_000)], [(0, "bob"), (1, "bob")], [])
    address([publication("1" * 10_000_000)], [(0, "bob"), (0, "carol")], [])


def test_more_subscribers_than_a_publication_goes_to_refuse_it_alone() -> None:
    crowded, note = publication(), publication()
    note.publication, note.deliveries = None, [NewDelivery(uuid7(), "bob")]
    address([crowded, note], [(0, f"{number:05}") for number in range(MOST + 1)], [])
    assert admit([crowded, note], View("me")).outcomes == [TooManySubscribers(MOST), Stored()]
    address([crowded], [(0, f"{number:05}") for number in range(MOST)], [])
    assert admit([crowded], View("me")).outcomes == [Stored()]
    big = publication("1" * (MOST_BYTES // 3))
    address([big], [(0, f"{number}") for number in range(3)], [])
    assert admit([big], View("me")).outcomes == [Stored()]
    address([big], [(0, f"{number}") for number in range(4)], [])
    assert admit([big], View("me")).outcomes == [TooManySubscribers(3)]


def test_a_publication_with_nobody_is_told_from_one_that_has_somebody() -> None:
    one, two = publication(), publication()
    address([one, two], [(0, "bob")], [])
    assert (has_nobody([one]), has_nobody([one, two])) == (False, True)


def test_ids_with_spare_bits_are_nobody_elses() -> None:
    source = Uuid7Source(clock=lambda: 1_000_000)  # one millisecond for all
    made = [source.next(bits) for bits in (0, 16, 16, 0, 0, 16, 0)]
    assert made == sorted(set(made))
    for number, bits in enumerate((0, 16, 16, 0, 0, 16, 0)):
        if bits:
            last = made[number][:-4] + "ffff"
            assert made[number].endswith("0000")
            assert [id for id in made if made[number] <= id <= last] == [made[number]]
