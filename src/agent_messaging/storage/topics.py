"""Topics: which patterns match one, and whom publications go to. Pure, once for every backend.

A topic is words with dots between them. In a pattern `*` stands for one word, and `>` at its end for one or more. No
pattern is compared with a topic: a store looks up the patterns that match it. There are few:

    Of a topic of n words a pattern that matches has, for each of its words before `>`, that word or `*`. So there are
    2**k that end in `>` behind k words, for each k below n, and 2**n without it: together 2**(n + 1) - 1. That is 15
    for three words, and 511 for MAX_WORDS; it does not depend on how many subscriptions there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..exceptions import DatabaseError
from .batches import MAX_BYTES, size_of
from .ports import NewDelivery, NewGroup

MAX_WORDS = 8
"""Of a topic or pattern."""
MOST = 10_000
"""Subscribers of one publication, and of those that share a transaction."""
MOST_BYTES = 64 * 1024 * 1024
"""Bytes that one publication stores for all of them. More would take longer than a call may."""
SPARE_BITS = 16
"""At the end of a publication's first id: its messages are numbered there."""

_LAST = f"{2**SPARE_BITS - 1:04x}"
_CUT = -len(_LAST)

Range = tuple[int, str, str]
"""The index of a publication's group, and the first and the last id that its messages may have."""


def list_patterns(topic: str) -> list[str]:
    """All patterns that match the topic, the topic itself among them."""
    beginnings, patterns = [""], []
    for word in topic.split("."):
        patterns += [f"{beginning}>" for beginning in beginnings]
        beginnings = [f"{beginning}{one}." for beginning in beginnings for one in (word, "*")]
    return patterns + [beginning[:-1] for beginning in beginnings]


def list_ranges(groups: Sequence[NewGroup]) -> list[Range]:
    """The ids under which an earlier try may have stored a call's publications."""
    return [
        (index, published.first_id, published.first_id[:_CUT] + _LAST)
        for index, group in enumerate(groups)
        if (published := group.publication) is not None
    ]


def address(
    groups: Sequence[NewGroup],
    subscribers: Iterable[tuple[int, str]],
    stored: Iterable[Sequence[Any]],
) -> None:
    """Give the publications of a call their deliveries.

    Args:
        groups: The call's.
        subscribers: The agents that match, each once for a publication, by the index of its group: MOST of them, and
            one more where there are more.
        stored: What is there of the publications, from an earlier try: index, message id and recipient.

    Raises:
        DatabaseError: Several publications are too many or too big for one transaction together.
    """
    recipients: dict[int, list[str]] = {index: [] for index, *_ in list_ranges(groups)}
    for index, agent_id in subscribers:
        recipients[index].append(agent_id)
    known: dict[int, list[NewDelivery]] = {}
    for index, message_id, agent_id in sorted(map(tuple, stored)):
        known.setdefault(index, []).append(NewDelivery(message_id, agent_id))
    for index, agent_ids in recipients.items():
        before = known.get(index)
        groups[index].deliveries = list(_number(groups[index], agent_ids)) if before is None else before
    published = [groups[index] for index in recipients]
    if len(published) > 1 and (
        sum(len(group.deliveries) for group in published) > MOST or sum(group.size for group in published) > MAX_BYTES
    ):
        raise DatabaseError("These publications have too many subscribers to be stored together. Store them apart.")


def _number(group: NewGroup, agent_ids: list[str]) -> Iterator[NewDelivery]:
    assert group.publication is not None
    beginning = group.publication.first_id[:_CUT]
    for number, agent_id in enumerate(sorted(agent_ids)):
        yield NewDelivery(f"{beginning}{number:0{-_CUT}x}", agent_id)


def find_limit(group: NewGroup) -> int | None:
    """How many subscribers a publication of its size may have, where it has more."""
    if group.publication is None:
        return None
    limit = min(MOST, max(MOST_BYTES // size_of(group.content, group.metadata), 1))
    return limit if len(group.deliveries) > limit else None


def has_nobody(groups: Iterable[NewGroup]) -> bool:
    """Whether a publication has no subscribers: then no message tells that its sender exists."""
    return any(group.publication is not None and not group.deliveries for group in groups)
