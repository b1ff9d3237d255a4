"""What the audit log is told of messages: sent, received by a handler, and how that ended.

It costs one look at a flag where the log is switched off. Payloads are told as the store has them, and written only
where they were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..audit import get_file_logger
from ..storage.ports import ClaimedDelivery, NewGroup, Settlement, Settling
from .names import AgentName

EVENTS = {
    Settling.DONE: "processed",
    Settling.RETRY: "retried",
    Settling.DEAD: "failed",
    Settling.RETURNED: "returned",
}
"""What the log calls the end of a run."""


class Known(Protocol):
    """The names that are known here."""

    def cached_by_id(self, id: str) -> AgentName | None:
        """The agent, if it is known."""
        ...


def sent(sender: AgentName, targets: Sequence[AgentName], group: NewGroup, names: Known) -> None:
    """A call's messages were stored."""
    log = get_file_logger()
    if not log.is_enabled:
        return
    known = {target.id: target.external_id for target in targets}
    for delivery in group.deliveries:
        recipient = known.get(delivery.recipient_id) or _name(names, delivery.recipient_id)
        log.log_message(
            delivery.message_id, sender.external_id, recipient, group.kind.value, "sent", content=group.content
        )


def received(delivery: ClaimedDelivery, agent: AgentName, names: Known) -> None:
    """A handler begins with a message."""
    log = get_file_logger()
    if log.is_enabled:
        log.log_message(
            delivery.message_id,
            _name(names, delivery.sender_id),
            agent.external_id,
            delivery.kind.value,
            "received",
            content=delivery.content,
        )


def ended(delivery: ClaimedDelivery, agent: AgentName, names: Known, settlement: Settlement) -> None:
    """A handler has ended with a message; the commit of it follows."""
    log = get_file_logger()
    if not log.is_enabled:
        return
    event = EVENTS[settlement.how]
    data = {"attempt": settlement.claim.attempt}
    sender = _name(names, delivery.sender_id)
    log.log_message(delivery.message_id, sender, agent.external_id, delivery.kind.value, event, data=data)
    if settlement.how in (Settling.RETRY, Settling.DEAD):
        failed = {"message_id": delivery.message_id, **data}
        log.log_error(agent.external_id, "handler_failure", settlement.reason or "", failed)


def registered(agent_id: str, organization_id: str) -> None:
    """An agent was registered."""
    get_file_logger().log_agent_activity(agent_id, "registered", {"organization": organization_id})


def _name(names: Known, id: str) -> str:
    agent = names.cached_by_id(id)
    return id if agent is None else agent.external_id
