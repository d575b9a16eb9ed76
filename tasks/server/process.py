"""The process of Prefect's temporary server: `python -m tasks.server.process DESCRIPTOR`.

It listens on a socket that its parent has bound, and exits with its parent: standard input is a
pipe held by the parent, so it closes even if the parent is killed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

_KEPT_SECONDS = 600
"""Longer than a client keeps an idle connection (5 s, as uvicorn's default): of two sides that hang
up at the same time, the client sends a request in vain, and Prefect repeats it after 2 s."""


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def main() -> int:
    """Serve until the parent ends; return uvicorn's 3 if the server cannot start."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {  # no pages, and only the services that a run needs
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }
    import uvicorn

    app = "prefect.server.api.server:create_app"
    config = uvicorn.Config(
        app, factory=True, log_level="error", lifespan="on", timeout_keep_alive=_KEPT_SECONDS
    )
    server = uvicorn.Server(config)
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main())
