"""The one family of errors a user sees as a single line, without a traceback."""


class OvsegError(Exception):
    """Something the user can mend: the message names the file or setting, the reason, what to do.

    The console prints it on one line and exits with code 2.
    """
