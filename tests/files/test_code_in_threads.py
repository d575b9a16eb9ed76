"""The digest of code, asked for by several threads at once."""

import ast
import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ovseg.files.digests import syntax_digest

SOURCE = Path(ast.__file__).read_text(encoding="utf-8")  # long enough for threads to take turns


def test_threads_get_the_same_digest():
    def take_turns(*_: object) -> None:
        time.sleep(0)

    gc.callbacks.append(take_turns)  # a collection in the middle of parsing lets others go on
    try:
        with ThreadPoolExecutor(4) as pool:
            digests = set(pool.map(syntax_digest, [SOURCE] * 16))
    finally:
        gc.callbacks.remove(take_turns)
    assert digests == {syntax_digest(SOURCE)}
