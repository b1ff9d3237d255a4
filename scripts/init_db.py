"""Make the configured store's schema, or bring it up to date: `python scripts/init_db.py [--url URL]`.

The same as `agent-messaging db init`. Safe to repeat, and to run from several places at once.
"""

from __future__ import annotations

import sys

from agent_messaging.cli.main import main

if __name__ == "__main__":
    main(["db", "init", *sys.argv[1:]], prog_name="init_db.py")
