"""Seeds are compared by one system, which each of them scored."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ovseg.comparison import seed_runs


def scores(system: str) -> SimpleNamespace:
    manifest = SimpleNamespace(stats={"benchmark_digest": system}, digest=system)
    labels = {"benchmark": "storybook", "arm": "original", "system": system}
    return SimpleNamespace(labels=labels, manifest=manifest)


@pytest.mark.parametrize(
    ("first", "second", "compared"),
    [
        (["ovseg", "zsseg"], ["ovseg", "zsseg"], "ovseg"),
        (["ovseg", "zsseg"], ["zsseg"], "zsseg"),
        (["maskclip", "zsseg"], ["zsseg", "maskclip"], "maskclip"),
    ],
)
def test_the_compared_system_is_one_that_every_seed_scored(monkeypatch, first, second, compared):
    results = {Path("a"): first, Path("b"): second}

    def current(root, stage):
        return [] if stage in ("curves", "checkpoints") else [scores(s) for s in results[root]]

    monkeypatch.setattr(seed_runs, "current", current)
    inputs = seed_runs.study_inputs({0: Path("a"), 1: Path("b")}, "storybook")
    assert {run.digest for run in inputs.values()} == {compared}
    assert set(inputs) == {"0/original", "1/original"}
