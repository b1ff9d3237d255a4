"""What was said, as lines for people: speeches, and the SDK's own notes as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from .output import clean, content


def clock(at: datetime) -> str:
    """The local time of day, to the millisecond."""
    return f"{at.astimezone():%H:%M:%S.%f}"[:-3]


def sentence(what: Any, sender: str) -> str:
    """A note of the SDK's own, as a sentence."""
    from ..messaging.transcripts.notes import spell

    found = spell(what, sender)
    return content(what) if found is None else clean(found)


def line_of(message: Mapping[str, Any]) -> str:
    """What was said in a meeting, or noted there, behind the time of day."""
    at, sender = clock(message["created_at"]), message["sender"] or "?"
    if message["is_damaged"]:
        return click.style(f"{at}  — what {clean(sender)} said is damaged", dim=True)
    if message["message_type"].value == "user_defined":
        return f"{at}  {clean(sender)}: {content(message['content'])}"
    return click.style(f"{at}  — {sentence(message['content'], sender)}", dim=True)
