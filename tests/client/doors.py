"""What a user can call on an SDK object and behind its doors: found, not listed, so that no new call is forgotten."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

from agent_messaging import AgentMessaging, MeetingEventType
from agent_messaging.ids import uuid7

VALUES: dict[str, Any] = {
    "message": "hi",
    "payload": "hi",
    "answer": "hi",
    "name": "Bob",
    "timeout": 5.0,
    "older_than": 5.0,
    "recipients": ["bob"],
    "message_ids": [str(uuid7())],
    "participant_external_ids": ["bob"],
    "participants": ["bob"],
    "event_type": MeetingEventType.TURN_CHANGED,
    "data": {},
    "status": "attending",
    "previous_status": "invited",
    "current_status": "attending",
    "recipient_external_ids": ["bob"],
    "reason": "why",
    "duration": 5.0,
    "turn_duration": 5.0,
    "function": lambda so_far: None,
    "meta": {},
    "metadata": {},
    "task_id": "t",
    "task_ids": ["t"],
    "priority": "high",
    "items": [1],
}
GIVEN = {
    "message",
    "payload",
    "message_ids",
    "task_ids",
    "meeting_id",
    "recipient_external_ids",
    "agent_external_id",
    "organizer_external_id",
    "participant_external_ids",
}
"""They have defaults so that they may be named otherwise, but are needed."""
WITHOUT_ENGINE = {
    # These only write down what is to be called, and may come from any thread.
    *("register_handler", "register_meeting_handler", "register_event_handler", "register_meeting_event_handler"),
    "unregister_handler",
    *("register_task_handler", "unregister_task_handler"),
    # Observers are told from before the start on; figures are read in any thread.
    *("add", "remove", "figures"),
    # It says that signals are heard in the main thread alone.
    "run_until_stopped",
}


def value_for(name: str) -> Any:
    """Something that a parameter of this name takes."""
    if name in VALUES:
        return VALUES[name]
    if name.endswith("_ids"):
        return [str(uuid7())]
    if name.endswith(("external_id", "agent")):
        return "bob" if name.startswith(("recipient", "responder", "other", "agent_b")) else "alice"
    return uuid4() if name.endswith("_id") else "alice"


def doors_of(sdk: AgentMessaging[Any]) -> dict[str, Any]:
    """The doors, by the names of the properties that return them."""
    found = inspect.getmembers(type(sdk), lambda member: isinstance(member, property))
    return {name: getattr(sdk, name) for name, _ in found if name not in ("store", "portal")}


def calls_of(owner: object) -> dict[str, Callable[[], Any]]:
    """Every public call of an object that asks the engine, with arguments that it takes."""
    calls: dict[str, Callable[[], Any]] = {}
    for name in dir(type(owner)):
        method = inspect.getattr_static(type(owner), name)
        if name.startswith("_") or not inspect.isfunction(method) or name in WITHOUT_ENGINE:
            continue
        if not method.__module__.startswith("agent_messaging"):
            continue  # a shortcut of the tests
        parameters = list(inspect.signature(method).parameters.values())[1:]
        required = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
        required = [one for one in required if one.default is one.empty or one.name in GIVEN]
        arguments = {one.name: value_for(one.name) for one in required}
        calls[f"{type(owner).__name__}.{name}"] = partial(getattr(owner, name), **arguments)
    return calls
