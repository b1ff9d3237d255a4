"""Messages on their way, on every backend."""

from agent_messaging.testing.conformance import DeliveryConformance


class TestDeliveries(DeliveryConformance):
    """Every verb of `DeliveryStore`, and the release of claims."""
