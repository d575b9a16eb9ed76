"""The process of Prefect's temporary server: `python -m tasks.server.process DESCRIPTOR`.

It listens on a socket that its parent has bound, and exits with its parent: standard input is a
pipe held by the parent, so it closes even if the parent is killed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Any


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def _lock_before_reading() -> None:
    """Have transactions that write take SQLite's lock when they begin.

    One that has read before another wrote can no longer write: Prefect answers 503, and the client
    repeats its request 2 s later. One that waits for the lock is done in milliseconds.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def locked(self: Any, session: Any, with_for_update: bool = False) -> Any:
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = locked  # type: ignore[method-assign]


def main() -> int:
    """Serve until the parent ends; return uvicorn's 3 if the server cannot start."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {  # no pages, and only the services that a run needs
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }
    import uvicorn

    _lock_before_reading()
    app = "prefect.server.api.server:create_app"
    server = uvicorn.Server(uvicorn.Config(app, factory=True, log_level="error", lifespan="on"))
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main())
