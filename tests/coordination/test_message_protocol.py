"""Messages between agents that coordinate: made, written as JSON, read again, refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_messaging.coordination import (
    EVERYBODY,
    AgentMessage,
    AgentRole,
    MessagePriority,
    MessageStatus,
    MessageType,
    StatusUpdate,
    TaskRequest,
    TaskResponse,
    create_broadcast_message,
    create_heartbeat_message,
    create_task_request_message,
)
from agent_messaging.exceptions import InvalidArgumentError, PayloadError

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
INSTANTS = st.datetimes(timezones=st.just(UTC))


def message(**changes: Any) -> AgentMessage:
    given: dict[str, Any] = {
        "from_agent": "planner",
        "to_agent": "builder",
        "message_type": MessageType.TASK_ASSIGNMENT,
        "content": {"task": "process_data"},
    }
    return AgentMessage(**given | changes)


class TestMessages:
    def test_a_message_needs_no_id_and_is_pending_and_of_now(self) -> None:
        first, second = message(), message()
        assert first.message_id != second.message_id
        assert (first.priority, first.status, first.retry_count) == (MessagePriority.MEDIUM, MessageStatus.PENDING, 0)
        assert first.timestamp.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - first.timestamp) < timedelta(minutes=1)
        assert message(message_id="response-1").message_id == "response-1"

    @given(
        st.builds(
            AgentMessage,
            message_id=NAMES,
            from_agent=NAMES,
            to_agent=NAMES,
            message_type=st.sampled_from(MessageType),
            content=st.dictionaries(NAMES, JSON, max_size=4),
            priority=st.sampled_from(MessagePriority),
            timestamp=INSTANTS,
            parent_message_id=st.none() | NAMES,
            status=st.sampled_from(MessageStatus),
            retry_count=st.integers(0, 9),
            max_retries=st.integers(0, 9),
            expires_at=st.none() | INSTANTS,
        )
    )
    def test_json_gives_an_equal_message_back(self, sent: AgentMessage) -> None:
        assert AgentMessage.from_json(sent.to_json()) == sent

    def test_json_is_one_line_with_the_values_of_the_enums(self) -> None:
        text = message(priority="high").to_json()
        assert "\n" not in text
        values = json.loads(text)
        assert (values["message_type"], values["priority"]) == ("task_assignment", "high")

    def test_both_names_of_an_assignment_are_one(self) -> None:
        assert MessageType["TASK_REQUEST"] is MessageType.TASK_ASSIGNMENT
        assert MessageType("task_request") is MessageType.TASK_REQUEST
        assert message(message_type="task_request").message_type is MessageType.TASK_ASSIGNMENT

    def test_keys_of_a_newer_release_are_passed_over_and_missing_ones_named(self) -> None:
        values = json.loads(message().to_json())
        assert AgentMessage.from_json(json.dumps(values | {"colour": "red"})).to_agent == "builder"
        minimal = {"from_agent": "a", "to_agent": "b", "message_type": "heartbeat", "content": {}}
        assert AgentMessage.from_json(json.dumps(minimal)).message_id
        del values["to_agent"]
        with pytest.raises(PayloadError, match="to_agent is missing"):
            AgentMessage.from_json(json.dumps(values))

    @pytest.mark.parametrize("text", ["", "nothing", "[]", "null", b"\xff", '{"a": NaN'])
    def test_text_that_is_no_message_is_refused(self, text: Any) -> None:
        with pytest.raises(PayloadError, match="not a JSON object"):
            AgentMessage.from_json(text)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("message_id", ""),
            ("from_agent", "a\nb"),
            ("to_agent", None),
            ("message_type", "letter"),
            ("content", ["a", "list"]),
            ("priority", 1),
            ("timestamp", datetime(2026, 1, 1)),
            ("timestamp", None),
            ("status", "lost"),
            ("retry_count", -1),
            ("max_retries", True),
            ("max_retries", 2**31 - 1),
            ("expires_at", "tomorrow"),
        ],
    )
    def test_what_is_not_accepted_is_named(self, field: str, value: object) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            message(**{field: value})
        assert caught.value.field == field

    @pytest.mark.parametrize("value", ["\0", float("nan"), object(), "\ud800"])
    def test_content_that_is_no_json_is_refused_with_its_place(self, value: object) -> None:
        with pytest.raises(PayloadError, match=r"message\.content\.deep"):
            message(content={"deep": value}).to_json()

    def test_expiry_and_retries(self) -> None:
        past, future = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (-1, 60))
        assert not message().is_expired()
        assert not message(expires_at=future).is_expired()
        assert message(expires_at=past).is_expired()
        assert message(retry_count=2, max_retries=3).can_retry()
        assert not message(retry_count=3, max_retries=3).can_retry()
        assert not message(expires_at=past).can_retry()

    def test_a_response_goes_back_to_the_sender(self) -> None:
        asked = message(priority=MessagePriority.HIGH)
        answer = asked.create_response("builder", {"status": "completed"})
        assert (answer.from_agent, answer.to_agent) == ("builder", "planner")
        assert (answer.parent_message_id, answer.priority) == (asked.message_id, MessagePriority.HIGH)
        assert answer.message_type is MessageType.TASK_RESPONSE


class TestContents:
    @pytest.mark.parametrize(
        "value",
        [
            TaskRequest("t1", "build", "Build it", {"a": 1}, ["python"], datetime.now(UTC), 2.5, MessagePriority.LOW),
            TaskResponse("t1", "builder", "completed", {"x": [1]}, None, 1.5, 100, ["ship"]),
            StatusUpdate("builder", "busy", False, 3, "t1", 40.0, "half way"),
        ],
    )
    def test_contents_travel_in_a_message(self, value: Any) -> None:
        received = AgentMessage.from_json(message(content=value.to_content()).to_json())
        assert type(value).from_content(received.content) == value

    def test_defaults(self) -> None:
        request = TaskRequest("t1", "build", "", {})
        assert (request.required_capabilities, request.deadline, request.estimated_duration) == ([], None, None)
        assert request.priority is MessagePriority.MEDIUM
        response = TaskResponse("t1", "builder", "failed")
        assert (response.result, response.error_message, response.next_steps) == (None, None, None)

    def test_a_text_is_no_list_of_capabilities(self) -> None:
        with pytest.raises(InvalidArgumentError, match="required_capabilities"):
            TaskRequest("t1", "build", "", {}, "python")  # type: ignore[arg-type]

    def test_roles_and_priorities(self) -> None:
        assert [role.value for role in AgentRole] == [
            "supervisor", "worker", "researcher", "tester", "devops", "documentation", "coordinator"
        ]  # fmt: skip
        assert [(one.value, one.rank) for one in MessagePriority] == [
            ("critical", 0), ("high", 1), ("medium", 2), ("low", 3), ("background", 4)
        ]  # fmt: skip


class TestHelpers:
    def test_a_task_request(self) -> None:
        made = create_task_request_message(
            "planner", "builder", "api", "Build the API", {"auth": "jwt"}, ["python"], MessagePriority.HIGH
        )
        assert made.message_type is MessageType.TASK_REQUEST
        assert made.priority is MessagePriority.HIGH
        assert made.content["task_type"] == "api"
        assert made.content["parameters"] == {"auth": "jwt"}
        assert made.content["required_capabilities"] == ["python"]
        assert TaskRequest.from_content(made.content).task_id == made.content["task_id"]

    def test_a_task_request_that_is_ready(self) -> None:
        ready = TaskRequest("t1", "api", "Build it", {}, ["python"], priority=MessagePriority.LOW)
        made = create_task_request_message("planner", "builder", ready)
        assert TaskRequest.from_content(made.content) == ready
        assert made.priority is MessagePriority.LOW
        with pytest.raises(InvalidArgumentError, match="Leave description"):
            create_task_request_message("planner", "builder", ready, "Build something else")

    def test_broadcasts_and_heartbeats(self) -> None:
        news = create_broadcast_message("planner", MessageType.COORDINATION, {"pause": True}, MessagePriority.CRITICAL)
        assert (news.to_agent, news.message_type, news.priority) == (EVERYBODY, "coordination", "critical")
        beat = create_heartbeat_message("builder", "planner", current_tasks=2, metrics={"cpu": 0.5})
        assert (beat.message_type, beat.to_agent) == (MessageType.HEARTBEAT, "planner")
        assert beat.content["current_tasks"] == 2
        assert datetime.fromisoformat(beat.content["timestamp"]) == beat.timestamp
        assert create_heartbeat_message("builder").to_agent == EVERYBODY
