"""Console output of commands: metrics as lines; user errors as one line without a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable

from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import PrefectConsoleHandler

from ovseg.errors import OvsegError
from ovseg.files.escaping import say
from ovseg.files.terminal import TerminalFormatter
from ovseg.stages import interrupts
from tasks.server.own import connected


class _Expected(logging.Filter):
    """Drops tracebacks of `OvsegError`; Prefect's server still gets those."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, OvsegError) and "OvsegError" not in record.getMessage()


def quiet_expected_errors() -> None:
    """Keep tracebacks of user errors off the console, and secrets out of its log."""
    setup_logging()  # Prefect sets up its handlers once; filters can be added afterwards
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for logger in loggers:
        for handler in logger.handlers:
            if isinstance(handler, PrefectConsoleHandler):
                handler.addFilter(_Expected())
                if not isinstance(handler.formatter, TerminalFormatter):
                    handler.setFormatter(TerminalFormatter(handler.formatter))
    if logging.lastResort is not None:  # prints records that have no handler
        logging.lastResort.setFormatter(TerminalFormatter(None))


def print_metrics(flow: Callable[[], dict[str, float]]) -> int:
    """Run a flow and print its metrics.

    Returns:
        The exit code: 0, or 2 for an error that the user can fix.
    """

    def run() -> dict[str, float]:
        with connected(quiet_expected_errors):
            return flow()

    try:
        metrics = interrupts.run(run)
    except OvsegError as error:
        say(f"ovseg: {error}", error=True)
        return 2
    for name, value in metrics.items():
        say(f"{name}: {value:.4f}")
    return 0
