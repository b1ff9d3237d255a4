"""Ids, names and numbers: what is accepted comes back unchanged, everything else is an error that says what to do."""

from __future__ import annotations

import math
import pickle
import threading
import unicodedata
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_messaging.arguments import (
    MAX_SECONDS,
    check_external_id,
    check_name,
    check_page,
    check_timeout,
    parse_id,
    refuse,
)
from agent_messaging.exceptions import InvalidArgumentError

# --- ids --------------------------------------------------------------------------------------------------------------

CANONICAL = "01a1fc6b-80af-74ff-953c-32312bb2b8ad"


@pytest.mark.parametrize("value", [CANONICAL, CANONICAL.upper(), uuid.UUID(CANONICAL)])
def test_parse_id_gives_canonical_text(value: str | uuid.UUID) -> None:
    assert parse_id(value, "meeting_id") == CANONICAL


@pytest.mark.parametrize(
    "value",
    [
        "",
        "meeting-1",
        CANONICAL[:-1],
        CANONICAL + "0",
        CANONICAL + "\n",
        " " + CANONICAL,
        CANONICAL.replace("-", ""),
        "{" + CANONICAL + "}",
        "urn:uuid:" + CANONICAL,
        CANONICAL.replace("0", "\uff10"),
        CANONICAL.replace("-", "\u2010"),
        None,
        3,
        b"01a1fc6b-80af-74ff-953c-32312bb2b8ad",
    ],
)
def test_parse_id_refuses_everything_else_and_names_the_field(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^meeting_id: .*is not a UUID") as caught:
        parse_id(value, "meeting_id")  # type: ignore[arg-type]
    assert caught.value.field == "meeting_id"


# --- external ids and names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "alice",
        "Alice",
        "a",
        "x" * 255,
        "team/alice@example.org:1",
        "two words",
        "caf\u00e9",
        "\u7231\u4e3d\u4e1d",
        "\U0001f916",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner
        "\u0915\u094d\u200d\u0937",  # Hindi, with a joiner
        "\U0001f469\U0001f3fd\u200d\U0001f4bb",  # a woman of some colour at a computer
        "\u2764\ufe0f\u200d\U0001f525",  # a heart on fire
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "-- drop table",
        "'",
        "%",
        "0",
    ],
)
def test_external_ids_come_back_unchanged(value: str) -> None:
    assert check_external_id(value, "sender") == value


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("", "blank"),
        ("   ", "blank"),
        ("\t\n", "blank"),
        ("\u00a0\u2003", "blank"),
        (" alice", "Use 'alice'"),
        ("alice ", "Use 'alice'"),
        ("\u2003\u00e9", "Use '\u00e9'"),
        ("x" * 256, "256 characters. At most 255"),
        ("\u00e9" * 256, "256 characters. At most 255"),
        ("a\0b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\x7f", "U+007F"),
        ("a\x85b", "U+0085"),
        ("a\u200bb", "U+200B"),
        ("a\u200db", "ZERO WIDTH JOINER"),
        ("a\u200cb", "ZERO WIDTH NON-JOINER"),
        ("\u0645\u06cc\u200c", "ZERO WIDTH NON-JOINER"),
        ("\u200c\u0645\u06cc", "ZERO WIDTH NON-JOINER"),
        ("\u0645\u200c\u200c\u06cc", "ZERO WIDTH NON-JOINER"),
        ("a\u200c\u0645", "ZERO WIDTH NON-JOINER"),
        ("\u0645\u202e\u06cc", "RIGHT-TO-LEFT OVERRIDE"),
        ("a\u202eb", "RIGHT-TO-LEFT OVERRIDE"),
        ("a\u2066b", "U+2066"),
        ("a\u2028b", "U+2028"),
        ("\ufeffa", "U+FEFF"),
        ("a\ud800", "U+D800"),
        ("cafe\u0301", "'caf\u00e9'"),
        (None, "is not text"),
        (7, "is not text"),
        (b"alice", "is not text"),
        (["alice"], "is not text"),
        (uuid.UUID(CANONICAL), "is not text"),
    ],
)
def test_external_ids_that_are_refused(value: object, remedy: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_external_id(value, "recipient")  # type: ignore[arg-type]
    assert str(caught.value).startswith("recipient: ")
    assert remedy in str(caught.value)
    assert caught.value.field == "recipient"
    str(caught.value).encode()  # can be printed and logged
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@given(st.text())
def test_an_accepted_external_id_is_what_both_stores_can_hold_and_compare(value: str) -> None:
    try:
        accepted = check_external_id(value, "sender")
    except InvalidArgumentError:
        return
    assert accepted == value
    assert 1 <= len(accepted) <= 255
    assert accepted.strip() == accepted
    assert unicodedata.normalize("NFC", accepted) == accepted
    assert "\0" not in accepted
    accepted.encode()


@pytest.mark.parametrize(
    "value", ["Alice", " Alice ", "Alice B. Smith", "x" * 255, "e\u0301", "\U0001f469\u200d\U0001f4bb"]
)
def test_names_come_back_unchanged(value: str) -> None:
    assert check_name(value, "name") == value


@pytest.mark.parametrize("value", ["", "  ", "x" * 256, "a\0", "a\nb", "\ud83d", "a\u2029", None, 3])
def test_names_that_are_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^name: "):
        check_name(value, "name")  # type: ignore[arg-type]


def test_a_subclass_of_str_becomes_plain_text() -> None:
    class Name(str): ...

    assert type(check_external_id(Name("alice"), "sender")) is str


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.001, 1, 30, 30.0, MAX_SECONDS])
def test_timeouts_come_back_as_floats(value: float) -> None:
    checked = check_timeout(value)
    assert (checked, type(checked)) == (value, float)


