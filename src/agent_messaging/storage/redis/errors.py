"""It turns errors of the client and the server into ours: by class, and by the word with which the server begins."""

from __future__ import annotations

from redis import exceptions as driver

from ...exceptions import (
    AgentMessagingError,
    ConfigurationError,
    DatabaseError,
    StorageBusyError,
    StorageFullError,
    StorageUnavailableError,
)

AGAIN = ("LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN")
"""The server answers so while it cannot serve, and has done nothing."""
AGAIN_CLASSES = (
    driver.BusyLoadingError,
    driver.ClusterDownError,
    driver.MasterDownError,
    driver.TryAgainError,
)
"""The same where the client takes the word for a class of its own."""


REFUSED_INSIDE = ("ACL failure in script", "can't run this command or subcommand")
"""The server says so where the user may call the script, but not what the script calls."""


def is_passing(error: Exception) -> bool:
    """Whether the same call may succeed soon, and has done nothing."""
    return isinstance(error, AGAIN_CLASSES) or _word(error) in AGAIN


def translate(error: Exception, location: str) -> Exception:
    """Our error, with its cause, for an answer of the server that refuses a call; nothing was changed by it."""
    translated = _translate(error, location)
    if translated is not error:
        translated.__cause__ = error
    return translated


def _translate(error: Exception, location: str) -> Exception:
    if isinstance(error, AgentMessagingError):
        return error
    word = _word(error)
    if isinstance(error, driver.OutOfMemoryError) or word == "OOM":
        return StorageFullError(
            f"The memory that {location} may use (`maxmemory`) is used up; nothing was stored. Let messages be settled "
            "and pruned, or raise maxmemory, and try again."
        )
    if (
        isinstance(error, driver.AuthenticationError | driver.NoPermissionError)
        or word in ("NOAUTH", "WRONGPASS")
        or any(said in str(error) for said in REFUSED_INSIDE)
    ):
        return ConfigurationError(
            f"{location} refuses this user ({word or type(error).__name__}). Correct the user and password of the URL; "
            "the user needs the commands of scripts, and all keys and channels of the namespace."
        )
    if isinstance(error, driver.AskError):  # MOVED is one too
        return ConfigurationError(
            f"{location} is a node of a cluster, and the keys of this namespace are at its node "
            f"{error.host}:{error.port}; nothing was stored. Use the URL of that node."
        )
    if isinstance(error, driver.ReadOnlyError) or word == "READONLY":
        return StorageUnavailableError(
            f"{location} is a replica, which cannot be written to; nothing was stored. Use the URL of the primary."
        )
    if word == "MISCONF":
        return StorageUnavailableError(
            f"{location} cannot write to its disk and refuses changes; nothing was stored. Make room there, or correct "
            "what its log says."
        )
    if is_passing(error):
        return StorageBusyError(
            f"{location} stayed busy ({word or type(error).__name__}) for as long as the call may wait; nothing was "
            "stored. Try again."
        )
    if isinstance(error, driver.ConnectionError | driver.TimeoutError | OSError):
        return StorageUnavailableError(
            f"{location} cannot be reached ({_reason(error)}); nothing was stored. Check that it runs, and its URL."
        )
    return DatabaseError(f"{location} refused a call ({_reason(error)}); nothing was stored. Report this.")


def _word(error: Exception) -> str:
    word = str(error).partition(" ")[0]
    return word if word.isupper() else ""


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
