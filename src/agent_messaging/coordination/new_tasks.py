"""What supervisors give, checked, and made into what is stored: tasks, and the rules of schedules."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..arguments import check_count, check_external_id, check_instant, check_name, check_timeout, refuse
from ..clock import utc_now
from ..config import Config
from ..delivery.schedules import EVERY, next_after
from ..handlers.tasks import check_capabilities
from ..payloads import checksum, encode
from ..storage.ports import NewTask
from .message_protocol import MessagePriority, parse_priority


def make_task(
    config: Config,
    task_id: str,
    task_type: str,
    payload: Any,
    *,
    required_capabilities: Iterable[str] | None = None,
    description: str = "",
    priority: MessagePriority | str = MessagePriority.MEDIUM,
    deadline: datetime | None = None,
    run_timeout: float | None = None,
    delay: float | None = None,
    max_attempts: int | None = None,
    supervisor: str | None = None,
) -> NewTask:
    """Check what `delegate` was given, and make of it what is stored.

    Raises:
        InvalidArgumentError, PayloadError: As of `delegate`.
    """
    kind = check_external_id(task_type, "task_type")
    needs: tuple[str, ...] = (kind,)
    if required_capabilities is not None:
        needs = tuple(sorted(check_capabilities(required_capabilities, "required_capabilities")))
    if description != "":
        check_name(description, "description")
    urgency = parse_priority(priority, "priority")
    expires_in = None
    if check_instant(deadline, "deadline") is not None and deadline is not None:
        expires_in = (deadline - utc_now()).total_seconds()
        if expires_in <= 0:
            raise refuse("deadline", deadline, "has passed. Give an instant in the future, or None.")
    check_timeout(run_timeout, "run_timeout", allow_none=True)
    wait_for = 0.0 if delay is None or delay == 0 else check_timeout(delay, "delay")
    most = config.coordination.max_retries + 1 if max_attempts is None else max_attempts
    check_count(most, "max_attempts", most=10_000)
    if supervisor is not None:
        check_external_id(supervisor, "supervisor")
    content = encode(payload, field="payload", limit_bytes=config.messaging.max_payload_bytes)
    return NewTask(
        task_id,
        kind,
        needs,
        urgency.rank,
        content,
        checksum(content, None),
        most,
        description,
        supervisor,
        run_timeout,
        wait_for,
        expires_in,
    )


def make_rule(cron: str | None, every: float | None, timezone: str, now: datetime) -> tuple[str, datetime]:
    """Check what `schedule` was given, and make of it the rule that is stored, and its first instant after now.

    Raises:
        InvalidArgumentError: As of `schedule`.
    """
    rule = _rule(cron, every)
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise refuse("timezone", timezone, "is no time zone. Write one such as 'Europe/Berlin', or 'UTC'.") from None
    try:
        return rule, next_after(rule, timezone, now, now)
    except (ValueError, OverflowError) as error:
        raise refuse("cron", cron, f"cannot be used: {error}. Write five fields, such as '0 3 * * *'.") from None


def _rule(cron: str | None, every: float | None) -> str:
    if (cron is None) == (every is None):
        raise refuse("cron", cron, "and every: give one of them, cron='0 3 * * *' or every=60.")
    if every is not None:
        if check_timeout(every, "every") < 1:
            raise refuse("every", every, "is less than a second. Let one task do several things.")
        return f"{EVERY}{float(every)!r}"
    if not isinstance(cron, str):
        raise refuse("cron", cron, "is no text. Write five fields, such as '0 3 * * *'.")
    return " ".join(cron.split())
