"""Messages on their way, on every backend."""

from tests.conformance import DeliveryConformance


class TestDeliveries(DeliveryConformance):
    """Every verb of `DeliveryStore`, and the release of claims."""