@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        -1,
        -0.0,
        math.nan,
        math.inf,
        -math.inf,
        True,
        False,
        "30",
        None,
        Decimal(3),
        10**400,
        MAX_SECONDS * 1.01,
        1j,
    ],
)
def test_timeouts_that_are_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^expires_in: .*seconds above 0"):
        check_timeout(value, "expires_in")  # type: ignore[call-overload]


def test_none_is_a_timeout_only_where_it_means_something() -> None:
    assert check_timeout(None, allow_none=True) is None
    with pytest.raises(InvalidArgumentError, match="or None"):
        check_timeout(0, allow_none=True)


@pytest.mark.parametrize(("limit", "offset"), [(1, 0), (1000, 0), (50, 2**63 - 1)])
def test_pages_come_back_unchanged(limit: int, offset: int) -> None:
    assert check_page(limit, offset) == (limit, offset)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, 2.0, "10", None, 10**30])
def test_limits_that_are_refused(limit: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^limit: .* from 1 to 1,000"):
        check_page(limit, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", [-1, 2**63, True, 0.0, "0", None])
def test_offsets_that_are_refused(offset: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^offset: "):
        check_page(10, offset)  # type: ignore[arg-type]


def test_the_highest_limit_is_the_callers() -> None:
    with pytest.raises(InvalidArgumentError, match="500"):
        check_page(501, max_limit=500)


# --- errors -----------------------------------------------------------------------------------------------------------


class Hostile:
    def __repr__(self) -> str:
        raise AssertionError("a stranger's code must not run")

    def __reduce__(self) -> str:
        raise AssertionError("cannot be pickled")


@pytest.mark.parametrize(
    "value", [Hostile(), threading.Lock(), pytest.param(10**5000, id="huge"), "x" * 10_000, object]
)
def test_an_error_for_any_value_can_be_printed_and_pickled_and_stays_short(value: object) -> None:
    error = pickle.loads(pickle.dumps(refuse("sender", value, "is not text.")))
    assert error.field == "sender"
    assert len(str(error)) < 150
