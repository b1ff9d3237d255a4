"""What the SDK's own notes in a session or a meeting say, as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENDS = {
    "host_ended": "its host ended it",
    "max_turns": "it has had all its turns",
    "max_duration": "its time was over",
    "end_when": "the condition on which it ends was met",
    "nobody": "nobody was to speak next",
}
"""Why a meeting ended, by its `end_reason`."""


def spell(note: Any, sender: str) -> str | None:
    """The note as a sentence, or None where it is of no known type.

    Args:
        sender: The external id of the agent by whom it stands, where the note names none.
    """
    if not isinstance(note, Mapping):
        return None
    agent = str(note.get("agent") or note.get("timed_out_agent") or note.get("host") or sender)
    match note.get("type"):
        case "participant_joined":
            return f"{agent} joined"
        case "participant_left":
            return f"{agent} left" if note.get("how") == "left" else f"{agent} was {note.get('how')}"
        case "timeout":
            return f"{agent} was silent until the turn ended"
        case "turn_skipped":
            return f"the host skipped {agent}"
        case "turn_passed":
            return f"{agent} passed: {note.get('reason')}"
        case "meeting_ended":
            reason = str(note.get("reason", "host_ended"))
            return (
                f"{agent} ended the meeting"
                if reason == "host_ended"
                else f"the meeting ended: {ENDS.get(reason, reason)}"
            )
        case "conversation_ended":
            return f"{sender} ended the conversation"
    return None
