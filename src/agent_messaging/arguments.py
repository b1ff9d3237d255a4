"""The arguments that several calls check the same way: names, ids, numbers, flags, and payloads that were forgotten.

Nothing is repaired silently. An id that was trimmed or normalised would come back different from what the caller
passed, so that comparing the two would fail: it is refused, and the error shows the accepted spelling.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, Literal, TypeVar, cast, overload
from uuid import UUID

from .clock import utc_now
from .exceptions import ConfigurationError, InvalidArgumentError

E = TypeVar("E", bound=StrEnum)
I = TypeVar("I", bound=int | None)  # noqa: E741

MAX_NAME_LENGTH = 255
"""Characters of an external id or a name. At most 1,020 bytes, which fits a PostgreSQL index entry (2,704)."""
MAX_SECONDS = 100 * 365.25 * 86_400.0
"""A century: the longest duration accepted. Adding it to now stays in the range of `datetime` and of thread waits."""
MAX_OFFSET = 2**63 - 1
"""Both stores bind 64-bit integers."""

_category = unicodedata.category
_JOINED = frozenset({"Lo", "Mn", "Mc", "So", "Sk"})
"""Letters without case, their marks, emoji and what changes these."""
_CANONICAL = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float | None:
    """The seconds that a text such as `90`, `1.5h` or `30d` means; None if it is no such text."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", text.strip())
    return None if match is None or match[2] not in _UNITS else float(match[1]) * _UNITS[match[2]]


# --- names and ids ----------------------------------------------------------------------------------------------------


def parse_id(value: UUID | str, field: str) -> str:
    """Return the canonical text of a UUID given as an object or as text with hyphens.

    Raises:
        InvalidArgumentError: It is neither.
    """
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str) and _CANONICAL.fullmatch(value):
        return value.lower()
    raise refuse(
        field, value, "is not a UUID. Pass the id that the SDK returned, such as " + repr(str(UUID(int=0))) + "."
    )


def parse_ids(values: UUID | str | Iterable[UUID | str], field: str) -> list[str]:
    """Return canonical UUID texts of one id, or of several.

    Raises:
        InvalidArgumentError: One is no UUID, or it is no list of them.
    """
    if isinstance(values, str | UUID):
        return [parse_id(values, field)]
    if not isinstance(values, Iterable):
        raise refuse(field, values, "is neither an id nor a list of ids.")
    return [parse_id(value, f"{field}[{position}]") for position, value in enumerate(values)]


def check_external_id(value: str, field: str) -> str:
    """Return the external id as it is, or refuse it.

    Accepted: 1 to 255 characters in Unicode normal form NFC, without blanks at the ends and without control, format or
    line separator characters (so that no two ids differ in something invisible). The two joiners are accepted where
    they change what is seen: between letters of scripts without case, such as Persian or Hindi, and inside emoji. Case
    matters.

    Raises:
        InvalidArgumentError: It is not such a text; nothing is trimmed or normalised for the caller.
    """
    if (
        type(value) is str
        and value.isascii()
        and value.isprintable()
        and 0 < len(value) <= MAX_NAME_LENGTH
        and value[0] != " " != value[-1]
    ):
        return value
    return _check_text(value, field, strict=True)


def check_thread(thread: str | None) -> str | None:
    """Return the name of a thread as it is, or refuse it: None, or as an external id.

    Raises:
        InvalidArgumentError: It is neither.
    """
    return None if thread is None else check_external_id(thread, field="thread")


def check_name(value: str, field: str) -> str:
    """Return the display name as it is, or refuse it: 1 to 255 characters, no control characters, not only blanks.

    Raises:
        InvalidArgumentError: It is not such a text.
    """
    return _check_text(value, field, strict=False)


def _check_text(value: object, field: str, *, strict: bool) -> str:
    if not isinstance(value, str):
        raise refuse(field, value, f"is not text. Pass a str of 1 to {MAX_NAME_LENGTH} characters.")
    if not value or value.isspace():
        raise refuse(field, value, f"is blank. Pass 1 to {MAX_NAME_LENGTH} characters.")
    if len(value) > MAX_NAME_LENGTH:
        raise refuse(field, value, f"has {len(value):,} characters. At most {MAX_NAME_LENGTH} are accepted.")
    forbidden = ("Cc", "Cs", "Zl", "Zp", "Cf") if strict else ("Cc", "Cs", "Zl", "Zp")
    for position, character in enumerate(value):
        if unicodedata.category(character) in forbidden and not _joins(value, position):
            what = unicodedata.name(character, "a control character or half of a surrogate pair")
            raise refuse(field, value, f"holds U+{ord(character):04X} ({what}) at position {position}. Remove it.")
    if strict and value != value.strip():
        raise refuse(field, value, f"begins or ends with a blank. Use {value.strip()!r}.")
    if strict and not unicodedata.is_normalized("NFC", value):
        normal = unicodedata.normalize("NFC", value)
        raise refuse(
            field, value, f'is not in Unicode normal form NFC. Use unicodedata.normalize("NFC", …): {normal!r}.'
        )
    return str(value)


