"""The places where a database file may be, the folder beside it, and a guard against its replacement.

Nothing here opens the database file: closing it again would drop the locks that SQLite holds on it in this process.
All our own files are in the folder `<database>-am` beside the database.
"""

from __future__ import annotations

import os
import stat

from ...exceptions import ConfigurationError, StorageReplacedError, StorageUnavailableError
from ...system.identity import Watched, identify
from ...system.native import find_remote

_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "smbnetfs", "9p", "afs", "ncpfs", "ceph", "lustre"),
        *("glusterfs", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.davfs", "fuse.davfs2", "fuse.s3fs"),
        *("fuse.gcsfuse", "fuse.rclone", "fuse.grpcfuse", "fuse.osxfs", "fuse.smbnetfs"),
    }
)
"""File systems on which another machine may have the file open, or without the shared memory that WAL needs."""


def check_place(path: str, *, create: bool) -> None:
    """Refuse a place in which the database cannot work, before anything is made there.

    Raises:
        ConfigurationError: A folder, a network file system, a file mounted alone, or several hard links.
        StorageUnavailableError: Missing parent folder, or no permission to write.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise StorageUnavailableError(
            f"The folder {folder!r} of the database {path!r} does not exist. Create it first."
        )
    if kind := find_network(folder):
        raise ConfigurationError(
            f"The database {path!r} is on a network file system ({kind}), where SQLite cannot keep it safe. "
            "Move it to a local disk, or use PostgreSQL for several machines."
        )
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if not create:
            return
    else:
        if stat.S_ISDIR(found.st_mode):
            raise ConfigurationError(
                f"{path!r} is a folder; name a file in it, such as {path + '/agent_messaging.db'!r}."
            )
        if is_mount(path):
            raise ConfigurationError(
                f"The database {path!r} is mounted alone, as a file; its -wal and -shm files, which hold messages too, "
                "would be others than those of its first place. Mount the folder that it is in (`-v ./data:/data`)."
            )
        if found.st_nlink > 1:
            raise ConfigurationError(
                f"The database {path!r} has {found.st_nlink} hard links; opened by two names it would be damaged. "
                "Remove the others, or use a symbolic link."
            )
        if not os.access(path, os.R_OK | os.W_OK):
            raise StorageUnavailableError(
                f"The database {path!r} is read-only for this process. Give it write permission for the file."
            )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageUnavailableError(
            f"The folder {folder!r} of the database is read-only for this process; SQLite keeps its log there. "
            "Give it write permission for the folder, or move the database."
        )


def find_network(folder: str) -> str:
    """The type of the file system a folder is on, if another machine may be on it too; "" where nothing tells."""
    kind = match_mount(os.path.realpath(folder), _read_mounts())
    return kind if kind in _NETWORK else find_remote(folder)


def is_mount(path: str) -> bool:
    """Whether a file is a mount by itself; False where the system does not tell."""
    return any(_place_of(line) == path for line in _read_mounts())


def _read_mounts() -> list[str]:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def match_mount(folder: str, mountinfo: list[str]) -> str:
    """The type of the innermost mount that holds the folder. Of two mounts at one place the later one counts."""
    best, kind = "", ""
    for line in mountinfo:
        mount, (_, _, right) = _place_of(line), line.partition(" - ")
        inside = folder == mount or folder.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split(" ")[0]
    return kind


def _place_of(line: str) -> str:
    return _unescape(line.split(" ")[4])


def _unescape(text: str) -> str:
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


def side_folder(path: str) -> str:
    """The folder of our own files, made if it is missing."""
    folder = f"{path}-am"
    os.makedirs(folder, exist_ok=True)
    return folder


class ReplacedGuard:
    """It knows the files that were opened, and stops the store when other files are in their place.

    SQLite would go on writing to the removed files without an error, and everything acknowledged would be lost.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.database = identify(path)
        # Both are there as long as a connection is open. A process without the -shm file that the others use takes no
        # notice of their locks, nor they of its locks.
        watched = [Watched(name) for name in (path, f"{path}-wal", f"{path}-shm")]
        self._watched = [(one.identify, one.identify()) for one in watched]

    def holds(self) -> bool:
        """Whether the files are still in place."""
        return all(known is not None and find() == known for find, known in self._watched)

    def check(self) -> None:
        """Refuse to go on without the files. It is called before each commit and costs a few microseconds.

        Raises:
            StorageReplacedError: Nothing more may be acknowledged.
        """
        if self.holds():
            return
        raise StorageReplacedError(
            f"The database {self.path!r} or its -wal or -shm file was removed or replaced while open; nothing more is "
            "stored in it. Put the right file in place, if it was moved away, and restart the process. Python's own "
            "sqlite3, closing the file in this process, removes them too: copy it with `sdk.backup(path)` instead."
        )
