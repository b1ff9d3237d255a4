"""Bad input is refused before anything is stored, with an error that says what to do, and alike on both backends."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import apsw
import asyncpg
import pytest

from agent_messaging import (
    AgentMessagingError,
    InvalidArgumentError,
    MeetingEventType,
    Turn,
    register_meeting_handler,
)
from tests.client.support import Inbox, Sdk, make_config

TABLES = (
    *("organizations", "agents", "messages", "deliveries", "idempotency_keys", "processes", "services"),
    *("sessions", "asks", "waits", "notices", "meetings", "participants", "turns", "meeting_events"),
)


class Bad(NamedTuple):
    """A call that is to be refused."""

    name: str
    call: Callable[[Sdk], Any]
    field: str | None
    """What the message must name; None where there is no field, as for unknown agents."""


class Hostile:
    """Printing it raises, and so does comparing it."""

    def __repr__(self) -> str:
        raise RuntimeError("repr was called")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    def __hash__(self) -> int:
        return 1


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def cyclic() -> Any:
    value: dict[str, Any] = {}
    value["again"] = [value]
    return value


TEXTS: dict[str, Any] = {
    "empty": "",
    "blank": " \t",
    "only wide blanks": "\u3000",
    "over-long": "x" * 256,
    "NUL": "a\0b",
    "newline": "a\nb",
    "C1 control": "a\x85b",
    "lone surrogate": "a\ud800",
    "None": None,
    "int": 7,
    "bytes": b"alice",
    "list": ["alice"],
    "hostile": Hostile(),
}
NAMES = {what: value for what, value in TEXTS.items() if what != "None"}
IDS = TEXTS | {
    "blank at the end": "alice ",
    "not NFC": "cafe\u0301",
    "zero width": "al\u200bice",
    "right to left": "a\u202eb",
}
SECONDS: dict[str, Any] = {
    "zero": 0,
    "negative": -1,
    "NaN": math.nan,
    "infinite": math.inf,
    "bool": True,
    "text": "1",
    "too long": 1e12,
    "huge": 10**400,
}
INSTANTS: dict[str, Any] = {
    "naive": datetime(2030, 1, 1),
    "text": "2030-01-01",
    "number": 1.0,
    "date": datetime(2030, 1, 1).date(),
    "bool": True,
}
OUT_OF_RANGE = {
    "last": datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))),
    "first": datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
}
PAYLOADS: dict[str, Any] = {
    "NUL": {"a": "x\0y"},
    "NUL key": {"a\0": 1},
    "lone surrogate": ["\udfff"],
    "lone surrogate key": {"\ud800": 1},
    "NaN": {"a": [1.0, math.nan]},
    "infinity": -math.inf,
    "too deep": nested(65),
    "very deep": nested(5_000),
    "cyclic": cyclic(),
    "too large": "x" * (1024 * 1024),
    "too large in bytes": "é" * (600 * 1024),
    "too many values": [0] * 600_000,
    "object": object(),
    "hostile": Hostile(),
    "function": len,
    "generator": (number for number in range(3)),
    "bytes": b"\xff\xfe",
    "equal keys": {1: "a", "1": "b"},
    "too long a number": 10**5000,
    "class": Inbox,
}
METADATA: dict[str, Any] = {
    "text": "not a mapping",
    "list": [("a", 1)],
    "number key": {1: 2},
    "None key": {None: 1},
    "over-long key": {"k" * 256: 1},
    "NUL key": {"a\0": 1},
    "lone surrogate key": {"\ud800": 1},
    "NUL": {"a": "\0"},
    "NaN": {"a": math.nan},
    "too deep": {"a": nested(65)},
    "too large": {"a": "x" * 70_000},
    "object": {"a": object()},
    "cyclic": cyclic(),
}
NUMBERS: dict[str, Any] = {
    "zero": 0,
    "negative": -1,
    "many": 1001,
    "bool": True,
    "float": 1.0,
    "text": "1",
    "None": None,
}
OFFSETS: dict[str, Any] = {"negative": -1, "bool": False, "float": 0.5, "text": "0", "huge": 2**64}
MESSAGE_IDS: dict[str, Any] = {"empty": "", "text": "nonsense", "number": 5, "None": None, "short": "0190", "NUL": "\0"}


def send(*arguments: Any, **options: Any) -> Callable[[Sdk], Any]:
    return lambda sdk: sdk.one_way.send(*arguments, **{"require_handler": False, **options})


def each(field: str | None, values: dict[str, Any], call: Callable[[Sdk, Any], Any], what: str) -> list[Bad]:
    return [Bad(f"{what}: {name}", lambda sdk, value=value: call(sdk, value), field) for name, value in values.items()]  # type: ignore[misc]


def talk(name: str, *arguments: Any, **options: Any) -> Callable[[Sdk], Any]:
    """A call of `sdk.conversation`; an ask of an agent that nobody serves would not be refused for that."""
    if name == "send_and_wait":
        options = {"timeout": 0.05, "require_handler": False} | options
    return lambda sdk: getattr(sdk.conversation, name)(*arguments, **options)


def talks() -> Iterator[Bad]:
    """Every call of conversations with every argument that may be wrong."""
    keys = {name: value for name, value in IDS.items() if name != "None"}
    sends = ("send_and_wait", "send_no_wait", "send_message", "reply")
    arguments: list[tuple[str, dict[str, Any], Callable[[str, Any], Callable[[Sdk], Any]]]] = [
        ("sender_external_id", IDS, lambda name, value: talk(name, value, "bob", "hi")),
        ("recipient_external_id", IDS, lambda name, value: talk(name, "alice", value, "hi")),
        ("message", PAYLOADS, lambda name, value: talk(name, "alice", "bob", value)),
        ("metadata", METADATA, lambda name, value: talk(name, "alice", "bob", "hi", metadata=value)),
        ("idempotency_key", keys, lambda name, value: talk(name, "alice", "bob", "hi", idempotency_key=value)),
        ("thread", keys, lambda name, value: talk(name, "alice", "bob", "hi", thread=value)),
    ]
    for name in sends:
        for field, values, make in arguments:
            yield from (Bad(f"{name} {field}: {what}", make(name, value), field) for what, value in values.items())
        yield Bad(f"{name} without a message", talk(name, "alice", "bob"), "message")
        yield Bad(f"{name} to oneself", talk(name, "alice", "alice", "hi"), "recipient_external_id")
        yield Bad(f"{name} from an unknown agent", talk(name, "alcie", "bob", "hi"), None)
        yield Bad(f"{name} to an unknown agent", talk(name, "alice", "bbo", "hi"), None)
    for what, value in SECONDS.items():
        yield Bad(
            f"send_and_wait timeout: {what}", talk("send_and_wait", "alice", "bob", "hi", timeout=value), "timeout"
        )
    for option in ("wait_for_session", "require_handler"):
        for value in ("yes", 1, 0):
            call = talk("send_and_wait", "alice", "bob", "hi", **{option: value})
            yield Bad(f"send_and_wait {option}: {value!r}", call, option)
    yield Bad("send_and_wait unserved", talk("send_and_wait", "alice", "bob", "hi", require_handler=True), None)
    yield Bad("reply without a session", talk("reply", "alice", "bob", "hi"), None)
    pairs = {
        "end_conversation": ("agent_external_id", "other_agent_external_id"),
        "get_messages_from_agent": ("recipient_external_id", "sender_external_id"),
        "wait_for_message": ("recipient_external_id", "sender_external_id"),
        "get_or_wait_for_response": ("agent_a_external_id", "agent_b_external_id"),
    }
    for name, (first, second) in pairs.items():
        for what, value in IDS.items():
            yield Bad(f"{name} {first}: {what}", talk(name, value, "bob"), first)
            yield Bad(f"{name} {second}: {what}", talk(name, "alice", value), second)
        for what, value in keys.items():
            yield Bad(f"{name} thread: {what}", talk(name, "alice", "bob", thread=value), "thread")
        yield Bad(f"{name} with oneself", talk(name, "alice", "alice"), second)
        yield Bad(f"{name} of an unknown agent", talk(name, "alcie", "bob"), None)
        yield Bad(f"{name} with an unknown agent", talk(name, "alice", "bbo"), None)
    yield Bad("end_conversation without a session", talk("end_conversation", "alice", "bob"), None)
    for name in ("wait_for_message", "get_or_wait_for_response"):
        for what, value in (SECONDS | {"zero": -0.5, "false": False}).items():
            yield Bad(f"{name} timeout: {what}", talk(name, "alice", "bob", timeout=value), "timeout")
    for name in ("get_unread_messages", "get_active_sessions", "resume_agent_handler"):
        for what, value in IDS.items():
            yield Bad(f"{name}: {what}", talk(name, value), "agent_external_id")
        yield Bad(f"{name} of an unknown agent", talk(name, "alcie"), None)
    for name in ("get_unread_messages", "get_active_sessions", "get_session_statistics"):
        for what, value in keys.items():
            yield Bad(f"{name} thread: {what}", talk(name, "alice", thread=value), "thread")
    yield Bad("resume_agent_handler without a handler", talk("resume_agent_handler", "bob"), None)
    for value in ("yes", 1, None):
        yield Bad(f"peek {value!r}", talk("get_unread_messages", "bob", peek=value), "peek")
        yield Bad(f"mark_read {value!r}", talk("get_messages_from_agent", "bob", "alice", value), "mark_read")
    unknown = "01900000-0000-7000-8000-000000000000"
    for value in ("yes", 1, None):
        yield Bad(f"include_read {value!r}", talk("get_messages_in_session", unknown, value), "include_read")
    for name in ("get_messages_in_session", "get_conversation_history", "get_session_info"):
        for what, value in MESSAGE_IDS.items():
            yield Bad(f"{name}: {what}", talk(name, value), "session_id")
        yield Bad(f"{name} of an unknown session", talk(name, unknown), None)
    for what, value in IDS.items():
        yield Bad(f"get_session_statistics: {what}", talk("get_session_statistics", value), "agent_id")
    yield Bad("get_session_statistics of an unknown agent", talk("get_session_statistics", unknown), None)


CALLS: list[Bad] = [
    *each("external_id", IDS, lambda sdk, v: sdk.register_organization(v, "Name"), "register_organization id"),
    *each("name", NAMES, lambda sdk, v: sdk.register_organization("new", v), "register_organization name"),
    *each("external_id", IDS, lambda sdk, v: sdk.register_agent(v, "acme", "Name"), "register_agent id"),
    *each("organization_external_id", IDS, lambda sdk, v: sdk.register_agent("new", v, "N"), "register_agent in"),
    *each("name", NAMES, lambda sdk, v: sdk.register_agent("new", "acme", v), "register_agent name"),
    *each("external_id", IDS, lambda sdk, v: sdk.get_organization(v), "get_organization"),
    *each("external_id", IDS, lambda sdk, v: sdk.get_agent(v), "get_agent"),
    *each("external_id", IDS, lambda sdk, v: sdk.deregister_organization(v), "deregister_organization"),
    *each("external_id", IDS, lambda sdk, v: sdk.deregister_agent(v), "deregister_agent"),
    *each("sender_external_id", IDS, lambda sdk, v: send(v, "bob", "hi")(sdk), "send sender"),
    *each("recipient", IDS, lambda sdk, v: send("alice", ["bob", v], "hi")(sdk), "send recipients"),
    *each("message", PAYLOADS, lambda sdk, v: send("alice", "bob", v)(sdk), "send message"),
    *each("metadata", METADATA, lambda sdk, v: send("alice", "bob", "hi", v)(sdk), "send metadata"),
    *each("expires_in", SECONDS, lambda sdk, v: send("alice", "bob", "hi", expires_in=v)(sdk), "send expires_in"),
    *each("deliver_at", INSTANTS, lambda sdk, v: send("alice", "bob", "hi", deliver_at=v)(sdk), "send deliver_at"),
    *each(
        "idempotency_key",
        {name: value for name, value in IDS.items() if name != "None"},
        lambda sdk, v: send("alice", "bob", "hi", idempotency_key=v)(sdk),
        "send idempotency_key",
    ),
    Bad("send require_handler", send("alice", "bob", "hi", require_handler="yes"), "require_handler"),
    Bad("send to nobody", send("alice", [], "hi"), "recipient"),
    Bad("send without recipients", send("alice", message="hi"), "recipient"),
    Bad("send to a number", send("alice", 5, "hi"), "recipient"),
    Bad("send to None in a list", send("alice", [None], "hi"), "recipient"),
    Bad("send to a mapping", send("alice", {"bob": 1}, "hi"), "recipient"),
    Bad("send to a set", send("alice", {"bob", "carol"}, "hi"), "recipient"),
    Bad("send to oneself", send("alice", "alice", "hi"), "alice"),
    Bad("send to oneself among others", send("alice", ["bob", "alice"], "hi"), "alice"),
    Bad("send twice to one", send("alice", ["bob", "carol", "bob"], "hi"), "bob"),
    Bad(
        "send with both names",
        send("alice", ["bob"], "hi", recipient_external_id="carol"),
        "recipient",
    ),
    Bad("send to too many", send("alice", [f"agent-{number}" for number in range(10_001)], "hi"), "recipient"),
    Bad("unknown sender", send("alcie", "bob", "hi"), None),
    Bad("unknown recipient", send("alice", ["bob", "carrol"], "hi"), None),
    Bad("unknown agent", lambda sdk: sdk.get_agent("bobb"), None),
    Bad("unknown organization", lambda sdk: sdk.register_agent("new", "acmee", "N"), None),
    Bad("another name", lambda sdk: sdk.register_agent("bob", "acme", "Robert"), None),
    Bad("nobody serves", lambda sdk: sdk.one_way.send("alice", "bob", "hi"), None),
    *each("limit", NUMBERS, lambda sdk, v: sdk.one_way.get_sent_messages("alice", v), "get_sent_messages limit"),
    *each("offset", OFFSETS, lambda sdk, v: sdk.one_way.get_received_messages("bob", True, 5, v), "offset"),
    *each("date_from", INSTANTS, lambda sdk, v: sdk.one_way.get_sent_messages("alice", date_from=v), "date_from"),
    *each("date_to", INSTANTS, lambda sdk, v: sdk.one_way.get_received_messages("bob", date_to=v), "date_to"),
    *each("sender_external_id", IDS, lambda sdk, v: sdk.one_way.get_sent_messages(v), "get_sent_messages agent"),
    *each("recipient_external_id", IDS, lambda sdk, v: sdk.one_way.get_received_messages(v), "get_received agent"),
    *each("recipient_external_id", IDS, lambda sdk, v: sdk.one_way.mark_messages_read(v), "mark_messages_read"),
    *each("external_id", IDS, lambda sdk, v: sdk.one_way.get_message_count(v), "get_message_count agent"),
    *each(
        "role",
        {"word": "receiver", "empty": "", "None": None, "number": 1, "hostile": Hostile()},
        lambda sdk, v: sdk.one_way.get_message_count("bob", v),
        "role",
    ),
    *each(
        "read_status",
        {"text": "read", "number": 1},
        lambda sdk, v: sdk.one_way.get_message_count("bob", read_status=v),
        "read_status",
    ),
    *each("limit", NUMBERS, lambda sdk, v: sdk.list_agents(limit=v), "list_agents limit"),
    *each("offset", OFFSETS, lambda sdk, v: sdk.list_organizations(offset=v), "list_organizations offset"),
    *each("limit", NUMBERS, lambda sdk, v: sdk.dead_letters.list(limit=v), "dead_letters limit"),
    *each("limit", NUMBERS, lambda sdk, v: sdk.receive("bob", v, 0), "receive limit"),
    *each("timeout", {**SECONDS, "zero": -0.5}, lambda sdk, v: sdk.receive("bob", timeout=v), "receive timeout"),
    *each("lease", SECONDS, lambda sdk, v: sdk.receive("bob", timeout=0, lease=v), "receive lease"),
    *each("agent_external_id", IDS, lambda sdk, v: sdk.receive(v, timeout=0), "receive agent"),
    *each("message_id", MESSAGE_IDS, lambda sdk, v: sdk.receipts.get(v), "receipts.get"),
    *each("message_ids", MESSAGE_IDS, lambda sdk, v: sdk.receipts.wait(v, timeout=0.01), "receipts.wait"),
    *each("message_ids", MESSAGE_IDS, lambda sdk, v: sdk.receipts.wait([v], timeout=0.01), "receipts.wait list"),
    *each(
        "timeout", {**SECONDS, "zero": -0.5}, lambda sdk, v: sdk.receipts.wait([], timeout=v), "receipts.wait timeout"
    ),
    *each("message_ids", MESSAGE_IDS, lambda sdk, v: sdk.receipts.withdraw(v), "withdraw"),
    *each("message_ids", MESSAGE_IDS, lambda sdk, v: sdk.dead_letters.redrive(v), "redrive"),
    Bad("redrive nothing", lambda sdk: sdk.dead_letters.redrive(), "message_ids"),
    *each("agent_external_ids", IDS, lambda sdk, v: sdk.serve(v), "serve"),
    *each(
        "agent_external_ids",
        {name: value for name, value in IDS.items() if name != "list"},
        lambda sdk, v: sdk.wait_until_served(v, 0.01),
        "wait_until_served",
    ),
    *each("timeout", SECONDS, lambda sdk, v: sdk.wait_until_served([], v), "wait_until_served timeout"),
    *each("agent_external_id", IDS, lambda sdk, v: sdk.register_handler(v), "register_handler"),
    *each("timeout", SECONDS, lambda sdk, v: sdk.register_handler("bob", timeout=v)(Inbox()), "handler timeout"),
    *each(
        "concurrency",
        {"zero": 0, "negative": -1, "bool": True, "float": 2.0, "text": "2"},
        lambda sdk, v: sdk.register_handler("bob", concurrency=v)(Inbox()),
        "handler concurrency",
    ),
    Bad("handler ordered", lambda sdk: sdk.register_handler("bob", ordered="no")(Inbox()), "ordered"),  # type: ignore[arg-type]
    *each("deliver_at", OUT_OF_RANGE, lambda sdk, v: send("alice", "bob", "hi", deliver_at=v)(sdk), "deliver_at"),
    *each("date_from", OUT_OF_RANGE, lambda sdk, v: sdk.one_way.get_sent_messages("alice", date_from=v), "date_from"),
    Bad("include_read", lambda sdk: sdk.one_way.get_received_messages("bob", include_read="no"), "include_read"),  # type: ignore[arg-type]
    *talks(),
    Bad("exist_ok", lambda sdk: sdk.register_agent("bob", "acme", "Robert", exist_ok="no"), "exist_ok"),  # type: ignore[arg-type]
]

NOWHERE = UUID(int=7)
"""No meeting has this id; arguments are judged before it is looked for."""
MEETING_IDS: dict[str, Any] = MESSAGE_IDS | {"hex": NOWHERE.hex, "bytes": NOWHERE.bytes, "hostile": Hostile()}
DURATIONS: dict[str, Any] = SECONDS | {"too long": 604_801}
WAITS: dict[str, Any] = {**SECONDS, "zero": -0.5}
"""Of calls in which 0 only looks."""
TURNS: dict[str, Any] = {
    "zero": 0,
    "negative": -1,
    "bool": True,
    "float": 1.0,
    "text": "1",
    "end": Turn(None, None, (), has_ended=True),
    "hostile": Hostile(),
}
CHOICES: dict[str, Any] = {"word": "nonsense", "empty": "", "number": 1, "list": ["ended"], "hostile": Hostile()}
KEYS = {name: value for name, value in IDS.items() if name != "None"}
NAMED = {name: value for name, value in IDS.items() if name != "None"}
"""Of arguments that may be left out."""


def meet(name: str, *arguments: Any, **options: Any) -> Any:
    """Call it; `...` stands for the id of the meeting."""
    given = [NOWHERE if argument is ... else argument for argument in arguments]
    return lambda sdk: getattr(sdk.meeting, name)(*given, **options)


MEETING_CALLS: list[Bad] = [
    *each("organizer_external_id", IDS, lambda sdk, v: meet("create_meeting", v, ["bob"])(sdk), "create_meeting host"),
    *each(
        "organizer_external_id",
        NAMED,
        lambda sdk, v: meet("create_meeting", host=v, agents=["bob"])(sdk),
        "create_meeting host=",
    ),
    *each(
        "participant_external_ids",
        IDS,
        lambda sdk, v: meet("create_meeting", "alice", ["bob", v])(sdk),
        "create_meeting participants",
    ),
    *each(
        "participant_external_ids",
        {"text": "bob", "number": 5, "mapping": {"bob": 1}, "set": {"bob"}, "hostile": Hostile()},
        lambda sdk, v: meet("create_meeting", "alice", v)(sdk),
        "create_meeting list",
    ),
    *each(
        "turn_duration",
        DURATIONS,
        lambda sdk, v: meet("create_meeting", "alice", ["bob"], v)(sdk),
        "create_meeting turn_duration",
    ),
    *each(
        "speaker_selection",
        {**CHOICES, "custom": "custom", "None": None, "bool": True},
        lambda sdk, v: meet("create_meeting", "alice", ["bob"], speaker_selection=v)(sdk),
        "create_meeting speaker_selection",
    ),
    Bad("create_meeting without a host", meet("create_meeting", agents=["bob"]), "organizer_external_id"),
    Bad("create_meeting with two hosts", meet("create_meeting", "alice", ["bob"], host="alice"), "host"),
    Bad("create_meeting with two lists", meet("create_meeting", "alice", ["bob"], agents=["bob"]), "agents"),
    Bad("create_meeting with one twice", meet("create_meeting", "alice", ["bob", "bob"]), None),
    Bad("create_meeting with too many", meet("create_meeting", "alice", [f"a-{n}" for n in range(1_000)]), None),
    Bad("create_meeting with a stranger", meet("create_meeting", "alice", ["bobb"]), None),
    *(
        one
        for name, arguments in {
            "attend_meeting": ("alice", "?"),
            "wait_until_ready": ("?",),
            "start_meeting": ("alice", "?"),
            "wait_for_turn": ("alice", "?"),
            "pass_turn": ("alice", "?"),
            "skip_turn": ("alice", "?"),
            "remove_participant": ("alice", "?", "bob"),
            "end_meeting": ("alice", "?"),
            "leave_meeting": ("alice", "?"),
            "update_participant_status": ("?", "alice", "left"),
            "choose_speakers": ("?", len),
            "get_meeting": ("?",),
            "get_participants": ("?",),
            "get_meeting_status": ("?",),
            "get_meeting_history": ("?",),
            "get_meeting_details": ("?",),
            "get_participant_history": ("?",),
            "get_participation_analysis": ("?",),
            "get_meeting_timeline": ("?",),
            "get_turn_statistics": ("?",),
        }.items()
        for one in each(
            "meeting_id",
            MEETING_IDS,
            lambda sdk, v, name=name, arguments=arguments: meet(  # type: ignore[misc]
                name, *(v if argument == "?" else argument for argument in arguments)
            )(sdk),
            name,
        )
    ),
    *each("meeting_id", MEETING_IDS, lambda sdk, v: meet("speak", "alice", v, "hi")(sdk), "speak in"),
    *(
        one
        for name, field in {
            "attend_meeting": "agent_external_id",
            "wait_for_turn": "agent_external_id",
            "pass_turn": "agent_external_id",
            "leave_meeting": "agent_external_id",
            "start_meeting": "host_external_id",
            "skip_turn": "host_external_id",
            "end_meeting": "host_external_id",
        }.items()
        for one in each(field, IDS, lambda sdk, v, name=name: meet(name, v, ...)(sdk), f"{name} agent")  # type: ignore[misc]
    ),
    *each("agent_external_id", IDS, lambda sdk, v: meet("speak", v, ..., "hi")(sdk), "speak agent"),
    *each(
        "agent_external_id",
        NAMED,
        lambda sdk, v: meet("speak", speaker_external_id=v, meeting_id=NOWHERE, message="hi")(sdk),
        "speak speaker_external_id",
    ),
    *each("host_external_id", IDS, lambda sdk, v: meet("remove_participant", v, ..., "bob")(sdk), "remove host"),
    *each("agent_external_id", IDS, lambda sdk, v: meet("remove_participant", "alice", ..., v)(sdk), "remove agent"),
    *each("agent_id", IDS, lambda sdk, v: meet("update_participant_status", ..., v, "left")(sdk), "status of"),
    *each("status", CHOICES, lambda sdk, v: meet("update_participant_status", ..., "bob", v)(sdk), "status"),
    *each("message", PAYLOADS, lambda sdk, v: meet("speak", "alice", ..., v)(sdk), "speak message"),
    *each("metadata", METADATA, lambda sdk, v: meet("speak", "alice", ..., "hi", v)(sdk), "speak metadata"),
    *each("message", PAYLOADS, lambda sdk, v: meet("start_meeting", "alice", ..., v)(sdk), "start_meeting message"),
    *each(
        "idempotency_key",
        KEYS,
        lambda sdk, v: meet("speak", "alice", ..., "hi", idempotency_key=v)(sdk),
        "speak idempotency_key",
    ),
    *each("turn", TURNS, lambda sdk, v: meet("speak", "alice", ..., "hi", turn=v)(sdk), "speak turn"),
    *each("turn", TURNS, lambda sdk, v: meet("pass_turn", "alice", ..., turn=v)(sdk), "pass_turn turn"),
    *each("turn", TURNS, lambda sdk, v: meet("skip_turn", "alice", ..., turn=v)(sdk), "skip_turn turn"),
    *each(
        "next_speaker_external_id",
        NAMED,
        lambda sdk, v: meet("speak", "alice", ..., "hi", next_speaker_external_id=v)(sdk),
        "speak next",
    ),
    *each(
        "next_speaker_external_id",
        NAMED,
        lambda sdk, v: meet("pass_turn", "alice", ..., next_speaker_external_id=v)(sdk),
        "pass_turn next",
    ),
    *each(
        "next_speaker_external_id",
        NAMED,
        lambda sdk, v: meet("start_meeting", "alice", ..., "hi", v)(sdk),
        "start_meeting next",
    ),
    *each("timeout", WAITS, lambda sdk, v: meet("wait_for_turn", "alice", ..., v)(sdk), "wait_for_turn timeout"),
    *each("timeout", SECONDS, lambda sdk, v: meet("wait_until_ready", ..., v)(sdk), "wait_until_ready timeout"),
    *each("timeout", WAITS, lambda sdk, v: meet("attend_meeting", "alice", ..., v)(sdk), "attend_meeting timeout"),
    *each("timeout", WAITS, lambda sdk, v: meet("speak", "alice", ..., "hi", timeout=v)(sdk), "speak timeout"),
    Bad("speak without a message", meet("speak", "alice", ...), "message"),
    Bad("speak nowhere", meet("speak", "alice", message="hi"), "meeting_id"),
    Bad("speak as nobody", meet("speak", meeting_id=NOWHERE, message="hi"), "agent_external_id"),
    Bad("speak with both names", meet("speak", "alice", ..., "hi", speaker_external_id="alice"), "speaker_external_id"),
    Bad("speak as a stranger", meet("speak", "alcie", ..., "hi"), None),
    Bad("speak to a stranger", meet("speak", "alice", ..., "hi", next_speaker_external_id="bobb"), None),
    Bad("speak in no meeting", meet("speak", "alice", ..., "hi"), None),
    *each("agent_external_id", NAMED, lambda sdk, v: meet("list_meetings", v)(sdk), "list_meetings agent"),
    *each("status", CHOICES, lambda sdk, v: meet("list_meetings", status=v)(sdk), "list_meetings status"),
    *each("limit", NUMBERS, lambda sdk, v: meet("list_meetings", limit=v)(sdk), "list_meetings limit"),
    *each("offset", OFFSETS, lambda sdk, v: meet("list_meetings", offset=v)(sdk), "list_meetings offset"),
    *each("agent_id", IDS, lambda sdk, v: meet("get_meeting_statistics", v)(sdk), "get_meeting_statistics"),
    Bad("choose_speakers", meet("choose_speakers", ..., "bob"), "function"),
    *each("event_type", {**CHOICES, "None": None}, lambda sdk, v: sdk.register_event_handler(v), "event type"),
    *each(
        "event_type",
        CHOICES,
        lambda sdk, v: sdk._event_handler.emit_event(NOWHERE, v, {}),
        "emit_event type",
    ),
    *each(
        "meeting_id",
        MEETING_IDS,
        lambda sdk, v: sdk._event_handler.emit_event(v, MeetingEventType.TURN_CHANGED, {}),
        "emit_event in",
    ),
    *each(
        "data",
        {name: value for name, value in METADATA.items() if name not in ("number key", "None key", "over-long key")},
        lambda sdk, v: sdk._event_handler.emit_event(NOWHERE, MeetingEventType.TURN_CHANGED, v),
        "emit_event data",
    ),
    Bad("event handler", lambda sdk: sdk._event_handler.register_handler("turn_changed", 7), "handler"),  # type: ignore[arg-type]
    *each("agent_external_id", IDS, lambda sdk, v: sdk.register_meeting_handler(v), "register_meeting_handler"),
    *each("agent", KEYS, lambda sdk, v: register_meeting_handler(agent=v), "register_meeting_handler agent"),
    *each(
        "timeout",
        SECONDS,
        lambda sdk, v: sdk.register_meeting_handler("bob", timeout=v)(Inbox()),
        "turn handler timeout",
    ),
]


@pytest.fixture
async def both(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[list[tuple[Sdk, Callable[[], Any]]]]:
    """An SDK on each backend with the same agents, and a function that counts the rows of all its tables."""
    path = tmp_path / "bad.db"

    async def count_sqlite() -> dict[str, int]:
        # A copy of the connection's own: closing another one to the file would drop the SDK's locks.
        sdk = sdks[0]
        engine: Any = sdk.store.engine  # type: ignore[attr-defined]

        def count(connection: apsw.Connection) -> dict[str, int]:
            return {table: connection.execute(f"select count(*) from {table}").get for table in TABLES}

        return dict(await engine.read(count))

    async def count_postgres() -> dict[str, int]:
        connection = await asyncpg.connect(postgres_dsn)
        try:
            return {table: await connection.fetchval(f"select count(*) from {table}") for table in TABLES}
        finally:
            await connection.close()

    async with AsyncExitStack() as stack:
        sdks = []
        for url in (f"sqlite:///{path}", postgres_dsn):
            sdk = await stack.enter_async_context(Sdk(make_config(url)))
            await sdk.add_people("alice", "bob", "carol")
            sdks.append(sdk)
        yield [(sdks[0], count_sqlite), (sdks[1], count_postgres)]


async def verdict(bad: Bad, sdk: Sdk) -> tuple[str, str, str]:
    """Class, code and message of the refusal."""
    try:
        result = bad.call(sdk)
        answer = await result if hasattr(result, "__await__") else result
    except AgentMessagingError as error:
        return type(error).__name__, error.code, str(error).replace(sdk.store.location, "here")
    except BaseException as error:
        return type(error).__name__, "not one of ours", str(error)
    return "accepted", "", repr(answer)[:80]


async def test_every_bad_input_is_refused_alike_on_both_backends_and_nothing_is_stored(
    both: list[tuple[Sdk, Callable[[], Any]]],
) -> None:
    before = [await count() for _, count in both]
    faults = []
    for bad in [*CALLS, *MEETING_CALLS]:
        first, second = [await verdict(bad, sdk) for sdk, _ in both]
        name, code, text = first
        if first != second:
            faults.append(f"{bad.name}: differs\n    {first}\n    {second}")
        elif code in ("", "not one of ours"):
            faults.append(f"{bad.name}: {name} {text[:100]}")
        elif bad.field is not None and (code not in ("invalid_argument", "payload") or bad.field not in text):
            faults.append(f"{bad.name}: does not name {bad.field!r}: {code}: {text[:150]}")
        elif len(text) > 600 or "\n" in text or "\0" in text:
            faults.append(f"{bad.name}: not a readable line: {text[:150]!r}")
    assert not faults, "\n".join(faults)
    # The agent that pulled is a service now, where the call was otherwise in order; there is none.
    assert [await count() for _, count in both] == before


async def test_a_refusal_is_a_value_error_that_carries_field_value_and_reason(both: list[tuple[Sdk, Any]]) -> None:
    for sdk, _ in both:
        with pytest.raises(ValueError, match=r"limit: 1001 is not a whole number from 1 to 1,000") as caught:
            await sdk.list_agents(limit=1001)
        assert isinstance(caught.value, InvalidArgumentError)
        assert (caught.value.field, caught.value.value) == ("limit", 1001)
        assert caught.value.reason


async def test_the_same_inputs_just_inside_the_limits_are_accepted(both: list[tuple[Sdk, Any]]) -> None:
    for sdk, _ in both:
        name = "é" * 255
        await sdk.register_agent(name, "acme", "\N{GRINNING FACE}" * 255)
        payloads = ["x" * (1024 * 1024 - 2), nested(64), 10**4299, {"": None}, "\\u0000", 1.7976931348623157e308]
        for payload in payloads:
            [id] = await sdk.one_way.send("alice", name, payload, {"k" * 255: "\x7f"}, require_handler=False)
            [record] = await sdk.one_way.get_received_messages(name, limit=1)
            assert (record.message_id, record.content, record.metadata) == (id, payload, {"k" * 255: "\x7f"})
        await sdk.one_way.send(
            "alice",
            ["bob"],
            "hi",
            idempotency_key="k" * 255,
            expires_in=100 * 365 * 86_400,
            require_handler=False,
        )
        await sdk.one_way.send("alice", "bob", "hi", deliver_at=datetime(9998, 1, 1, tzinfo=UTC), require_handler=False)
        assert await sdk.list_agents(limit=1000, offset=2**62) == []
