"""Finding messages again: what was sent is found at once, from any process, by its words and filters, best first."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_messaging import AgentMessaging, AgentNotFoundError, InvalidArgumentError, NotInitializedError, PayloadError
from agent_messaging.delivery import indexing
from agent_messaging.delivery.indexing import take_in
from agent_messaging.delivery.probes import arm, disarm
from agent_messaging.ids import uuid7
from agent_messaging.models import Kind
from agent_messaging.payloads import checksum
from agent_messaging.search.ranking import Judge, Snippet
from agent_messaging.storage.ports import NewDelivery, NewGroup
from tests.client.support import MakeSdk, Sdk
from tests.support import eventually


async def note(sdk: Sdk, message: Any, metadata: dict[str, Any] | None = None, *, to: str = "bob") -> str:
    (id,) = await sdk.one_way.send("alice", to, message, metadata, require_handler=False)
    return id


async def found(sdk: Sdk, query: str, **filters: Any) -> list[Any]:
    return [match.content for match in await sdk.search_messages(query, **filters)]


async def take_all_in(sdk: Sdk) -> None:
    while await take_in(sdk.store.search, sdk.store.presence.process_id):
        pass


# --- the examples of the reference ------------------------------------------------------------------------------------


async def test_example_12_finds_what_a_sender_wrote_with_its_rank(sdk: Sdk) -> None:
    await note(sdk, "The database migration is done.")
    await note(sdk, {"text": "Migration of the database: a database each"})
    await note(sdk, "The database")
    await sdk.one_way.send("bob", "alice", "Whose database migration?", require_handler=False)
    results = await sdk.search_messages("database migration", sender_id="alice", limit=20)
    assert {str(msg["content"]) for msg in results} == {
        "The database migration is done.",
        "{'text': 'Migration of the database: a database each'}",
    }
    for msg in results:
        assert (msg["sender"], msg["recipient"]) == ("alice", "bob")
        assert msg["ts_rank"] == msg["rank"] > 0
        assert isinstance(msg["id"], str)
        assert datetime.now(UTC) - msg["timestamp"] < timedelta(minutes=5)
    assert [msg["ts_rank"] for msg in results] == sorted((msg["ts_rank"] for msg in results), reverse=True)


async def test_example_39_filters_by_metadata(sdk: Sdk) -> None:
    request_id = "0198"
    message_ids = [await note(sdk, "query_text", {"request_id": request_id, "priority": "high"})]
    await note(sdk, "query_text", {"priority": "low"})
    await note(sdk, "query_text")
    results = await sdk.search_messages("query_text", metadata_filter={"priority": "high"})
    assert [msg["id"] for msg in results] == message_ids
    assert results[0]["metadata"] == {"request_id": request_id, "priority": "high"}


async def test_messages_by_metadata_alone_are_listed_whatever_their_words(sdk: Sdk) -> None:
    ids = [await note(sdk, {"n": number}, {"ticket": number % 2, "tags": ["a"]}) for number in range(6)]
    await note(sdk, "without")
    asked = await sdk.conversation.send_no_wait("bob", "alice", None, metadata={"ticket": 1})
    assert [one.id for one in await sdk.get_messages_by_metadata({"ticket": 1})] == [str(asked), *ids[5::-2]]
    assert [one.id for one in await sdk.get_messages_by_metadata({"ticket": 1}, kinds=["one_way"])] == ids[5::-2]
    assert [one.id for one in await sdk.get_messages_by_metadata({"ticket": 1}, sender_id="bob")] == [str(asked)]
    page = await sdk.get_messages_by_metadata({"tags__contains": "a", "ticket__in": [0]}, "bob", limit=1, offset=1)
    assert [(one.id, one.content, one.rank) for one in page] == [(ids[2], {"n": 2}, 0.0)]
    assert len(await sdk.get_messages_by_metadata({})) == 8
    assert len(await sdk.get_messages_by_metadata({"ticket__exists": False})) == 1
    for filter in (None, ["ticket"], {"ticket__in": 1}):
        with pytest.raises(ValueError, match="metadata_filter"):
            await sdk.get_messages_by_metadata(filter)  # type: ignore[arg-type]


# --- what is found ----------------------------------------------------------------------------------------------------


async def test_all_patterns_are_found_with_where_they_were_said(sdk: Sdk) -> None:
    @sdk.register_handler("bob")
    async def on_question(message: Any, context: Any) -> str:
        return "Tea at five"

    await sdk.conversation.send_and_wait("alice", "bob", {"question": "Tea at four?"}, timeout=10, thread="kitchen")
    await note(sdk, ["note", {"about": "tea"}])
    meeting = await sdk.meeting.create_meeting("alice", ["bob"])
    await sdk.meeting.attend_meeting("bob", meeting)
    await sdk.meeting.start_meeting("alice", meeting, "Tea for all")
    matches = await sdk.search_messages("tea")
    assert {match.kind: match.content for match in matches if match.sender == "alice"} == {
        "conversation": {"question": "Tea at four?"},
        "one_way": ["note", {"about": "tea"}],
        "meeting": "Tea for all",
    }
    (said,) = await sdk.search_messages("tea", meeting_id=meeting)
    assert (said.meeting_id, said.recipient, said.thread) == (str(meeting), None, None)
    asked = await sdk.search_messages("tea", kinds=["conversation"], thread="kitchen")
    assert {one.sender for one in asked} == {"alice", "bob"}
    assert len({one.session_id for one in asked}) == 1
    assert await sdk.search_messages("tea", session_id=asked[0].session_id) == asked
    assert await found(sdk, "from:alice to:bob -four") == [["note", {"about": "tea"}]]
    assert await found(sdk, "tea -from:alice") == ["Tea at five"]
    assert await found(sdk, "tea from:nobody") == []
    assert await found(sdk, "tea", sender_id="alice", kinds=["one_way"], recipient_id="carol") == []


@pytest.mark.parametrize("name", ["nobody", "a\0b", "a\ud800b", '"a \u200b"', "x" * 900, "josé", "jose\u0301"])
async def test_a_query_may_name_agents_whom_nobody_can_be(sdk: Sdk, name: str) -> None:
    await sdk.register_agent("josé", "acme")
    await note(sdk, "tea")
    await note(sdk, "tea for José", to="josé")
    is_there = "jos" in name
    assert await found(sdk, f"tea to:{name}") == (["tea for José"] if is_there else [])
    assert await found(sdk, f"tea from:{name}") == []
    assert await found(sdk, f"tea -to:{name}") == (["tea"] if is_there else ["tea", "tea for José"])


async def test_another_process_finds_it_as_soon_as_it_is_sent(sdk: Sdk, make_sdk: MakeSdk) -> None:
    other = await make_sdk()
    for number in range(5):
        await note(sdk, f"tea number{number}")
        assert await found(other, f"number{number}") == [f"tea number{number}"]
        if number == 2:
            await take_all_in(other)


async def test_pages_go_on_where_the_last_one_ended(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_messaging.messaging.searching.RANKED", 4)
    monkeypatch.setattr("agent_messaging.messaging.searching._PAGE", 3)
    for number in range(10):
        await note(sdk, f"tea {number}" + " tea" * (number % 3))
    whole = await found(sdk, "tea")
    assert len(whole) == 10
    # Of each four the best come first, and the newest of equal ones.
    assert whole[:4] == ["tea 8 tea tea", "tea 7 tea", "tea 9", "tea 6"]
    assert [one for offset in range(0, 12, 3) for one in await found(sdk, "tea", limit=3, offset=offset)] == whole
    assert await found(sdk, "tea", offset=10) == []


async def test_a_snippet_marks_the_hits_in_a_long_text(sdk: Sdk) -> None:
    await note(sdk, {"subject": "none", "body": "x " * 300 + "the Crème brûlée recipe" + " y" * 300})
    (match,) = await sdk.search_messages("creme brulee")
    assert "the **Crème** **brûlée** recipe" in match.snippet
    assert [match.excerpt[start:end] for start, end in match.snippet_hits] == ["Crème", "brûlée"]


async def test_snippets_are_cut_beside_the_loop(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 500 long texts they take half a minute, in which the loop would do nothing else."""
    threads, cut = set[int](), Judge.cut

    def watched(self: Judge, texts: Iterable[str]) -> Snippet:
        threads.add(threading.get_ident())
        return cut(self, texts)

    monkeypatch.setattr(Judge, "cut", watched)
    await fill(sdk, [f"tea {number}" for number in range(60)])
    matches = await sdk.search_messages("tea", limit=60)
    assert {match.content for match in matches} == {f"tea {number}" for number in range(60)}
    assert threads
    assert threading.get_ident() not in threads


