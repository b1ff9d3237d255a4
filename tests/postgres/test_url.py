"""The parameters that URLs of hosting providers and of other drivers carry: understood, or refused with words."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from agent_messaging.exceptions import AgentMessagingError, ConfigurationError
from agent_messaging.storage.postgres import url
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.servers import OwnServer

BASE = "postgresql://me:pa%3Fss@db.example:5432/app"


def with_parameters(dsn: str, parameters: str) -> str:
    """The URL of a database with more parameters."""
    return f"{dsn}{'&' if '?' in dsn else '?'}{parameters}"


@pytest.mark.parametrize(
    ("parameters", "query", "settings", "timeout"),
    [
        ("", "", {}, None),
        ("sslmode=require&channel_binding=require", "sslmode=require", {}, None),  # Neon
        ("channel_binding=require", "sslmode=require", {}, None),
        ("channel_binding=prefer", "", {}, None),
        ("ssl=true", "sslmode=require", {}, None),
        ("ssl=false", "sslmode=disable", {}, None),
        ("ssl=verify-full&sslrootcert=CERT", "sslmode=verify-full&sslrootcert=CERT", {}, None),
        ("sslmode=no-verify", "sslmode=require", {}, None),  # Heroku by node-postgres
        ("requiressl=1", "sslmode=require", {}, None),
        ("connect_timeout=15", "", {}, 15.0),
        ("connect_timeout=0", "", {}, None),
        ("application_name=billing", "", {"application_name": "billing"}, None),
        ("fallback_application_name=f", "", {"application_name": "f"}, None),
        ("fallback_application_name=f&application_name=a", "", {"application_name": "a"}, None),
        ("options=-c%20search_path%3Dmine", "", {"options": "-c search_path=mine"}, None),
        ("options=endpoint%3Dcool-tree-1", "", {"options": "endpoint=cool-tree-1"}, None),  # Neon without SNI
        ("search_path=one,two", "", {"search_path": "one,two"}, None),
        ("target_session_attrs=read-write", "target_session_attrs=read-write", {}, None),
        ("target_session_attrs=read_write", "target_session_attrs=read-write", {}, None),
        ("pgbouncer=true&supa=base-pooler.x&sslmode=require", "sslmode=require", {}, None),  # Supabase
        ("keepalives=1&keepalives_idle=30&gssencmode=disable&sslsni=1", "", {}, None),
        ("client_encoding=UTF8&application_name=", "", {}, None),
    ],
)
def test_what_urls_carry_is_sorted(
    parameters: str, query: str, settings: dict[str, str], timeout: float | None, tmp_path: Path
) -> None:
    certificate = tmp_path / "root.crt"
    certificate.touch()
    parameters, query = (text.replace("CERT", str(certificate)) for text in (parameters, query))
    target = url.read(f"{BASE}?{parameters}" if parameters else BASE)
    assert target.dsn == (f"{BASE}?{query}" if query else BASE)
    assert target.settings == settings
    assert target.connect_timeout == timeout


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("sslmode=on", r"sslmode=on.*Accepted are disable, allow, prefer, require, verify-ca, verify-full"),
        ("ssl=maybe", r"ssl=maybe.*sslmode="),
        ("sslmode=verify-full", r"sslrootcert=system"),
        ("sslmode=verify-ca&sslrootcert=/nowhere/root.crt", r"sslrootcert=/nowhere/root.crt.*no such file"),
        ("channel_binding=require&sslmode=disable", r"channel_binding=require.*sslmode=disable"),
        ("channel_binding=yes", r"disable, prefer, require"),
        ("connect_timeout=soon", r"connect_timeout=soon.*seconds"),
        ("connect_timeout=1e9", r"connect_timeout"),
        ("connect_timeout=nan", r"connect_timeout"),
        ("target_session_attrs=read-only", r"read-only.*any, read-write, primary"),
        ("target_session_attrs=standby", r"standby"),
        ("gssencmode=require", r"gssencmode=require.*sslmode"),
        ("client_encoding=LATIN1", r"UTF8"),
        ("schema=mine", r"schema=mine.*search_path="),  # Prisma
        ("currentSchema=mine", r"search_path="),  # JDBC
        ("connection_limit=5", r"max_pool_size"),
        ("replication=database", r"replication"),
        ("sslrootcert=system&sslcert=EMPTY", r"sslcert=.*sslkey"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_words(parameters: str, words: str, tmp_path: Path) -> None:
    empty = tmp_path / "client.crt"
    empty.touch()
    parameters = parameters.replace("EMPTY", str(empty))
    with pytest.raises(ConfigurationError, match=words) as caught:
        url.read(f"{BASE}?{parameters}")
    assert "pa%3Fss" not in str(caught.value)


def test_the_systems_own_certificates_may_decide() -> None:
    target = url.read(f"{BASE}?sslmode=verify-full&sslrootcert=system&channel_binding=require")
    assert target.ssl is not None
    assert target.ssl.check_hostname
    assert target.dsn == BASE
    assert target.warnings == ()


@pytest.mark.parametrize(
    "parameters",
    [
        "connect_timeout=5&keepalives=1",
        "application_name=billing",
        "ssl=false&channel_binding=prefer",
        "pgbouncer=true",
        "options=-c%20geqo%3Doff",
        "target_session_attrs=read-write",
    ],
)
async def test_a_store_opens_with_them(postgres_dsn: str, open_store: StoreMaker, parameters: str) -> None:
    store = await open_store(with_parameters(postgres_dsn, parameters))
    await store.describe()


async def test_the_applications_own_name_is_shown(postgres_dsn: str, open_store: StoreMaker) -> None:
    store = await open_store(with_parameters(postgres_dsn, "application_name=billing"))
    await store.presence.start(lambda: None, lambda: None)
    rows = await execute(
        postgres_dsn,
        "select distinct application_name from pg_stat_activity"
        " where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()",
    )
    assert [row["application_name"] for row in rows] == ["billing"]


@pytest.mark.parametrize("parameters", ["foo=bar", "statement_timeot=3", "options=-c%20nonsense%3D1"])
async def test_what_the_server_does_not_know_is_said_in_words(
    postgres_dsn: str, open_store: StoreMaker, parameters: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"refuses a parameter of the URL.*unrecognized"):
        await open_store(with_parameters(postgres_dsn, parameters))


async def test_encryption_that_the_server_has_not_is_said_in_words(
    own_server: OwnServer, open_store: StoreMaker
) -> None:
    with pytest.raises(Exception, match=r"SSL|encrypt") as caught:
        await open_store(with_parameters(own_server.dsn, "sslmode=require"))
    assert isinstance(caught.value, AgentMessagingError)


async def test_a_binding_that_cannot_be_kept_is_warned_about(
    own_server: OwnServer, open_store: StoreMaker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(Exception, match="SSL"):
        await open_store(with_parameters(own_server.dsn, "channel_binding=require"))
    assert "sslmode=verify-full" in caplog.text


@pytest.mark.parametrize("schema", ["Upper", "with-dash", "select", 'a"quote', "späte Größe", "ü" * 31])
async def test_schemas_that_need_quotes_work(empty_postgres_dsn: str, open_store: StoreMaker, schema: str) -> None:
    quoted = '"' + schema.replace('"', '""') + '"'
    await execute(empty_postgres_dsn, f"create schema {quoted}")
    dsn = with_parameters(empty_postgres_dsn, f"search_path={quote(quoted)}")
    one, two = await open_store(dsn), await open_store(dsn)
    for store in (one, two):
        await store.presence.start(lambda: None, lambda: None)
    await store.processes.list_processes(60)
    (row,) = await execute(
        empty_postgres_dsn, f"select count(*) from pg_tables where schemaname = $${schema}$$ and tablename = 'agents'"
    )
    assert row["count"] == 1


async def test_rings_are_heard_in_a_schema_with_a_long_name(empty_postgres_dsn: str, open_store: StoreMaker) -> None:
    schema = '"' + "Ü" * 31 + '"'
    await execute(empty_postgres_dsn, f"create schema {schema}")
    dsn = with_parameters(empty_postgres_dsn, f"search_path={quote(schema)}")
    one, two = await open_store(dsn), await open_store(dsn)
    heard = asyncio.Event()
    await one.presence.start(lambda: None, lambda: None)
    await two.presence.start(heard.set, lambda: None)
    one.presence.ring([two.presence.process_id])
    async with asyncio.timeout(10):
        await heard.wait()
