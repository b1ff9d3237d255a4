"""The entry point: Ctrl-C before and behind the command ends the process by the signal itself, without a traceback.

While the command runs it is a `KeyboardInterrupt`, after which the command cleans up (`App.main`). While modules are
loaded, and while the interpreter ends, that would print a traceback.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Load the command, and run it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .main import main as run

    run()


if __name__ == "__main__":
    main()
