"""Prefect flows: one a file, a straight line each."""

import signal
import sys

# A Ctrl-C among a command's first imports ends it as it ends any program, not with a traceback of
# Python's; from then on `ovseg.stages.interrupts` sees to it. `-m` is what argv[0] is while Python
# looks for the module of `python -m flows.<name>`.
_program = sys.argv[0].replace("\\", "/").rpartition("/")[2]
if _program in ("ovseg", "-m") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
