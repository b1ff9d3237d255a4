"""The file of an archive: lines of JSON in gzip or zstd, whose last one is a manifest with counts and a hash.

A file has its name only when it is whole and synced. What is read is compared with the manifest before anything is done
with it. Both work in pieces, and block: they are for threads.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from ...arguments import refuse
from ...exceptions import ArchiveError, ConfigurationError, StorageFullError, StorageUnavailableError
from ...records import dataclass
from ...storage.archive import TABLES, to_line
from ...system import BINARY, publish

FORMAT = 1
"""The number of the form. A reader refuses those of newer releases."""
_MARK = "agent-messaging"
_ZSTD = b"\x28\xb5\x2f\xfd"
_LEVEL = 6
_LONGEST = 512 * 1024 * 1024
"""Bytes of a line at most: a row has two payloads, of up to 64 MiB, which may be written with many backslashes."""
_DAMAGED = "Get it again from where it was made, or export again."


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the last line of an archive says of the others."""

    counts: dict[str, int]
    """Rows of each table."""
    sha256: str
    """Of all lines before it."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(self.counts.values())


class ArchiveWriter:
    """Writes one archive.

    Args:
        path: The absolute path of a file that does not exist. With the ending `.zst` it is zstd, otherwise gzip.
        organization: The external id of the only organization in it; None: it is a whole store's.
    """

    def __init__(self, path: str, organization: str | None) -> None:
        self.path = path
        self.counts = dict.fromkeys(TABLES, 0)
        self._part = f"{path}.part-{uuid.uuid4()}"
        self._organization = organization
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._raw: BinaryIO | None = None
        self._file: Any = None
        self._is_given_up = False
        self.size_bytes = 0
        """Of the whole file."""

    def begin(self) -> None:
        """Make the file, under a name of its own until it is whole."""
        with self._lock, _told(self.path):
            # An archive has all that was ever said: it is for nobody else's eyes.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
            self._raw = os.fdopen(os.open(self._part, flags, 0o600), "wb")
            self._file = _compress(self._raw, is_zstd=self.path.endswith(".zst"))
            self._write({"archive": _MARK, "format": FORMAT, "organization": self._organization})

    def write(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Write rows of a table; returns how many."""
        before = self.counts[table]
        with self._lock, _told(self.path):
            if self._is_given_up:
                return 0
            for row in rows:
                self._write({"table": table, **row})
                self.counts[table] += 1
        return self.counts[table] - before

    def finish(self) -> Manifest:
        """Write the manifest, sync the file, and give it its name."""
        with self._lock, _told(self.path):
            manifest = Manifest({table: count for table, count in self.counts.items() if count}, self._hash.hexdigest())
            self._write({"manifest": {"counts": manifest.counts, "rows": manifest.rows, "sha256": manifest.sha256}})
            self._file.close()
            assert self._raw is not None
            self.size_bytes = self._raw.tell()
            self._raw.close()
            publish(self._part, self.path)
        return manifest

    def give_up(self) -> None:
        """Leave nothing behind of what is not whole. It may be called at any time, more than once."""
        with self._lock:
            self._is_given_up = True
            for file in (self._file, self._raw):
                with suppress(OSError, ValueError):
                    if file is not None:
                        file.close()
            with suppress(OSError):
                os.unlink(self._part)

    def _write(self, document: Mapping[str, Any]) -> None:
        line = to_line(document).encode() + b"\n"
        if "manifest" not in document:
            self._hash.update(line)
        self._file.write(line)


class _Owners:
    """The ids of what else belongs to, as an archive is read: nothing in it is of the agents of the store it goes into.

    Of messages, which are many, whoever puts them in place looks at that.
    """

    def __init__(self) -> None:
        self._ids: dict[str, set[str]] = {"organizations": set(), "agents": set(), "meetings": set()}

    def find_stranger(self, table: str, row: Mapping[str, Any]) -> str | None:
        """Take a row in; returns the table that has no row to which it belongs."""
        if table in self._ids and isinstance(row.get("id"), str):
            self._ids[table].add(row["id"])
        for column, other in TABLES[table].belongs.items():
            owner = row.get(column)
            if other in self._ids and isinstance(owner, str) and owner not in self._ids[other]:
                return other
        return None


