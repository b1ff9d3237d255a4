"""The calls of the system at hand: `posix`, or on Windows `windows`, which have the same names."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from .windows import find_holder as find_holder
    from .windows import find_remote as find_remote
    from .windows import is_marked as is_marked
    from .windows import lock as lock
    from .windows import mark as mark
    from .windows import open_beside as open_beside
    from .windows import share_byte as share_byte
    from .windows import try_lock as try_lock
    from .windows import unlock as unlock
else:
    from .posix import find_holder as find_holder
    from .posix import find_remote as find_remote
    from .posix import is_marked as is_marked
    from .posix import lock as lock
    from .posix import mark as mark
    from .posix import open_beside as open_beside
    from .posix import share_byte as share_byte
    from .posix import try_lock as try_lock
    from .posix import unlock as unlock