def _joins(value: str, position: int) -> bool:
    """Whether it is a joiner that changes how its neighbours look: U+200C and U+200D, which are format characters."""
    around = value[position - 1 : position] + value[position + 1 : position + 2]
    return value[position] in "\u200c\u200d" and len(around) == 2 and _JOINED.issuperset(map(_category, around))


def parse_choice(choices: type[E], value: object, field: str, reason: str = "") -> E:
    """Return the member of the enum that is given as itself or as its value.

    Args:
        reason: What is accepted, for the error; the values as a rule.

    Raises:
        InvalidArgumentError: It is neither.
    """
    # Nothing but text is compared: a stranger's object can run its code in it.
    if isinstance(value, str) and value in choices.__members__.values():
        return choices(value)
    raise refuse(field, value, reason or f"must be one of {', '.join(choices)}.")


def parse_choices(choices: type[E], given: Iterable[E | str] | None, field: str) -> list[E] | None:
    """Return the members of the enum that are given in a list; None is any.

    Raises:
        InvalidArgumentError: It is no list, or one is none of these.
    """
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise refuse(field, given, f"must be a list, such as [{str(next(iter(choices)))!r}].")
    return [parse_choice(choices, one, field) for one in given]


# --- numbers ----------------------------------------------------------------------------------------------------------


@overload
def check_timeout(
    value: float, field: str = "timeout", *, allow_none: Literal[False] = False, most: float = MAX_SECONDS
) -> float: ...
@overload
def check_timeout(
    value: float | None, field: str = "timeout", *, allow_none: Literal[True], most: float = MAX_SECONDS
) -> float | None: ...
def check_timeout(
    value: float | None, field: str = "timeout", *, allow_none: bool = False, most: float = MAX_SECONDS
) -> float | None:
    """Return a duration in seconds as a float: above 0 and at most `most`. None passes only with `allow_none`.

    Raises:
        InvalidArgumentError: It is something else; True and False are not numbers here.
    """
    if value is None and allow_none:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most:
        return float(value)
    alternative = ", or None" if allow_none else ""
    raise refuse(field, value, f"is not a number of seconds above 0 and at most {most:.0f}{alternative}.")


def check_patience(value: float | None) -> None:
    """Refuse a timeout that is neither None nor a number of seconds from 0."""
    if value != 0 or value is False:
        check_timeout(value, allow_none=True)


def check_count(
    value: I, field: str, *, least: int = 1, most: int | None = None, allow_none: bool = False, hint: str = ""
) -> I:
    """Return the whole number as it is: from `least` to `most`; without `most` there is no limit.

    Args:
        allow_none: None is taken too, and returned.
        hint: What to do instead, for the error.

    Raises:
        InvalidArgumentError: It is something else; True and False are no numbers here.
    """
    if value is None and allow_none:
        return value
    number: Any = value
    if type(number) is int and least <= number and (most is None or number <= most):
        return value
    range_ = f"{least}" if most is None else f"{least} to {most:,}"
    alternative = ", or None" if allow_none else ""
    raise refuse(field, value, f"is not a whole number from {range_}{alternative}.{hint}")


def check_page(limit: int, offset: int = 0, *, max_limit: int = 1000) -> tuple[int, int]:
    """Return the page as it is: `limit` from 1 to `max_limit`, `offset` from 0.

    Raises:
        InvalidArgumentError: One of them is outside its range; a limit is not lowered silently, because the caller
            would take a cut page for the last one.
    """
    check_count(limit, "limit", most=max_limit, hint=" Page with offset to get more.")
    return limit, check_count(offset, "offset", least=0, most=MAX_OFFSET)


def check_new_file(path: object, field: str) -> str:
    """Return the absolute path of a file that does not exist yet.

    Raises:
        InvalidArgumentError: It is no path, or there is something there.
    """
    target = check_path(path, field)
    if os.path.lexists(target):
        raise refuse(field, path, f"exists already, at {target!r}. Name a new file.")
    return target