class ArchiveReader:
    """Reads one archive, from its beginning each time.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.organization: str | None = None
        """Known once it was checked."""

    def check(self, progress: Callable[[int], None] | None = None) -> Manifest:
        """Read all of it, and compare it with its manifest.

        Args:
            progress: Told now and then how many bytes of the file were read.

        Raises:
            ArchiveError: It is no archive, of a newer form, damaged, or not whole.
        """
        found, hashed, counts, owners = None, hashlib.sha256(), dict.fromkeys(TABLES, 0), _Owners()
        lines = self._lines(progress)
        with _told(self.path, f"The archive {self.path!r} cannot be read"):
            head = next(lines, b"")
            self._read_head(head)
            hashed.update(head)
            for line in lines:
                if found is not None:
                    raise self._damaged("something follows the manifest")
                document = self._parse(line)
                if "manifest" in document:
                    found = document["manifest"]
                    continue
                table = document.get("table")
                if not isinstance(table, str) or table not in TABLES:
                    raise self._newer(f"a table {table!r}")
                if (stranger := owners.find_stranger(table, document)) is not None:
                    raise self._damaged(f"a row of {table} belongs to none of its {stranger}")
                counts[table] += 1
                hashed.update(line)
        if not isinstance(found, dict):
            raise self._damaged("its end is missing")
        counts = {table: count for table, count in counts.items() if count}
        if found.get("sha256") != hashed.hexdigest() or found.get("counts") != counts:
            raise self._damaged("it is not what its manifest says")
        return Manifest(counts, hashed.hexdigest())

    def rows(self, skip: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """The rows with their tables, without the first so many, of an archive that was checked."""
        with _told(self.path, f"The archive {self.path!r} cannot be read"):
            for number, line in enumerate(self._lines(None)):
                if number <= skip:
                    continue
                row = self._parse(line)
                if "manifest" in row:
                    return
                table = row.pop("table")
                if missing := {column.name for column in TABLES[table].columns} - row.keys():
                    raise self._damaged(f"a row of {table} has no {min(missing)}")
                yield table, row

    def _lines(self, progress: Callable[[int], None] | None) -> Iterator[bytes]:
        with open(self.path, "rb") as raw, _decompress(raw, self.path) as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b"")):
                if len(line) == _LONGEST:
                    raise self._damaged("a line is longer than any row")
                yield line
                if progress is not None and number % 500 == 0:
                    progress(raw.tell())

    def _read_head(self, line: bytes) -> None:
        if not line:
            raise self._damaged("its end is missing")
        head = self._parse(line) if line.startswith(b"{") else {}
        if head.get("archive") != _MARK:
            raise ArchiveError(
                f"{self.path!r} is no archive of this SDK. Name a file that `agent-messaging db export` has written."
            )
        if head.get("format") != FORMAT:
            raise self._newer(f"form {head.get('format')!r}")
        self.organization = head.get("organization")

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            raise self._damaged("a line is no JSON") from None
        if not isinstance(document, dict):
            raise self._damaged("a line is no row")
        return document

    def _newer(self, what: str) -> ArchiveError:
        return ArchiveError(
            f"The archive {self.path!r} has {what}, which this release does not know (it reads form {FORMAT}). Upgrade "
            "agent-messaging here, or export with the release that is installed here."
        )

    def _damaged(self, how: str) -> ArchiveError:
        return ArchiveError(f"The archive {self.path!r} is damaged: {how}. Nothing was imported. {_DAMAGED}")


@contextmanager
def _told(path: str, problem: str = "") -> Iterator[None]:
    """Within, what the system and the compression say become errors of ours."""
    problem = problem or f"The archive {path!r} cannot be written"
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveError(f"{problem}: it is damaged ({error}). Nothing was imported. {_DAMAGED}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFullError(f"{problem}: there is no room left. Make room, or name another disk.") from error
        if error.errno == errno.EEXIST:
            raise refuse("path", path, f"exists already, at {path!r}. Name a new file.") from error
        raise StorageUnavailableError(f"{problem}: {error.strerror or error}. Name another place.") from error


def _compress(raw: BinaryIO, *, is_zstd: bool) -> Any:
    if is_zstd:
        return _zstd().ZstdCompressor(level=_LEVEL // 2).stream_writer(raw, closefd=False)
    return gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0)  # with no name and no time: equal stores give equal bytes


@contextmanager
def _decompress(raw: BinaryIO, path: str) -> Iterator[io.BufferedReader]:
    if raw.read(4) == _ZSTD:
        raw.seek(0)
        module = _zstd()
        try:
            yield io.BufferedReader(module.ZstdDecompressor().stream_reader(raw, closefd=False), 1 << 20)
        except module.ZstdError as error:
            raise ArchiveError(
                f"The archive {path!r} cannot be read: it is damaged ({error}). Nothing was imported. {_DAMAGED}"
            ) from error
    else:
        raw.seek(0)
        with gzip.GzipFile("", "rb", fileobj=raw) as file:
            yield io.BufferedReader(file, 1 << 20)


def _zstd() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ConfigurationError(
            "An archive with the ending .zst needs the package zstandard. Run: pip install 'agent-messaging[zstd]'; or "
            "use gzip, with the ending .gz."
        ) from error
    return zstandard
