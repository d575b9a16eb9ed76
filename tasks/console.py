"""What Prefect prints of errors a user can mend: nothing, as the command says them in a line."""

from __future__ import annotations

import logging

from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import PrefectConsoleHandler

from ovseg.errors import OvsegError


class _Expected(logging.Filter):
    """Passes everything but tracebacks of `OvsegError`; Prefect's server still gets those."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, OvsegError) and "OvsegError" not in record.getMessage()


def quiet_expected_errors() -> None:
    """Keep tracebacks of errors that the user can mend off the console."""
    setup_logging()  # Prefect sets its handlers up once; after that they can be given a filter
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for logger in loggers:
        for handler in logger.handlers:
            if isinstance(handler, PrefectConsoleHandler):
                handler.addFilter(_Expected())
