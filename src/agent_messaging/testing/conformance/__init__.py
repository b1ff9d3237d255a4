"""What every backend of `storage.ports` must do, as test classes to inherit.

A backend is complete when all of these pass on it. Its author writes a test module with two fixtures, and one class per
noun (pytest collects classes by the prefix `Test`; `asyncio_mode = "auto"` of pytest-asyncio is needed):

    @pytest.fixture
    def make_store(tmp_path):          # builds stores that are not open, all on the data of this test
        return lambda: MyStore(tmp_path / "data")

    @pytest.fixture
    def make_empty_store(make_store):  # the same on a place without a schema
        return make_store

    class TestDeliveries(DeliveryConformance): ...

A test is skipped only where `Capabilities` says that the store cannot do what it is about, and names the capability.
`pytest.register_assert_rewrite("agent_messaging.testing.conformance")` in `conftest.py` shows values where one fails.
"""

from .asks import AskConformance
from .cancellation import CancellationConformance
from .circles import CircleConformance
from .concurrency import ConcurrencyConformance
from .conversation_machine import ConversationMachineConformance
from .deliveries import DeliveryConformance
from .directory import DirectoryConformance
from .machine import DeliveryMachineConformance
from .meeting_machine import MeetingMachineConformance
from .meeting_races import MeetingRaceConformance
from .meetings import MeetingConformance
from .messages import MessageConformance
from .processes import PresenceConformance, ProcessConformance
from .races import ConversationRaceConformance
from .sessions import SessionConformance
from .stores import StoreConformance
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
    "MeetingConformance",
    "MeetingMachineConformance",
    "MeetingRaceConformance",
    "MessageConformance",
    "PresenceConformance",
    "ProcessConformance",
    "SessionConformance",
    "StoreConformance",
    "WaitConformance",
]
