"""Prefect flows: one per file, each a straight line."""

import signal
import sys

# A Ctrl-C during a command's first imports ends it without a Python traceback; after that
# `ovseg.stages.interrupts` handles it. argv[0] is `-m` while Python looks for the module of
# `python -m flows.<name>`.
_program = sys.argv[0].replace("\\", "/").rpartition("/")[2]
if _program in ("ovseg", "-m") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
