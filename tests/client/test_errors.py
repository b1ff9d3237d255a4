"""The errors: one tree, stable codes, texts that say what to do, and the public names."""

from __future__ import annotations

import builtins
import copy
import inspect
import pickle
import re
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import agent_messaging
from agent_messaging import AgentMessagingError, InvalidArgumentError, exceptions, store_errors

DETAILS: dict[str, dict[str, Any]] = {
    "InvalidArgumentError": {"field": "limit", "value": 0, "reason": "is too small."},
    "PayloadError": {"field": "message.a", "reason": "is NaN."},
    "IdempotencyConflictError": {"idempotency_key": "k"},
    "AgentNotFoundError": {"external_id": "alcie", "suggestions": ("alice",), "role": "sender", "store": "/a.db"},
    "OrganizationNotFoundError": {"external_id": "acmee", "suggestions": ("acme",), "role": "sender", "store": "/a.db"},
    "MessageNotFoundError": {"message_id": "m"},
    "TaskNotFoundError": {"task_id": "t"},
    "TaskError": {"task_id": "t", "reason": "no"},
    "TaskFailedError": {"task_id": "t", "reason": "no"},
    "TaskCancelledError": {"task_id": "t", "reason": "no"},
    "TaskExpiredError": {"task_id": "t", "reason": "no"},
    "MailboxFullError": {"recipients": ("bob",), "limit": 5, "topic": "orders.new"},
    "TooManySubscribersError": {"topic": "orders.new", "limit": 500},
    "ClaimLostError": {"message_id": "m"},
    "NoHandlerRegisteredError": {"agents": ("bob",), "store": "/a.db"},
    "HandlerTimeoutError": {"timeout": 2.5, "limit": "the timeout of the ask"},
    "SessionNotFoundError": {"session_id": "s"},
    "SessionLockError": {"sender": "alice", "recipient": "bob", "ask_id": "m", "thread": "orders"},
    "MutualWaitError": {
        "path": ("alice", "bob", "alice"),
        "sender": "alice",
        "recipient": "bob",
        "ask_id": "ask",
        "thread": "",
    },
    "PartsRestartedError": {"ask_id": "ask"},
    "MeetingNotFoundError": {"meeting_id": "m"},
    "QueueDataLostError": {"location": "redis://h", "changes": 2},
    "OrganizationAlreadyExistsError": {"external_id": "acme", "name": "Acme"},
    "AgentAlreadyExistsError": {"external_id": "bob", "name": "Bob", "organization": "acme"},
}
MADE_BY_THE_SDK = {"Asker", "Passing", "Parts"}
"""Protocols of what a context is given: nobody else makes or names them."""

CODES = (
    "agent_already_exists agent_messaging agent_not_found agent_not_in_meeting archive claim_lost configuration "
    "conversation_ended conversation_timeout database event_loop handler handler_timeout "
    "host_cannot_leave idempotency_conflict invalid_argument "
    "invalid_meeting mailbox_full meeting meeting_not_active meeting_not_found meeting_permission "
    "meeting_state meeting_timeout message_not_found mutual_wait no_handler_registered not_initialized "
    "not_meeting_host not_your_turn organization_already_exists organization_not_found outcome_unknown "
    "parts_restarted payload queue_data_lost "
    "schema_version session session_lock session_not_found session_state storage_busy storage_corrupt "
    "storage_foreign storage_full storage_replaced storage_unavailable "
    "task task_cancelled task_expired task_failed task_not_found timeout too_many_subscribers turn_lost"
)
"""They are for programs: adding one is fine, changing one is not."""


def tree(kind: type[AgentMessagingError]) -> Iterator[type[AgentMessagingError]]:
    if not kind.__name__.startswith("_"):
        yield kind
    for child in kind.__subclasses__():
        if child.__module__ in (exceptions.__name__, store_errors.__name__):
            yield from tree(child)


ERRORS = list(dict.fromkeys(tree(AgentMessagingError)))
each_error = pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)


def test_codes_are_unique_and_stay_as_they_are() -> None:
    codes = [kind.code for kind in ERRORS]
    assert sorted(codes) == sorted(set(codes)) == CODES.split()
    assert all("code" in vars(kind) for kind in ERRORS)


@each_error
def test_an_error_documents_itself_and_takes_one_text(kind: type[AgentMessagingError]) -> None:
    documentation = " ".join((inspect.getdoc(kind) or "").split())
    assert vars(kind)["__doc__"]
    assert str(kind()) == documentation
    assert documentation.endswith(".")
    assert str(kind("just this")) == "just this"
    assert getattr(agent_messaging, kind.__name__) is kind
    assert (kind.__name__ in agent_messaging.__all__) is (not hasattr(builtins, kind.__name__))
    assert isinstance(kind.retryable, bool)
    assert kind.exit_code in range(1, 10)


