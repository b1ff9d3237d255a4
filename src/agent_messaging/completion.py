"""Completion offers the calls of the objects that users hold, and nothing that these work with."""

from __future__ import annotations

from collections.abc import Iterable


class Calls:
    """Completion offers the methods alone; the modules of the SDK use the attributes too."""

    def __dir__(self) -> Iterable[str]:
        offered = super().__dir__()
        return [name for name in offered if name.startswith("_") or callable(getattr(type(self), name, None))]
