"""The storage seam: what a backend must be able to do, one method per verb of the domain, each one atomic state change.

Every method holds these, so none repeats them:

* After it returns, its change is committed and synced. After one of our errors other than `OutcomeUnknownError` nothing
  changed. After `OutcomeUnknownError`, a cancellation or a crash it happened wholly or not at all; the method says
  how to repeat it safely.
* Ids are canonical lower-case UUID text, made by the caller (UUIDv7). External ids never reach `deliveries`.
* `now` is the instant the store is to believe; None means the store's own clock. Durations are seconds.
* Driver errors leave it as the errors of `exceptions.DatabaseError`, never raw.
* A list argument is one statement or a constant number of them, never one per item, and is bounded by the caller.

The life of a delivery, one guarded change per arrow:

    queued ──claim: token+1, attempt+1, owner──▶ claimed ──settle, token newest──▶ done | dead
    claimed ──settle as retry(delay) or give back──▶ queued
    claimed ──release: owner dead, or past the claim's hard end──▶ queued | dead
    queued ──expire | withdraw──▶ expired | withdrawn
    dead ──redrive: attempt 0, token kept──▶ queued

Of conversations, what an agent's own code reads no handler need have (see `sessions`):

    queued ──read or taken──▶ done
    done ──returned by the call that took it from the queue──▶ queued
    done ──rejected by the call that took it──▶ dead

Order: a *lane* is (recipient, kind, sender). `claim` takes from an ordered lane only its oldest due delivery, and only
while no delivery of the lane is claimed. Between lanes of a recipient it goes round robin, so that no sender starves
another.

Crashes: a delivery whose owner died is *suspect* until it is settled. Of one recipient's suspects at most one is
claimed at a time, so that a message that kills its process is found by itself. When an owner dies while it had
suspects claimed, they alone are blamed: what else it had claimed returns to the queue uncounted and unsuspected.
"""

from .base import CLAIM_MARGIN, Capabilities
from .deliveries import (
    Advanced,
    Answering,
    AppendOutcome,
    Claim,
    ClaimedDelivery,
    ClaimRequest,
    DeadRow,
    DeliveryStatistics,
    DeliveryStore,
    Duplicate,
    KeyConflict,
    MailboxFull,
    MutualWait,
    NewAnswer,
    NewDelivery,
    NewGroup,
    NotWaiting,
    Publication,
    ReceiptRow,
    SessionLocked,
    Settled,
    Settlement,
    Settling,
    Stored,
    TooManySubscribers,
    TurnRef,
    Unexpected,
    UnknownAgents,
)
from .directory import DirectoryStore
from .meetings import (
    Acted,
    Created,
    EventPage,
    EventRow,
    MeetingRow,
    MeetingStatistics,
    MeetingStore,
    NewInvitation,
    NewMeeting,
    NewSpeech,
    Outcome,
    SeatRow,
    SpeechCount,
    Standing,
    TimedOut,
    TurnRow,
)
from .messages import MessageRow, MessageStore, Role
from .processes import Presence, ProcessRow, ProcessStore, Service
from .sessions import (
    AnswerRow,
    AskRow,
    EndedAsk,
    EndedSession,
    NewEnding,
    NewWait,
    ReadPage,
    SessionCounts,
    SessionRow,
    SessionStatistics,
    SessionStore,
    WaitRow,
)
from .store import Store, StoreFacts
from .topics import SubscriptionRow, TopicStore

__all__ = [
    "CLAIM_MARGIN",
    "Acted",
    "Advanced",
    "AnswerRow",
    "Answering",
    "AppendOutcome",
    "AskRow",
    "Capabilities",
    "Claim",
    "ClaimRequest",
    "ClaimedDelivery",
    "Created",
    "DeadRow",
    "DeliveryStatistics",
    "DeliveryStore",
    "DirectoryStore",
    "Duplicate",
    "EndedAsk",
    "EndedSession",
    "EventPage",
    "EventRow",
    "KeyConflict",
    "MailboxFull",
    "MeetingRow",
    "MeetingStatistics",
    "MeetingStore",
    "MessageRow",
    "MessageStore",
    "MutualWait",
    "NewAnswer",
    "NewDelivery",
    "NewEnding",
    "NewGroup",
    "NewInvitation",
    "NewMeeting",
    "NewSpeech",
    "NewWait",
    "NotWaiting",
    "Outcome",
    "Presence",
    "ProcessRow",
    "ProcessStore",
    "Publication",
    "ReadPage",
    "ReceiptRow",
    "Role",
    "SeatRow",
    "Service",
    "SessionCounts",
    "SessionLocked",
    "SessionRow",
    "SessionStatistics",
    "SessionStore",
    "Settled",
    "Settlement",
    "Settling",
    "SpeechCount",
    "Standing",
    "Store",
    "StoreFacts",
    "Stored",
    "SubscriptionRow",
    "TimedOut",
    "TooManySubscribers",
    "TopicStore",
    "TurnRef",
    "TurnRow",
    "Unexpected",
    "UnknownAgents",
    "WaitRow",
]
