"""The code digest: another constant is other code, another comment is not."""

import ast
import importlib
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import NounsConfig, ProposalsConfig
from ovseg.config.registry import FORMATS, PROPOSERS
from ovseg.config.scoring import BenchmarkConfig, MemoryConfig
from ovseg.config.training import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.files.digests import (
    _plain,
    closure,
    code_digest,
    is_infrastructure,
    module_digest,
    syntax_digest,
)
from ovseg.mining.proposals.stage import PROPOSALS
from ovseg.stages.stage import Stage

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
    module_digest.cache_clear()
    (tmp_path / "digested_two.py").write_text("A = 2  # two\n")
    assert digest == code_digest(["digested_one", "digested_two"])
    module_digest.cache_clear()
    (tmp_path / "digested_two.py").write_text("A = 3\n")
    assert digest != code_digest(["digested_one", "digested_two"])
    with pytest.raises(OvsegError, match="digested_three: the source"):
        code_digest(["digested_three"])


def test_what_newer_versions_of_python_add_to_a_tree_is_left_out():
    tree = ast.parse(BASE)
    plain = _plain(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            node._fields = (*type(node)._fields, "type_params", "default_value")
            node.type_params, node.default_value = [], None  # type: ignore[attr-defined]
    assert _plain(tree) == plain
    assert syntax_digest(BASE).startswith("170a22ed42936ac4"), "the same in every version"


Write = Callable[[dict[str, str]], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes modules of a package `house`, by their path in it."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "house"]:
        monkeypatch.delitem(sys.modules, name)

    def modules(texts: dict[str, str]) -> None:
        for name, text in texts.items():
            path = tmp_path / "house" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in (tmp_path / "house", path.parent):
                (folder / "__init__.py").touch()
            path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()

    return modules


def test_imports_are_followed_wherever_they_stand(write: Write):
    write(
        {
            "roof.py": """
                from __future__ import annotations
                import json
                import house.walls as w
                from typing import TYPE_CHECKING
                if TYPE_CHECKING:
                    from house.drawn import Drawing
                else:
                    from house.real import Drawing
                def build(kind: str) -> None:
                    from house.cellar import depth
                    try:
                        from .attic.beams import beam
                    except ImportError:
                        from . import ladder
                    from house import attic, DOORS
                """,
            "walls.py": "from house import roof\n",  # in a circle
            "cellar.py": "from ovseg.data import masks\nfrom ovseg.errors import OvsegError\n",
            "attic/beams.py": "from .. import nails\nfrom ..attic import dust\n",
            "attic/dust.py": "",
            **dict.fromkeys(("drawn.py", "real.py", "ladder.py", "nails.py", "unused.py"), ""),
        }
    )
    found = closure(["house.roof"])
    assert {name for name in found if name.startswith("house")} == {
        *("house.roof", "house.walls", "house.real", "house.cellar", "house.ladder"),
        *("house.attic.beams", "house.attic.dust", "house.nails"),
    }
    assert {name for name in found if name.startswith("ovseg")} == closure(["ovseg.data.masks"])
    assert not any(is_infrastructure(name) for name in found)


PROPOSAL_SOURCES = {
    "maskformer": "ovseg.models.maskformer.load",
    "sam": "ovseg.models.proposals.sam",
    "slic": "ovseg.models.proposals.superpixels",
    "maskcut": "ovseg.models.proposals.maskcut",
    "clusters": "ovseg.models.proposals.clusters",
    "ground_truth": "ovseg.mining.proposals.ground_truth",
}


@pytest.mark.parametrize(("source", "module"), PROPOSAL_SOURCES.items())
def test_a_stage_is_made_of_what_its_settings_name(source: str, module: str):
    config = ProposalsConfig(source=source)
    named = closure({type(PROPOSALS).__module__, *config.modules_named()})
    assert named & {*PROPOSAL_SOURCES.values()} == {module}


def test_one_more_proposer_mines_nothing_again(write: Write, monkeypatch: pytest.MonkeyPatch):
    before = PROPOSALS.code_digest(ProposalsConfig())
    write({"proposer.py": "def load(weights, device): return None\n"})
    monkeypatch.setitem(PROPOSERS, "other", "house.proposer:load")
    assert PROPOSALS.code_digest(ProposalsConfig()) == before
    other = ProposalsConfig(source="other")
    assert "house.proposer" in other.modules_named()
    digest = PROPOSALS.code_digest(other)
    assert digest != before
    write({"proposer.py": "def load(weights, device): return 1\n"})
    module_digest.cache_clear()
    assert PROPOSALS.code_digest(other) != digest


def test_a_name_that_is_only_known_later_may_be_any():
    formats = {FORMATS.module(name) for name in FORMATS}
    assert ImagesConfig().modules_named() == formats
    assert ImagesConfig(captions_format="coco").modules_named() == {"ovseg.data.captions.coco"}


def test_names_in_nested_settings_count():
    benchmark = BenchmarkConfig(proposals="sam", embedder="mask_tokens")
    assert "ovseg.models.proposals.sam" in benchmark.modules_named()
    memory = MemoryConfig.of(benchmark, None)
    assert memory.modules_named() == {"ovseg.models.regions.embedders"}
    assert FinetuneConfig().modules_named() == {"ovseg.training.clip.methods"}
    assert NounsConfig().modules_named() == set()


def test_code_that_is_in_no_file_has_no_digest():
    made = type("Made", (Stage,), {"__module__": "typed_in", "name": "made"})
    with pytest.raises(OvsegError, match=r"typed_in: .* put the stage in a module of its own"):
        made().code_digest(NounsConfig())