def absolute(path: str) -> str:
    """Return the absolute path.

    Raises:
        ConfigurationError: It is a relative one, and the working directory was removed.
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path!r} is in the working directory of this process, which was removed. Go to a folder that exists, or "
            "give an absolute path."
        ) from None


def check_path(path: object, field: str) -> str:
    """Return the absolute path.

    Raises:
        InvalidArgumentError: It is no path.
        ConfigurationError: As of `absolute`.
    """
    try:
        target = absolute(os.fsdecode(cast(str, path)))
    except TypeError:
        target = ""
    if not target or "\0" in target:
        raise refuse(field, path, "must be the path of a file.")
    return target


def check_instant(value: datetime | None, field: str) -> datetime | None:
    """Return the instant in UTC: the same one in two zones is the same argument.

    Raises:
        InvalidArgumentError: It has no time zone, or is no datetime.
    """
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise refuse(field, value, "must be a datetime with a time zone.")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidArgumentError(
            field=field, value=value, reason="has no time zone. Use datetime.now(UTC), or add tzinfo=."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidArgumentError(
            field=field, value=value, reason="is, in UTC, outside the years 1 to 9999. Use None for no bound."
        ) from None


def check_schedule(deliver_at: datetime | None, expires_in: float | None) -> tuple[datetime | None, float | None]:
    """Return when a message is due, in UTC, and the seconds after which it expires.

    Raises:
        InvalidArgumentError: One is refused, or the message would expire before it is due.
    """
    expires_in = check_timeout(expires_in, field="expires_in", allow_none=True)
    deliver_at = check_instant(deliver_at, "deliver_at")
    if expires_in is None or deliver_at is None:
        return deliver_at, expires_in
    if (deliver_at - utc_now()).total_seconds() >= expires_in:
        raise InvalidArgumentError(
            field="expires_in",
            value=expires_in,
            reason=f"seconds, counted from now, are over before deliver_at ({deliver_at.isoformat()}): nobody could "
            "ever handle the message. Give more of them, or leave one of the two out.",
        )
    return deliver_at, expires_in


def check_flag(value: object, field: str) -> bool:
    """Return the flag as it is.

    Raises:
        InvalidArgumentError: It is something else, though it may be true or false for Python.
    """
    if not isinstance(value, bool):
        raise refuse(field, value, "must be True or False.")
    return value


# --- payloads and pairs -----------------------------------------------------------------------------------------------


class _Missing(Enum):
    """Tells a forgotten payload from None, which is a payload: JSON's null."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING_MESSAGE: Any = _Missing.MISSING


def check_given(message: object) -> None:
    """Refuse a payload that was forgotten."""
    if message is MISSING_MESSAGE:
        raise InvalidArgumentError(
            "message is missing. Pass the payload; None is stored as JSON's null.", field="message"
        )


def check_pair(first: str, second: str, *, fields: tuple[str, str]) -> None:
    """Refuse ids that cannot be, and an agent that would talk to itself."""
    check_external_id(first, field=fields[0])
    check_external_id(second, field=fields[1])
    if first == second:
        raise InvalidArgumentError(
            field=fields[1], value=second, reason="is the same agent. A conversation has two different ones."
        )


def check_recipients(sender: str, recipients: object, *, most: int) -> list[str]:
    """Return the recipients of one call as a list; one may be given by itself.

    Raises:
        InvalidArgumentError: There are none or more than `most`, one is named twice, or it is the sender.
    """
    check_external_id(sender, field="sender_external_id")
    if isinstance(recipients, str):
        recipients = [recipients]
    if not isinstance(recipients, list | tuple):
        raise refuse("recipient_external_ids", recipients, "must be a list of external ids, or one of them.")
    if not 0 < len(recipients) <= most:
        raise InvalidArgumentError(
            field="recipient_external_ids",
            value=len(recipients),
            reason=f"recipients were given; name 1 to {most:,} of them.",
        )
    seen: set[str] = set()
    for position, recipient in enumerate(recipients):
        field = f"recipient_external_ids[{position}]"
        check_external_id(recipient, field=field)
        if recipient == sender:
            raise refuse(field, recipient, "is the sender. Leave it out of the recipients.")
        if recipient in seen:
            raise refuse(field, recipient, "was named before. Name each recipient once.")
        seen.add(recipient)
    return list(recipients)


# --- refusing ---------------------------------------------------------------------------------------------------------


def refuse(field: str, value: object, reason: str) -> InvalidArgumentError:
    """Build the error for a refused argument.

    It keeps a plain value (long text cut) and of anything else only the type's name: an error must survive pickling,
    and printing a stranger's object can run its code.
    """
    kind = type(value)
    if kind is str:
        text = cast(str, value)
        shown: object = text if len(text) <= 70 else f"{text[:60]}…"
    elif (
        value is None or kind in (bool, float, UUID) or (kind is int and -MAX_OFFSET <= cast(int, value) <= MAX_OFFSET)
    ):
        shown = value
    else:
        shown = f"<{kind.__qualname__}>"
    return InvalidArgumentError(field=field, value=shown, reason=reason)
