"""PostgreSQL URLs: which of their parameters are the driver's, ours, the server's, or nobody's here.

Hosting providers and other drivers put parameters into URLs that asyncpg does not know. It would hand them to the
server as settings, which refuses them with a code. Here each is understood, or refused with words. A name that stands
in no table is a setting of the server, such as `search_path`; the server itself refuses those that it does not know.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from urllib.parse import parse_qsl, quote

from ...exceptions import ConfigurationError
from ...records import dataclass

_DRIVERS = frozenset(
    {
        *("host", "port", "dbname", "database", "user", "password", "passfile", "service", "krbsrvname", "gsslib"),
        *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"),
    }
)
"""Parameters that asyncpg takes out of the URL by itself."""
_WITHOUT_EFFECT = frozenset(
    {
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        *("sslcompression", "sslsni", "load_balance_hosts", "min_protocol_version", "max_protocol_version"),
        *("pgbouncer", "supa", "uselibpqcompat", "prepareThreshold", "prepared_statements"),
        *("statement_cache_size", "prepared_statement_cache_size"),
    }
)
"""Parameters of libpq and other drivers that ask for something that is so anyway, or that is found out at open."""
_REMEDIES = {
    "schema": "Name the schema as search_path=",
    "currentSchema": "Name the schema as search_path=",
    "hostaddr": "Write the address as the host",
    "connection_limit": "Set DatabaseConfig(max_pool_size=…) instead",
    "pool_size": "Set DatabaseConfig(max_pool_size=…) instead",
    "pool_timeout": "Set DatabaseConfig(call_timeout=…) instead",
    "replication": "Leave it out",
    "require_auth": "Leave it out, and let the server's pg_hba.conf demand the method",
    "sslaccept": "Write sslmode=verify-full (strict) or sslmode=require (accept_invalid_certs) instead",
}
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TRUE, _FALSE = frozenset({"true", "1", "on", "yes", "t"}), frozenset({"false", "0", "off", "no", "f"})
_WRITABLE = ("any", "read-write", "primary")
_LARGEST_TIMEOUT = 3600.0


@dataclass(frozen=True, slots=True)
class Target:
    """The server, and how to connect to it."""

    dsn: str = field(repr=False)
    """The URL with only those parameters that the driver understands."""
    ssl: ssl.SSLContext | None
    """None leaves it to the URL's `sslmode`."""
    settings: Mapping[str, str]
    """Settings of the server that the URL names, the application's name included."""
    connect_timeout: float | None
    """Seconds; None where the URL names none."""
    warnings: tuple[str, ...]


def read(url: str) -> Target:
    """Sort the parameters of a URL.

    Raises:
        ConfigurationError: One of them cannot be kept; names it and what to write instead.
    """
    place, _, query = url.partition("?")
    given = {name: value for name, value in parse_qsl(query, keep_blank_values=True) if value}
    for name, remedy in _REMEDIES.items():
        if name in given:
            raise _refusal(name, given[name], remedy)
    timeout = _read_timeout(given.pop("connect_timeout", None))
    fallback = given.pop("fallback_application_name", None)
    if fallback is not None:
        given.setdefault("application_name", fallback)
    encoding = given.pop("client_encoding", "utf8")
    if encoding.lower().replace("-", "") not in ("utf8", "unicode", "auto"):
        raise _refusal("client_encoding", encoding, "The SDK speaks UTF8; leave the parameter out")
    if given.pop("gssencmode", "prefer") == "require":
        raise _refusal("gssencmode", "require", "The driver cannot encrypt by GSSAPI; use sslmode=verify-full")
    sessions = given.get("target_session_attrs", "any").replace("_", "-")
    if sessions not in _WRITABLE:
        raise _refusal("target_session_attrs", sessions, f"A store is written to; accepted are {', '.join(_WRITABLE)}")
    if "target_session_attrs" in given:
        given["target_session_attrs"] = sessions
    binding = _read_ssl_mode(given)
    context = _read_certificates(given)
    drivers = {name: given[name] for name in given.keys() & _DRIVERS}
    settings = {name: value for name, value in given.items() if name not in _DRIVERS | _WITHOUT_EFFECT}
    ours = "&".join(f"{name}={quote(value, safe='/')}" for name, value in sorted(drivers.items()))
    return Target(f"{place}?{ours}" if ours else place, context, settings, timeout, binding)


