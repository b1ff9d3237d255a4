"""What every backend of `storage.ports` must do: test classes to inherit, and the modules `test_*` that inherit them.

A backend is complete when all of these pass on it. The fixtures `make_store` and `make_empty_store`, in
`tests/fixtures/stores.py`, build its stores; each test module here has one class per noun:

    class TestDeliveries(DeliveryConformance): ...

A test is skipped only where `Capabilities` says that the store cannot do what it is about, and names the capability.
"""

from .asks import AskConformance
from .cancellation import CancellationConformance
from .circles import CircleConformance
from .concurrency import ConcurrencyConformance
from .conversation_machine import ConversationMachineConformance
from .deliveries import DeliveryConformance
from .directory import DirectoryConformance
from .forwarding import ForwardConformance
from .giving_up import GivingUpConformance
from .machine import DeliveryMachineConformance
from .meeting_machine import MeetingMachineConformance
from .meeting_races import MeetingRaceConformance
from .meetings import MeetingConformance
from .messages import MessageConformance
from .parts import PartConformance
from .processes import PresenceConformance, ProcessConformance
from .races import ConversationRaceConformance
from .retention import RetentionConformance
from .search import SearchConformance
from .sessions import SessionConformance
from .stores import StoreConformance
from .threads import ThreadConformance
from .topics import TopicConformance
from .waits import WaitConformance

__all__ = [
    "AskConformance",
    "CancellationConformance",
    "CircleConformance",
    "ConcurrencyConformance",
    "ConversationMachineConformance",
    "ConversationRaceConformance",
    "DeliveryConformance",
    "DeliveryMachineConformance",
    "DirectoryConformance",
    "ForwardConformance",
    "GivingUpConformance",
    "MeetingConformance",
    "MeetingMachineConformance",
    "MeetingRaceConformance",
    "MessageConformance",
    "PartConformance",
    "PresenceConformance",
    "ProcessConformance",
    "RetentionConformance",
    "SearchConformance",
    "SessionConformance",
    "StoreConformance",
    "ThreadConformance",
    "TopicConformance",
    "WaitConformance",
]
