"""The table of docs/fidelity.md: what counts as an error, what is written and when."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fidelity_table import (
    BEGIN,
    END,
    Comparison,
    relative_error,
    summary_rows,
    table_rows,
    with_table,
)

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "fidelity.md"
FOLDERS = {
    "adapter",
    "clip_finetune_loss",
    "clip_text",
    "clip_visual_mask_prompt",
    "ensemble_and_inference",
    "evaluation",
    "input_pipeline",
    "losses",
    "open_vocab_maskformer",
}


def test_errors_are_parts_of_the_largest_recorded_value():
    assert relative_error(torch.tensor([1.0, -4.1]), torch.tensor([1.0, -4.0])) == pytest.approx(
        0.025, rel=1e-5
    )
    assert relative_error([0.0], [0.0]) == 0 and relative_error(1e-3, 0.0) > 1e6
    assert relative_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    nan, inf = float("nan"), float("inf")
    assert relative_error([nan, inf, 1.0], [nan, inf, 1.0]) == 0
    for ours in ([nan, 1.0], [1.0, inf]):
        assert relative_error(ours, [1.0, 1.0]) == inf
    with pytest.raises(AssertionError, match="shape"):
        relative_error(torch.zeros(2, 1), torch.zeros(2))


def test_integers_masks_and_texts_are_equal_or_not():
    assert relative_error([1, 2, 3, 4], [1, 2, 3, 5]) == 0.25
    assert (
        relative_error(torch.tensor([True, False]), torch.tensor([1, 1], dtype=torch.uint8)) == 0.5
    )
    assert relative_error(["a", "b"], ["a", "b"]) == 0


def comparison(case: str, error: float) -> Comparison:
    return Comparison(case=case, what="x", error=error, tolerance=1e-5, test="a.py::b")


def test_the_worst_of_a_name_is_written():
    rows = table_rows([comparison("b/2", 3e-7), comparison("a/1", 0.0), comparison("b/2", 4e-6)])
    assert rows == [
        "| a/1 | x | 0 | 1e-5 | `a.py::b` |",
        "| b/2 | x | 4e-6 | 1e-5 | `a.py::b` |",
    ]
    summary = summary_rows(
        [comparison("a/1", 0.0), comparison("a/2", 2e-6), comparison("b/2", 0.0)]
    )
    assert summary == ["| a | 2 | 0 | 2e-6 | 2: x |", "| b | 1 | 0 | 0 |  |"]
    text = with_table(f"above\n{BEGIN}\nold\n{END}\nbelow\n", [comparison("a/1", 0.0)])
    assert text.startswith(f"above\n{BEGIN}\n") and text.endswith(f"{END}\nbelow\n")
    assert "| a/1 | x |" in text and "old" not in text
    assert with_table(text, [comparison("a/1", 0.0)]) == text
    with pytest.raises(ValueError, match="needs the lines"):
        with_table("nothing", [])


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project of two golden tests and one other, with an empty page."""
    pytester.makeini("[pytest]\ntestpaths = .\nmarkers = golden: compares\n")
    pytester.makeconftest('pytest_plugins = ("fidelity_table",)')
    pytester.makepyfile(
        test_them="""
        import os, pytest
        def test_right(agrees):
            agrees("folder/case", "numbers", 1.0, 1.0 + 1e-9, tolerance=1e-6)
        def test_perhaps(agrees):
            if "SKIP" in os.environ:
                pytest.skip("nothing to compare with")
            ours = 2.0 if "WRONG" in os.environ else 1.0
            agrees("folder/case", "other", ours, 1.0, tolerance=0.1)
        def test_other(tmp_path):
            assert tmp_path.is_dir()
        """
    )
    (pytester.path / "page.md").write_text(f"{BEGIN}\n{END}\n")
    return pytester


def run(project: pytest.Pytester, *options: str) -> tuple[str, str]:
    done = project.runpytest_inprocess("--fidelity", "page.md", "-p", "no:cacheprovider", *options)
    return done.stdout.str(), (project.path / "page.md").read_text()


def test_a_whole_run_writes(project: pytest.Pytester):
    said, page = run(project, "-m", "golden")
    assert "page.md: 2 comparisons" in said and "1 deselected" in said
    assert "| folder/case | numbers | 1e-9 | 1e-6 | `test_them.py::test_right` |" in page


@pytest.mark.parametrize(
    ("options", "variable", "reason"),
    [
        ((), "SKIP", "1 golden tests did not pass, the first: test_them.py::test_perhaps skipped"),
        ((), "WRONG", "1 golden tests did not pass, the first: test_them.py::test_perhaps failed"),
        (("-k", "right"), "", "this run chose some of the tests"),
        (("test_them.py",), "", "this run chose some of the tests"),
    ],
)
def test_part_of_a_run_says_why_it_writes_nothing(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options, variable, reason
):
    if variable:
        monkeypatch.setenv(variable, "1")
    said, page = run(project, "-m", "golden", *options)
    assert page == f"{BEGIN}\n{END}\n"
    assert f"page.md stays as it is: {reason}" in said


def test_the_page_has_every_folder_and_names_tests_that_exist():
    rows = re.findall(r"^\| (\w+)/[^|]* \|.*\| `([^`]+)` \|$", PAGE.read_text(), re.MULTILINE)
    assert {folder for folder, _ in rows} == FOLDERS
    for test in {test for _, test in rows}:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), test
