"""The names of what is in the store, as types of parameters: completion offers those that there are.

A command takes any text all the same; the SDK says what is wrong with it, and suggests the closest names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.types import StringParamType

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem


class StoredName(StringParamType):
    """The name of something in the store.

    Args:
        noun: What is named, as `completion` looks for it.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the names that begin so."""
        from .completion import find_names

        return find_names(ctx, self.noun, incomplete)


AGENT = StoredName("agent")
ORGANIZATION = StoredName("organization")
MEETING = StoredName("meeting")
"""The id of a meeting."""
OPEN_MEETING = StoredName("open meeting")
"""The id of a meeting that has not ended."""