async def test_dates_and_metadata_narrow_the_search(sdk: Sdk) -> None:
    await note(sdk, "tea one", {"tags": ["a", "b"], "order": {"id": 7}, "urgent": True})
    await note(sdk, "tea two", {"tags": ["b"], "urgent": 1})
    two, one = await sdk.search_messages("tea")
    assert one.timestamp < two.timestamp
    assert await found(sdk, "tea", date_from=two.timestamp) == ["tea two"]
    assert await found(sdk, "tea", date_to=one.timestamp) == ["tea one"]
    assert await found(sdk, "tea", date_from=one.timestamp, date_to=two.timestamp) == ["tea two", "tea one"]
    for filter, number in (
        ({"tags__contains": "a"}, 1),
        ({"tags__contains": "b"}, 2),
        ({"order.id": 7.0}, 1),
        ({"urgent": True}, 1),
        ({"order__exists": False}, 1),
        ({"urgent__in": [True, 1]}, 2),
        ({"urgent": "true"}, 0),
        ({"x' or '1'='1": 1}, 0),
    ):
        assert len(await found(sdk, "tea", metadata_filter=filter)) == number, filter


async def test_a_damaged_message_is_left_out_and_stops_nothing(sdk: Sdk) -> None:
    await note(sdk, "tea one")
    names = {name: str((await sdk.get_agent(name)).id) for name in ("alice", "bob")}
    damaged = NewGroup(
        kind=Kind.ONE_WAY,
        sender_id=names["alice"],
        content='"tea damaged"',
        metadata=None,
        checksum=checksum('"tea"', None),
        deliveries=[NewDelivery(uuid7(), names["bob"], False)],
        max_attempts=1,
        run_limit=1.0,
    )
    await sdk.store.deliveries.append([damaged], owner=sdk.store.presence.process_id)
    await note(sdk, "tea two")
    for _ in range(2):
        assert await found(sdk, "tea") == ["tea two", "tea one"]
        await take_all_in(sdk)
    assert (await sdk.store.search.progress()).behind == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"search_query": ""}, "search_query"),
        ({"search_query": "tea", "limit": 501}, "limit"),
        ({"search_query": "tea", "offset": -1}, "offset"),
        ({"search_query": "tea", "kinds": ["invitation"]}, "one_way"),
        ({"search_query": "tea", "kinds": "one_way"}, "kinds.*must be a list"),
        ({"search_query": "tea", "session_id": "x"}, "session_id"),
        ({"search_query": "tea", "date_from": datetime(2026, 1, 1)}, "time zone"),
        ({"search_query": "tea", "metadata_filter": ["a"]}, "metadata_filter"),
    ],
)
async def test_what_is_out_of_range_is_a_value_error(sdk: Sdk, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        await sdk.search_messages(**arguments)
    assert isinstance(refused.value, InvalidArgumentError)


async def test_unknown_agents_and_a_closed_sdk_are_told(sdk: Sdk, url: str) -> None:
    with pytest.raises(AgentNotFoundError, match=r"'alise'.*alice"):
        await sdk.search_messages("tea", sender_id="alise")
    with pytest.raises(NotInitializedError) as refused:
        await AgentMessaging(url).search_messages("tea")
    assert isinstance(refused.value, RuntimeError)


# --- the index beside the traffic -------------------------------------------------------------------------------------


async def test_each_search_beside_many_senders_and_the_index_finds_what_was_sent_before(sdk: Sdk) -> None:
    left = 64

    async def send(number: int) -> None:
        nonlocal left
        for part in range(2):
            await note(sdk, f"tea {number} part{number}x{part}")
            assert len(await found(sdk, f"part{number}x{part}")) == 1
        left -= 1

    async def index() -> None:
        while left:
            await take_in(sdk.store.search, sdk.store.presence.process_id, limit=8)

    await asyncio.gather(index(), *(send(number) for number in range(left)))
    await take_all_in(sdk)
    assert (await sdk.store.search.progress()).behind == 0
    assert len(await found(sdk, "tea", limit=200)) == 128


async def test_the_beginning_of_a_huge_text_is_searched(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_payload_bytes=2**23)
    await sdk.add_people("alice", "bob")
    await note(sdk, {"first": "oolong " + "tea " * 1_000_000, "then": "sencha"})
    await note(sdk, "tea " * 20)
    for _ in range(2):
        assert len(await found(sdk, "oolong tea")) == 1
        assert len(await found(sdk, "tea")) == 2
        assert await found(sdk, "sencha") == []  # it stands behind the first 100,000 characters
        (match,) = await sdk.search_messages("oolong")
        assert match.snippet.startswith("**oolong** tea")
        await take_all_in(sdk)


async def test_a_batch_that_broke_off_is_taken_in_again(sdk: Sdk) -> None:
    def crash() -> None:
        raise RuntimeError("killed here")

    await note(sdk, "tea")
    try:
        arm("before_index", crash)
        with pytest.raises(RuntimeError, match="killed here"):
            await take_in(sdk.store.search, sdk.store.presence.process_id)
    finally:
        disarm()
    assert (await sdk.store.search.progress()).behind >= 1
    await take_all_in(sdk)
    assert (await sdk.store.search.progress()).behind == 0
    assert await found(sdk, "tea") == ["tea"]


async def test_an_idle_process_moves_the_index_on_by_itself(make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "PAUSE", 0.02)
    monkeypatch.setattr(indexing, "ENOUGH", 3)
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    await note(sdk, "tea 0")
    await note(sdk, "tea 1")
    assert (await sdk.store.search.progress()).indexed_to == 0
    await note(sdk, "tea 2")
    await eventually(sdk.store.search.progress, until=lambda progress: progress.behind == 0)
    assert await found(sdk, "tea") == ["tea 2", "tea 1", "tea 0"]


# --- the corpus -------------------------------------------------------------------------------------------------------

SCRIPTS = {
    "latin": ["tea", "Ärger", "naïve", "teapot", "Straße", "database", "CamelCase", "snake_case", "v2"],
    "cyrillic": ["чай", "Ёлка", "база", "данных", "Привет"],
    "greek": ["τσάι", "Βάση", "δεδομένων", "Σίσυφος"],
    "arabic": ["شاي", "مُحَمَّد", "قاعدة", "بيانات"],
    "hangul": ["한국어", "검색", "데이터"],
    "han": ["機械学習", "東京", "お茶", "データ"],
}
QUERIES = ["TEA*", "arger", "strasse", "camelcase", "camel", "snake_case", "-tea", "ЕЛКА", '"база данных"']
QUERIES += ["ΤΣΑΙ", "σισυφος", "محمد", "국어", "검색 데이터", "学習", "東京 お茶", "京 OR tea", "tea database -teapot"]
QUERIES += ['"tea database" OR Привет', "absent", "v2 2"]


def make_corpus(number: int) -> list[list[str]]:
    choose = random.Random(20260101)
    corpus = []
    for _ in range(number):
        words = SCRIPTS[choose.choice([*SCRIPTS])]
        corpus.append([choose.choice(words) for _ in range(choose.randint(1, 6))])
    return corpus


def write(words: list[str]) -> str:
    """The words as a text of their script; Han is written without blanks, and a comma ends a word now and then."""
    if words[0] in SCRIPTS["han"]:
        return "、".join(words[:2]) + "".join(words[2:])
    return ", ".join(words[:2]) + " " + " ".join(words[2:])


FOLDED = {"Ärger": "arger", "naïve": "naive", "Straße": "strasse", "Ёлка": "елка", "τσάι": "τσαι", "Βάση": "βαση"}
FOLDED |= {"δεδομένων": "δεδομενων", "Σίσυφος": "σισυφος", "مُحَمَّد": "محمد", "snake_case": "snake case"}
WHOLE = {"CamelCase", "v2"}
"""Their parts stand at the place of the whole, so a phrase does not see them."""
FOLDED |= {"CamelCase": "camelcase camel case", "v2": "v2 v 2"}


def model(query: str, words: list[str]) -> bool:
    """Whether a text matches, by another way: in folded words between blanks, and in Han and Hangul as they are."""
    text = f" {' '.join(FOLDED.get(word, word.lower()) for word in words)} "
    row = " ".join(["", *(word.lower() if word in WHOLE else FOLDED.get(word, word.lower()) for word in words), ""])
    shown = write(words)

    def has(piece: str) -> bool:
        if piece.startswith("-"):
            return not has(piece[1:])
        piece = piece.lower()
        if any(character > "\u3000" for character in piece):
            return piece in shown
        if piece.endswith("*"):
            return f" {piece[:-1]}" in text
        if "_" in piece:
            return f" {piece.replace('_', ' ')} " in row
        return f" {piece} " in text

    groups = [group.split() for group in query.replace('"база данных"', "база_данных").split(" OR ")]
    groups = [[piece.replace('"tea', "tea_database") for piece in group if piece != 'database"'] for group in groups]
    return any(all(has(piece) for piece in group) for group in groups)


async def fill(sdk: Sdk, texts: list[str]) -> None:
    for start in range(0, len(texts), 500):
        await asyncio.gather(*(note(sdk, text) for text in texts[start : start + 500]))


async def test_a_corpus_of_six_scripts_is_found_as_a_model_says(sdk: Sdk) -> None:
    corpus = make_corpus(2_000)
    await fill(sdk, [f"{number}# {write(words)}" for number, words in enumerate(corpus)])
    for _ in range(7):  # the rest stays behind the index
        assert await take_in(sdk.store.search, sdk.store.presence.process_id)
    assert 0 < (await sdk.store.search.progress()).behind < 500
    for query in QUERIES:
        expected = {number for number, words in enumerate(corpus) if model(query, words)}
        if query in ("v2 2", "-tea"):  # the number of a text is a word too
            expected |= {2} if query == "v2 2" and "v2" in corpus[2] else set()
        got: list[int] = []
        while page := await found(sdk, query, limit=500, offset=len(got)):
            got += [int(text.partition("#")[0]) for text in page]
        assert len(got) == len(set(got)), query
        assert set(got) == expected, query
        assert query == "absent" or len(expected) > 5, query


async def test_the_first_five_are_in_the_order_that_the_texts_decide(sdk: Sdk) -> None:
    await fill(sdk, ["a tea", "tea and many other words that say nothing", "tea tea tea", "tea or tea", "other"])
    await note(sdk, "no tea")
    order = ["tea tea tea", "tea or tea", "no tea", "a tea", "tea and many other words that say nothing"]
    assert await found(sdk, "tea") == order
    await take_all_in(sdk)
    assert await found(sdk, "tea") == order


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_no_query_and_no_filter_is_an_error_of_the_store(sdk: Sdk, data: st.DataObject) -> None:
    if not (await sdk.store.search.progress()).indexed_to:
        await fill(sdk, ["tea \\u0000 ' \" NEAR/2 AND", "\U0001d54b 👩‍💻 مرحبا", "e\u0301 " * 50])
        await take_in(sdk.store.search, sdk.store.presence.process_id)
        await note(sdk, "tea behind")
    text = data.draw(st.sampled_from(["", "from:", "-to:", "to:"])) + data.draw(
        st.text(max_size=40) | st.text("ab\"'*-()&|!:<>^{}\\ OR~NEAR0", max_size=40)
    )
    keys = st.text(max_size=8) | st.sampled_from(["a__in__contains", "a.b", "'; --", "$[0]"])
    filter = data.draw(st.dictionaries(keys, st.none() | st.booleans() | st.text(max_size=5), max_size=3))
    with suppress(InvalidArgumentError, PayloadError):  # it names nothing, or an operator has no such value
        await sdk.search_messages(text, metadata_filter=filter)


async def test_a_process_that_is_killed_while_it_indexes_loses_nothing(sdk: Sdk, url: str) -> None:
    program = """
import asyncio, os, signal, sys
from agent_messaging import AgentMessaging
from agent_messaging.delivery.indexing import take_in
from agent_messaging.delivery.probes import arm

async def main() -> None:
    async with AgentMessaging(sys.argv[1]) as sdk:
        while await take_in(sdk.store.search, sdk.store.presence.process_id):
            pass
        await sdk.store.search.restart()  # as `db reindex` does
        await take_in(sdk.store.search, sdk.store.presence.process_id, limit=3)
        arm("before_index", lambda: os.kill(os.getpid(), signal.SIGKILL))
        await take_in(sdk.store.search, sdk.store.presence.process_id, limit=3)

asyncio.run(main())
"""
    await fill(sdk, [f"tea {number}" for number in range(10)])
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, url)
    assert await asyncio.wait_for(process.wait(), 30) == -9
    progress = await sdk.store.search.progress()
    assert 0 < progress.indexed_to < progress.newest
    assert len(await found(sdk, "tea")) == 10
    # Its lease holds for a moment; then anybody goes on.
    process_id = sdk.store.presence.process_id
    assert await take_in(sdk.store.search, process_id) == 0
    later = datetime.now(UTC) + timedelta(seconds=indexing.LEASE + 1)
    assert await sdk.store.search.lead(process_id, indexing.LEASE, now=later) == progress.indexed_to
    assert len(await found(sdk, "tea")) == 10
