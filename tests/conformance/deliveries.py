"""`DeliveryStore` and the release of claims, whole."""

from .append import (
    AppendConformance,
    ClaimInAppendConformance,
    IdempotencyConformance,
    MailboxConformance,
    RepeatedAppendConformance,
)
from .claim import ClaimConformance, RoundRobinConformance, SuspectConformance
from .passing import AdvanceConformance, DeadLetterConformance, ReceiptConformance, WithdrawConformance
from .release import BlameConformance, ReleaseConformance
from .settle import FencingConformance, RepeatedSettleConformance, SettleConformance, StatisticsConformance


class DeliveryConformance(
    AppendConformance,
    IdempotencyConformance,
    MailboxConformance,
    ClaimInAppendConformance,
    RepeatedAppendConformance,
    ClaimConformance,
    RoundRobinConformance,
    SuspectConformance,
    SettleConformance,
    FencingConformance,
    RepeatedSettleConformance,
    StatisticsConformance,
    AdvanceConformance,
    WithdrawConformance,
    ReceiptConformance,
    DeadLetterConformance,
    ReleaseConformance,
    BlameConformance,
):
    """All of `DeliveryStore`. Its parts can be run alone while a backend is being written."""
