"""The one family of errors a user sees as a single line, without a traceback."""

from ovseg.files.escaping import terminal_line
from ovseg.files.urls import without_secrets


class OvsegError(Exception):
    """Something the user can fix: the message names the file or setting, the reason, what to do.

    The console prints it on one line and exits with code 2. Its text is always one line without
    passwords or terminal control characters, whatever names, URLs and causes went into it.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(terminal_line(without_secrets(str(message))))
