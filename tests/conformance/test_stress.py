"""Many at once, cancelled calls, and random sequences against a model, on every backend."""

from tests.conformance import (
    CancellationConformance,
    ConcurrencyConformance,
    ConversationMachineConformance,
    ConversationRaceConformance,
    DeliveryMachineConformance,
)


class TestConcurrency(ConcurrencyConformance):
    """Nothing twice, nothing lost, no order broken."""


class TestCancellation(CancellationConformance):
    """All or nothing, repeatable, usable afterwards."""


class TestMachine(DeliveryMachineConformance):
    """The store and the model agree."""


class TestConversationRaces(ConversationRaceConformance):
    """One winner, and everybody reports it."""


class TestConversationMachine(ConversationMachineConformance):
    """The store and the model of conversations agree."""
