"""I10, logs only grow: every reading of a conversation, a transcript or an event feed begins every later one.

A `read` names the feed and the ids it was shown, from the first. Readings of one feed must form a chain in which each
begins the next longer one, and none may be shorter than one that was answered before it was asked for.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from .facts import Facts, since
from .history import Event
from .report import Report


def judge_feeds(facts: Facts, report: Report) -> None:
    """Judge the readings; linear but for sorting them."""
    feeds: dict[str, list[Event]] = defaultdict(list)
    asks = {hop["kept"]: hop["message"] for hop in facts.others["hop"]}
    """What stayed of an ask that was passed on is in its place, under an id of its own."""
    for read in facts.others["read"]:
        read["items"] = [asks.get(id, id) for id in read["items"]]
        feeds[read["feed"]].append(read)
    for feed, reads in feeds.items():
        report.reads += len(reads)
        reads.sort(key=lambda read: len(read["items"]))
        for shorter, longer in pairwise(reads):
            if longer["items"][: len(shorter["items"])] != shorter["items"]:
                report.blame("I10", feed, "a reading is no beginning of a longer one", shorter, longer)
        longest: Event | None = None
        """The longest of the readings answered so far."""
        moments = [(since(read), 1, read) for read in reads] + [(read["t"], 0, read) for read in reads]
        for _, is_question, read in sorted(moments, key=lambda moment: moment[:2]):
            if not is_question:
                if longest is None or len(read["items"]) > len(longest["items"]):
                    longest = read
            elif longest is not None and len(read["items"]) < len(longest["items"]):
                report.blame("I10", feed, "a later reading is shorter", longest, read)
