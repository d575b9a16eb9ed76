"""The digest of code, asked for by several threads at once."""

import ast
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ovseg.files.digests import syntax_digest

SOURCE = Path(ast.__file__).read_text(encoding="utf-8")  # long enough for threads to take turns


def test_threads_get_the_same_digest():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            digests = set(pool.map(syntax_digest, [SOURCE] * 16))
    finally:
        sys.setswitchinterval(before)
    assert digests == {syntax_digest(SOURCE)}