def test_an_error_names_itself_where_the_docstrings_were_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `python -OO`: a NotInitializedError was an 'Unspecified run-time error.'"""
    for base in {base for kind in ERRORS for base in kind.__mro__ if issubclass(base, AgentMessagingError)}:
        monkeypatch.setattr(base, "__doc__", None)
    assert [str(kind()).partition(":")[0] for kind in ERRORS] == [kind.__name__ for kind in ERRORS]


@each_error
def test_an_error_survives_pickling_and_copying_with_its_details(kind: type[AgentMessagingError]) -> None:
    details = DETAILS.get(kind.__name__, {})
    for error in (kind(), kind("just this"), kind("This.", remedy="Do that."), kind(**details)):
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(twin) is kind
            assert (str(twin), twin.args, twin.details) == (str(error), error.args, error.details)
            assert (twin.problem, twin.remedy) == (error.problem, error.remedy)
            assert str(twin) == f"{twin.problem} {twin.remedy}".rstrip()
            for name in details:
                assert getattr(twin, name) == getattr(error, name)


@each_error
def test_details_are_shown_in_the_message_and_unknown_ones_refused(kind: type[AgentMessagingError]) -> None:
    details = DETAILS.get(kind.__name__, {})
    hints = {name: hint for base in kind.__mro__ for name, hint in vars(base).get("__annotations__", {}).items()}
    own = {name for name, hint in hints.items() if "ClassVar" not in hint}
    assert own <= details.keys() | {"value", "kind", "is_pruned"}, "each detail is tried here"
    text = str(kind(**details))
    for value in details.values():
        for part in value if isinstance(value, tuple) else (value,):
            assert str(part).lower() in text.lower()
    if "is_pruned" in own:
        assert "was pruned" in str(kind(**details, is_pruned=True))
        assert "was pruned" not in text
    with pytest.raises(TypeError, match="no detail 'nonsense'"):
        kind(nonsense=1)


def test_the_tree_is_that_of_the_reference() -> None:
    above = {
        "SessionStateError": "SessionError",
        "SessionLockError": "SessionError",
        "MeetingNotFoundError": "MeetingError",
        "MeetingNotActiveError": "MeetingError",
        "MeetingStateError": "MeetingError",
        "NotYourTurnError": "MeetingError",
        "MeetingPermissionError": "MeetingError",
        "NoHandlerRegisteredError": "HandlerError",
        "HandlerTimeoutError": "HandlerError",
        "MutualWaitError": "SessionLockError",
        "TurnLostError": "NotYourTurnError",
        "OutcomeUnknownError": "TimeoutError",
        "MeetingTimeoutError": "MeetingError",
        "PayloadError": "InvalidArgumentError",
        **{
            f"Storage{name}Error": "DatabaseError"
            for name in ["Unavailable", "Busy", "Full", "Corrupt", "Replaced", "Foreign"]
        },
        "QueueDataLostError": "DatabaseError",
        "SchemaVersionError": "DatabaseError",
    }
    for child, parent in above.items():
        assert issubclass(getattr(agent_messaging, child), getattr(agent_messaging, parent)), child
    assert issubclass(agent_messaging.TimeoutError, TimeoutError)
    assert issubclass(agent_messaging.NotInitializedError, RuntimeError)
    for name in (
        "InvalidArgumentError",
        "PayloadError",
        "ConfigurationError",
        "InvalidMeetingError",
        "SessionNotFoundError",
        "MeetingNotFoundError",
    ):
        assert issubclass(getattr(agent_messaging, name), ValueError)


def test_the_names_of_the_older_documents_are_kept() -> None:
    aliases = {
        "HandlerNotRegisteredError": "NoHandlerRegisteredError",
        "InvalidSessionStateError": "SessionStateError",
        "InvalidMeetingStateError": "MeetingStateError",
        "NotCurrentSpeakerError": "NotYourTurnError",
        "AgentNotFound": "AgentNotFoundError",
        "SessionNotFound": "SessionNotFoundError",
        "MeetingNotFound": "MeetingNotFoundError",
        "HandlerNotRegistered": "NoHandlerRegisteredError",
        "TimeoutException": "TimeoutError",
        "InvalidOperation": "AgentMessagingError",
    }
    for old, new in aliases.items():
        assert getattr(agent_messaging, old) is getattr(agent_messaging, new)
    names = "ConversationTimeoutError ConversationEndedError AgentNotInMeetingError NotMeetingHostError"
    for name in f"{names} HostCannotLeaveError OrganizationAlreadyExistsError AgentAlreadyExistsError".split():
        assert name in agent_messaging.__all__


def test_what_the_package_exports_exists_and_nothing_is_forgotten() -> None:
    assert len(agent_messaging.__all__) == len(set(agent_messaging.__all__))
    for name in agent_messaging.__all__:
        assert getattr(agent_messaging, name) is not None
    here = agent_messaging.models
    homes = (here.contexts.__name__, here.meetings.__name__, here.messages.__name__)
    models = [name for name, value in vars(here).items() if getattr(value, "__module__", "") in homes]
    public = {name for name in models if not name.startswith("_")} - MADE_BY_THE_SDK
    assert public <= set(agent_messaging.__all__)
    assert set(agent_messaging.__all__) <= set(dir(agent_messaging))
    namespace: dict[str, Any] = {}
    exec("from agent_messaging import *", namespace)
    assert namespace.keys() >= set(agent_messaging.__all__)
    # Ours is a subclass of the builtin, which `except TimeoutError` goes on meaning.
    # (Python itself adds "__builtins__" to whatever code is run in, now and then to the builtins too.)
    assert not (namespace.keys() - {"__builtins__"}) & set(dir(builtins))
    assert "TimeoutError" in dir(agent_messaging)
    assert issubclass(agent_messaging.TimeoutError, TimeoutError)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = agent_messaging.nonsense
    assert re.fullmatch(r"\d+\.\d+\.\d+", agent_messaging.__version__)


def test_a_long_value_is_shortened_and_a_payload_never_shown() -> None:
    text = str(InvalidArgumentError(field="name", value="x" * 10_000, reason="is too long."))
    assert len(text) < 200
    assert "10002 characters" in text
    assert "secret" not in str(agent_messaging.PayloadError(field="message", value="secret", reason="is NaN."))


def test_an_error_shows_its_cause() -> None:
    cause = ZeroDivisionError("because")
    with pytest.raises(agent_messaging.StorageFullError) as caught:
        raise agent_messaging.StorageFullError from cause
    assert "ZeroDivisionError: because" in "".join(traceback.format_exception(caught.value))
