"""What the blocking classes say of Redis: lost data, damaged bodies, a server that comes back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import redis

from agent_messaging.coordination import AgentMessage, MessageQueueManager, MessageType
from agent_messaging.exceptions import QueueDataLostError
from tests.fixtures.redis import RedisServer


def message(message_id: str) -> AgentMessage:
    return AgentMessage(
        message_id=message_id,
        from_agent="planner",
        to_agent="builder",
        message_type=MessageType.COORDINATION,
        content={"n": 1},
    )


def test_lost_data_is_told_once_though_the_upkeep_noticed_it_first(
    own_redis: Callable[..., RedisServer], closing: ExitStack
) -> None:
    server = own_redis()
    queue = closing.enter_context(MessageQueueManager(server.url))
    assert queue.send_message(message("before"))
    with redis.Redis(port=server.port) as client:
        client.flushall()
    with pytest.raises(QueueDataLostError, match="has lost its queues"):
        queue.get_messages("builder", block_ms=60_000)
    assert queue.is_connected()
    assert queue.send_message(message("after"))
    assert [one.message_id for one in queue.get_messages("builder")] == ["after"]


def test_a_server_that_is_started_again_is_found_again(
    own_redis: Callable[..., RedisServer], closing: ExitStack
) -> None:
    server = own_redis("--appendonly", "yes", "--appendfsync", "always")
    queue = closing.enter_context(MessageQueueManager(server.url))
    assert queue.send_message(message("kept"))
    server.end()
    server.start()
    assert [one.message_id for one in queue.get_messages("builder")] == ["kept"]
    assert queue.mark_processed("kept", "builder")


@pytest.mark.parametrize("content", [b"{broken", b"[]", b'{"n":2}'])
def test_a_damaged_message_is_a_dead_letter_and_the_rest_comes(
    redis_server: str, redis_namespace: str, closing: ExitStack, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    queue = closing.enter_context(MessageQueueManager(f"{redis_server}?namespace={redis_namespace}"))
    for name in ("damaged", "whole"):
        queue.send_message(message(name))
    with redis.Redis.from_url(redis_server) as client:
        client.hset(f"{{{redis_namespace}}}:m:builder\ndamaged", "content", content)
    with caplog.at_level(logging.WARNING, logger="agent_messaging"):
        assert [one.message_id for one in queue.get_messages("builder")] == ["whole"]
    assert "message 'damaged' of the queue 'builder'" in caplog.text
    assert queue.get_queue_stats()["dead_letters"] == 1
