"""Filing: deliveries enter the lists of the mailboxes many at a time, behind the traffic, in one of its own commits.

The lists are spread over the agents. A delivery that entered them at its birth would touch a page for its sender and
one for its recipient, in a commit whose other pages hold dozens of rows; many together share those pages. With 64
agents on each side, 64 notes and their ends wrote 398 pages without filing, and 31 in the commits that file nothing.
Readers look through the some four thousand rows that are not filed yet: the views of the migrations (`sent`,
`received`, `unread`, `session_messages` and others) show both. What is read before it is filed enters no list of
unread messages. On which lists a delivery stands is said by one view, `listings`.
"""

from __future__ import annotations

from functools import partial

import apsw

from ..sql import Queries
from .engine import Writing

_SQL = Queries(__package__, "deliveries")
_EVERY = 4096
"""Messages between two filings. More share pages better, and are looked through by each reader meanwhile."""
_KEPT = 128
"""So many of the newest stay unfiled: many of them are on their way to being read or settled."""
_AT_ONCE = 65_536
"""At most so many in one step: they are sorted in memory, in some tenths of a second."""


def find_next(connection: apsw.Connection) -> int:
    """The number of the next message; for whoever stores messages in this transaction and has not been told it yet."""
    found: int = connection.execute(_SQL["find_next"], {}).get
    return found


def file(connection: apsw.Connection, first: int, last: int) -> None:
    """Have the older deliveries filed, if it is time for that; for whoever has stored those from `first` to `last`.

    It is when the numbers pass a multiple of `_EVERY`. So of all processes one does it, and after a rollback whoever
    stores under that number next. What a process leaves unfiled that ends in this moment, the next filing finds.
    """
    if (first - 1) // _EVERY != last // _EVERY:
        assert isinstance(connection, Writing)
        connection.behind = partial(_file, up_to=last - _KEPT)


def file_all(connection: apsw.Connection) -> None:
    """File whatever is not, in this transaction; for whoever stores more than readers are to look through."""
    while file_step(connection):
        pass


def file_step(connection: apsw.Connection) -> bool:
    """File some of what is not; False: nothing is left. Readers are answered alike before and after each step."""
    newest = find_next(connection) - 1
    return _file(connection, newest) < newest


def _file(connection: apsw.Connection, up_to: int) -> int:
    """Returns how far everything is filed."""
    mark: int = connection.execute(_SQL["find_filed"]).get
    connection.execute(_SQL["file"], {"up_to": min(up_to, mark + _AT_ONCE)})
    filed: int = connection.execute(_SQL["find_filed"]).get
    return filed
