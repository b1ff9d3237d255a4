"""What all calls of conversations share: the engine, the settings, and the type of payloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic

from ...config import MessagingConfig
from ...models import T
from ..door import Door

if TYPE_CHECKING:
    from ...delivery.engine import Engine


class ConversationCalls(Door, Generic[T]):
    """The calls of one SDK object."""

    def __init__(
        self, find_engine: Callable[[], Engine], settings: MessagingConfig, payload_type: Callable[[], Any]
    ) -> None:
        super().__init__(find_engine)
        self.settings = settings
        self.payload_type = payload_type
