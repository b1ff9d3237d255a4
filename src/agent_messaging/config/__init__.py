"""Every setting, and the only place that reads the environment.

A value comes from the constructor, else from an environment variable, else from a `.env` file in the working
directory, else from the default written here. Environment and file are read when the object is made: later changes do
not reach it, and an object does not change once made. An empty variable counts as unset.

The variables are the field's name in capitals behind a prefix: `POSTGRES_` for `DatabaseConfig`, `MESSAGING_` for
`MessagingConfig`, `AGENT_` for `CoordinationConfig`, none for `Config`; the exceptions stand in each class's
`variables`.

Whatever cannot be used is a `ConfigurationError` that names the setting or the variable, the value (never a password)
and what is accepted. Two kinds of variables stop nobody, because they may be meant for another program: those whose
names many programs use (`DEBUG`, `LOG_LEVEL`, `HANDLER_TIMEOUT`, …) are passed over with a warning, and those of a
store that is not the chosen one are passed over in silence.
"""

from .coordination import CoordinationConfig
from .settings import Config, DatabaseConfig, MessagingConfig
from .urls import StoreLocation, mask, parse_url

__all__ = ["Config", "CoordinationConfig", "DatabaseConfig", "MessagingConfig", "StoreLocation", "mask", "parse_url"]