def _read_timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not -_LARGEST_TIMEOUT <= seconds <= _LARGEST_TIMEOUT:
        raise _refusal("connect_timeout", text, f"Write seconds, at most {_LARGEST_TIMEOUT:g}")
    return seconds if seconds > 0 else None  # without a limit, says libpq: then the configured one holds


def _read_ssl_mode(given: dict[str, str]) -> tuple[str, ...]:
    """Put everything that asks for encryption into `sslmode`; returns warnings."""
    for name in ("ssl", "requiressl"):
        text = given.pop(name, None)
        if text is None:
            continue
        mode = "require" if text.lower() in _TRUE else "disable" if text.lower() in _FALSE else text
        if name == "requiressl" and mode == "disable":
            mode = "prefer"
        if mode not in _SSL_MODES:
            raise _refusal(name, text, f"Write sslmode= with one of {', '.join(_SSL_MODES)}")
        given.setdefault("sslmode", mode)
    if "sslmode" in given:
        given["sslmode"] = given["sslmode"].replace("_", "-").replace("no-verify", "require")
        if given["sslmode"] not in _SSL_MODES:
            raise _refusal("sslmode", given["sslmode"], f"Accepted are {', '.join(_SSL_MODES)}")
    binding = given.pop("channel_binding", "prefer")
    if binding not in ("disable", "prefer", "require"):
        raise _refusal("channel_binding", binding, "Accepted are disable, prefer, require")
    if binding != "require":
        return ()
    if given.get("sslmode") == "disable":
        raise _refusal("channel_binding", "require", "It needs encryption, which sslmode=disable turns off")
    if given.get("sslmode", "prefer") in ("allow", "prefer"):
        given["sslmode"] = "require"
    if given["sslmode"] == "verify-full":
        return ()  # the server's name is proved by its certificate, which is what the binding is for
    return (
        "channel_binding=require cannot be kept, because the driver does not bind channels; the connection is "
        "encrypted. Write sslmode=verify-full&sslrootcert=system to have the server's identity proved.",
    )


def _read_certificates(given: dict[str, str]) -> ssl.SSLContext | None:
    """Check that the files are there: the driver would report a missing one as an unreachable server."""
    for name in ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile"):
        path = given.get(name)
        if path and not (name == "sslrootcert" and path == "system") and not os.path.exists(path):
            raise _refusal(name, path, "There is no such file; correct the path")
    mode = given.get("sslmode", "")
    if given.get("sslrootcert") == "system":
        if mode not in ("", "verify-full"):
            raise _refusal("sslrootcert", "system", "It goes with sslmode=verify-full alone")
        del given["sslrootcert"]
        given.pop("sslmode", None)
        context = ssl.create_default_context()
        if "sslcert" in given:
            try:
                context.load_cert_chain(given["sslcert"], given.get("sslkey"), given.get("sslpassword"))
            except (OSError, ValueError) as error:  # the former also of what is no certificate
                remedy = "It cannot be loaded with its key; correct sslcert, sslkey and sslpassword"
                raise _refusal("sslcert", given["sslcert"], remedy) from error
        return context
    if (
        mode.startswith("verify-")
        and "sslrootcert" not in given
        and not (Path.home() / ".postgresql/root.crt").exists()
    ):
        raise _refusal(
            "sslmode",
            mode,
            "Say by which certificates: sslrootcert=system for those that this system trusts, or sslrootcert=/a/file",
        )
    return None


def _refusal(name: str, value: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"The database URL says {name}={value}, which cannot be kept. {remedy}.")
