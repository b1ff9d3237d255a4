"""A forked child lets go of its parent's connections at once.

A socket is closed when the last process that has it does so: an orphan of a killed process would keep its sessions on
the server, with what a half-done transaction has locked.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

from ...system import after_fork

_transports: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""Of each open connection. A child inherits them, so this is the process's own by nature."""


def remember(connection: Any, transport: Any) -> None:
    """Close this connection's socket in children."""
    _transports[connection] = transport


def _let_go() -> None:
    # Put in place of the socket, not only closed, because the objects that the child inherits close the number again
    # some day. Closing the child's descriptor says nothing to the server and takes nothing from the parent's poller.
    nothing = os.open(os.devnull, os.O_RDWR)
    for transport in list(_transports.values()):
        socket = transport.get_extra_info("socket")
        if socket is not None and socket.fileno() >= 0:
            os.dup2(nothing, socket.fileno(), inheritable=False)
    os.close(nothing)
    _transports.clear()


after_fork(_let_go)
