"""The one family of errors a user sees as a single line, without a traceback."""

from ovseg.files.escaping import terminal_line
from ovseg.files.urls import without_secrets


class OvsegError(Exception):
    """Something the user can mend: the message names the file or setting, the reason, what to do.

    The console prints it on one line and exits with code 2. Whatever names, URLs and causes were
    put into it, its text is one line, steers no terminal and holds no password.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(terminal_line(without_secrets(str(message))))
