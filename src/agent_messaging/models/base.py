"""What all records are: snapshots of fields, or mappings whose keys are attributes too."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

T_OneWay = TypeVar("T_OneWay", default=Any)
"""Payload type of one-way messages; the default of the two others."""
T_Conversation = TypeVar("T_Conversation", default=T_OneWay)
T_Meeting = TypeVar("T_Meeting", default=T_OneWay)
T = TypeVar("T", default=Any)


class Snapshot(BaseModel):
    """What something was when it was read."""

    # Built at first use, so that importing the package stays quick.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, defer_build=True)


class Record(dict[str, Any]):
    """A mapping whose keys can be read as attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no key {name!r}; the keys are {', '.join(self)}") from None
