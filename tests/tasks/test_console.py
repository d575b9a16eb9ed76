"""What a run prints on the way: any name, and log lines without secrets."""

import io
import logging

from prefect.logging.handlers import PrefectConsoleHandler

from ovseg.files.terminal import Terminal, TerminalFormatter
from tasks import progress
from tasks.console import quiet_expected_errors


def test_steps_of_a_run_may_have_any_name(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "console", Terminal(file=stream, width=200))
    monkeypatch.setattr(progress, "_QUIET_SECONDS", -1.0)
    name = "benchmark [/red]\x1b[2J"
    progress.found(name)
    with progress._console_bar(name, 2) as advance:
        advance(1)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and all(r"benchmark [/red]\x1b[2J: " in line for line in lines)


def test_log_lines_on_the_console_steer_nothing_and_hold_no_secret():
    quiet_expected_errors()
    quiet_expected_errors()  # a second command of the process changes nothing more
    formatters = [
        handler.formatter
        for logger in map(logging.getLogger, logging.root.manager.loggerDict)
        for handler in logger.handlers
        if isinstance(handler, PrefectConsoleHandler)
    ]
    assert formatters and all(isinstance(each, TerminalFormatter) for each in formatters)
    assert not isinstance(formatters[0].inner, TerminalFormatter)
    record = logging.LogRecord(
        "ovseg", logging.WARNING, "x.py", 1, "%s", ("http://me:secret@h \x1b[2J",), None
    )
    line = formatters[0].format(record)
    assert "secret" not in line and r"http://h \x1b[2J" in line
