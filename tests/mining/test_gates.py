"""Gates: who fails, for which reason, and that every reason is explained."""

import ast
import math
import re
from pathlib import Path

import numpy as np
import pytest

import ovseg
from ovseg.data import masks
from ovseg.mining import gates
from ovseg.mining.proposals.source import EncodedProposals


def test_below_a_minimum():
    values = [0.1, 0.3, math.nan, 0.5]
    assert gates.below(values, None, "low_score") == [None] * 4
    assert gates.below(values, 0.3, "low_score") == ["low_score", None, "low_score", None]
    passing = gates.below(values, 0.3, "low_margin", missing_passes=True)
    assert passing == ["low_margin", None, None, None]
    assert gates.below([], 0.3, "low_score") == []


def test_below_compares_what_the_table_holds():
    """0.3 as float32 lies above 0.3, 0.7 below: SQL over the table must come to the same rows."""
    minimum = float(np.float32(0.7))
    assert gates.below([0.7], minimum, "low_score") == [None]
    assert gates.below([0.7], 0.7, "low_score") == ["low_score"]
    assert gates.below([0.3], 0.3, "low_score") == [None]


def test_empty_masks_and_mutual_best():
    assert gates.empty_mask([0, 1, 7]) == ["empty_mask", None, None]
    assert gates.mutual_best([True, False], required=False) == [None, None]
    assert gates.mutual_best([True, False], required=True) == [None, "not_mutual_best"]


def test_the_first_reason_stands():
    assert gates.first([None, "a", None], [None, "b", "b"]) == [None, "a", "b"]
    with pytest.raises(ValueError, match="argument 2 is longer"):
        gates.first([None], [None, None])


def test_overlap_looks_at_candidates_only():
    same = masks.encode(np.ones((3, 4, 4), dtype=bool))
    scores = [0.2, 0.9, 0.5]
    candidates = [True, False, True]
    found = gates.overlap(same, (4, 4), scores, 0.5, candidates=candidates)
    assert found == ["overlap", None, None], "the best is no candidate and drops nobody"
    assert gates.overlap(same, (4, 4), scores, None, candidates=candidates) == [None] * 3
    assert gates.overlap(same, (4, 4), scores, 0.5, candidates=[False] * 3) == [None] * 3


def test_every_reason_in_the_code_is_explained():
    """Whatever looks like a reason in the modules that give some is a key of REASONS."""
    package = Path(ovseg.__file__).parent
    given = set()
    named = ("proposals/stage", "proposals/ground_truth", "pairs/stage", "gates")
    mining = (f"mining/{name}" for name in named)
    for name in (f"{module}.py" for module in ("data/listing", *mining)):
        for node in ast.walk(ast.parse((package / name).read_text())):
            calls = ("_fail", "below", "_no_proposal", "_unpaired")
            if isinstance(node, ast.Call):
                called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if called in (*calls, "ImageError", "EncodedProposals"):
                    named = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
                    texts = [a.value for a in [*node.args, *named] if isinstance(a, ast.Constant)]
                    given |= {text for text in texts if isinstance(text, str)}
    given.add(EncodedProposals((), ()).reason)
    assert {"low_margin", "small_area", "no_query", "not_mutual_best", "image_dropped"} <= given
    assert {"no_labels", "all_ignored"} <= given
    assert given <= set(gates.REASONS)
    assert all(re.fullmatch(r"[a-z_]+", reason) for reason in gates.REASONS)
    assert all(meaning.strip() for meaning in gates.REASONS.values())
