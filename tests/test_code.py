"""The code digest: another constant is other code, another comment is not."""

import sys

import pytest

from ovseg.code import _module_digest, code_digest, syntax_digest

BASE = '''
"""A module."""

RATE = 0.5


class Scale:
    """A class."""

    def by(self, x, *, twice=False):
        """A method."""
        return x * RATE
'''


@pytest.mark.parametrize(
    "edited",
    [
        BASE.replace("A module.", "What it is, at length."),
        BASE.replace('    """A class."""\n\n', ""),
        BASE.replace('        """A method."""\n', ""),
        BASE.replace("RATE = 0.5", "# why a half\nRATE = 0.5  # of all"),
        BASE.replace("x * RATE", "(\n            x\n            * RATE\n        )"),
        BASE.replace("\n\n\n", "\n"),
    ],
)
def test_words_and_layout_keep_the_digest(edited):
    assert edited != BASE
    assert syntax_digest(edited) == syntax_digest(BASE)


@pytest.mark.parametrize(
    "edited",
    [
        BASE.replace("0.5", "0.25"),
        BASE.replace("x * RATE", "x / RATE"),
        BASE.replace("twice=False", "twice=True"),
        BASE.replace("def by", "def times"),
        BASE.replace("RATE = 0.5", 'RATE = 0.5\n"no docstring"'),
    ],
)
def test_what_runs_changes_the_digest(edited):
    assert edited != BASE
    assert syntax_digest(edited) != syntax_digest(BASE)


def test_a_body_of_a_docstring_alone_is_an_empty_body():
    assert syntax_digest('async def f():\n    """Doc."""\n') == syntax_digest(
        "async def f():\n    pass\n"
    )


def test_modules_are_found_by_name_in_any_order(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in (("digested_one", "A = 1\n"), ("digested_two", "A = 2\n")):
        (tmp_path / f"{name}.py").write_text(text)
    digest = code_digest(["digested_one", "digested_two"])
    assert len(digest) == 16 and int(digest, 16) >= 0
    assert digest == code_digest(["digested_two", "digested_one"])
    assert digest != code_digest(["digested_one"])
    assert not {"digested_one", "digested_two"} & set(sys.modules)
    _module_digest.cache_clear()
    (tmp_path / "digested_two.py").write_text("A = 2  # two\n")
    assert digest == code_digest(["digested_one", "digested_two"])
    _module_digest.cache_clear()
    (tmp_path / "digested_two.py").write_text("A = 3\n")
    assert digest != code_digest(["digested_one", "digested_two"])
    with pytest.raises(ModuleNotFoundError, match="digested_three"):
        code_digest(["digested_three"])
